"""One deployment's turn: it is placed in the room that the others leave, what it had is given back, what it lacks."""

from collections.abc import Collection
from dataclasses import replace

from controlplane.placement.greedy.book import (
    Book,
    enter,
    lacks,
    own_occupancies,
    question_of,
    ready,
    take,
)
from controlplane.placement.greedy.entries import entry_of, kept_entry
from controlplane.placement.greedy.ladder import choose
from controlplane.placement.plan import Allocation, DeploymentPlan
from controlplane.placement.rules.needs import LEVELS, missing_replicas
from controlplane.placement.supply import CurrentAssignment
from controlplane.placement.wishes import WantedDeployment

#: (replicas, whether latency, kinds of survivability) that a deployment lacks.
Lack = tuple[int, bool, int]
NOTHING: Lack = (0, False, 0)


def place(book: Book, deployment: WantedDeployment, *, spares: bool = True, may_move: bool = True) -> None:
    """Give back what is reserved for it, and take what the ladder gives.

    spares:   whether also for survivability, or only what it needs with nothing lost
    may_move: whether what runs may move for money, where the book allows that at all
    """
    kept = book.kept[deployment.deployment_id]
    own_occupancies(book, deployment, -1, kept)
    take(book, deployment, kept, -1)
    question = question_of(book, deployment, kept)
    if not may_move:
        question = replace(question, moves=None)
    slots = question.slots()
    choice = choose(question, slots, spares=spares)
    if choice is None:
        entry = kept_entry(book.market.index, deployment, kept)
    else:
        entry = entry_of(question, choice, slots, ready(book, deployment))
    if choice is None or lacks(book, deployment, choice):
        book.lacking[deployment.deployment_id] = choice
    enter(book, deployment, entry)


def lack(book: Book, deployment: WantedDeployment) -> Lack:
    """What a deployment lacks so far."""
    name = deployment.deployment_id
    if name not in book.lacking:
        return NOTHING
    choice, index = book.lacking[name], book.market.index
    if choice is None:
        return (index.needs(deployment).size + 1, True, len(LEVELS))
    missing = missing_replicas(index, deployment, book.entries[name].allocations)
    given_up = LEVELS.index(deployment.survivability) - LEVELS.index(choice.rung.level)
    return (missing, not choice.rung.near, given_up)


def give_back(book: Book, deployment: WantedDeployment) -> None:
    """As it was before its turn: only what it held is reserved."""
    name = deployment.deployment_id
    rows = book.entries.pop(name).allocations
    book.lacking.pop(name, None)
    exchange(book, deployment, rows, book.kept[name])


def withdraw(book: Book, deployment: WantedDeployment) -> None:
    """As if it were not there: nothing is reserved for it either."""
    name = deployment.deployment_id
    rows = book.entries.pop(name).allocations
    book.lacking.pop(name, None)
    exchange(book, deployment, rows, ())


def stand(book: Book, deployment: WantedDeployment, entry: DeploymentPlan) -> None:
    """An entry takes the place of what is reserved."""
    exchange(book, deployment, book.kept[deployment.deployment_id], entry.allocations)
    book.entries[deployment.deployment_id] = entry


def exchange(
    book: Book,
    deployment: WantedDeployment,
    given: Collection[CurrentAssignment | Allocation],
    taken: Collection[CurrentAssignment | Allocation],
) -> None:
    """Room and money of one deployment: these rows for those."""
    own_occupancies(book, deployment, -1, given)
    take(book, deployment, given, -1)
    take(book, deployment, taken, 1)
    own_occupancies(book, deployment, 1, taken)
