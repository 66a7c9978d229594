"""A plan written down from choices that a search made, with the reasons, ceilings and prices that any plan has."""

from collections.abc import Mapping
from dataclasses import replace

from controlplane.placement.greedy.book import (
    Book,
    book_of,
    enter,
    lacks,
    own_occupancies,
    plan_of,
    question_of,
    raise_ceilings,
    ready,
    reserve_all,
    say_why_not,
    take,
    turn,
)
from controlplane.placement.greedy.entries import entry_of
from controlplane.placement.greedy.ladder import Choice
from controlplane.placement.greedy.refusals import says_given_way
from controlplane.placement.greedy.turns import give_back, place
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import priced
from controlplane.placement.rules.needs import LEVELS, kept
from controlplane.placement.wishes import WantedDeployment


def as_chosen(problem: PlacementProblem, plan: PlacementPlan, choices: Mapping[str, Choice]) -> PlacementPlan:
    """``plan``, with other choices for some: each is written down as if it had been made beside all others.

    The rooms must fit together. Ceilings and what is said of wishes given up are made anew for all.
    """
    book = book_of(problem, {})
    in_order = sorted(problem.deployments, key=lambda deployment: turn(book.market.index, deployment))
    reserve_all(book)
    for deployment in in_order:
        held = book.kept[deployment.deployment_id]
        own_occupancies(book, deployment, -1, held)
        take(book, deployment, held, -1)
    for deployment in in_order:
        entry = plan.by_deployment[deployment.deployment_id]
        choice = choices.get(deployment.deployment_id)
        if choice is None:
            rows = tuple(replace(row, max_replicas=max(1, row.room_replicas)) for row in entry.allocations)
            entry = replace(entry, allocations=rows)
        else:
            question = question_of(book, deployment, book.kept[deployment.deployment_id])
            entry = entry_of(question, choice, (), ready(book, deployment))
        enter(book, deployment, entry)
    for deployment in in_order:
        _written(book, deployment, choices.get(deployment.deployment_id))
    book.given_way = {
        entry.deployment_id
        for entry in plan.deployments
        if says_given_way(entry.relaxed) or (entry.refusal is None and not entry.relaxed)
    }
    for deployment in in_order:
        if deployment.deployment_id in book.lacking:
            say_why_not(book, deployment)
        raise_ceilings(book, deployment)
    for deployment in in_order:
        if _starts_less_safely(book, deployment, plan.by_deployment[deployment.deployment_id]):
            give_back(book, deployment)
            place(book, deployment)
            if deployment.deployment_id in book.lacking:
                say_why_not(book, deployment)
            raise_ceilings(book, deployment)
    return priced(problem, plan_of(book, problem.deployments))


def _starts_less_safely(book: Book, deployment: WantedDeployment, before: DeploymentPlan) -> bool:
    """Others now have the room in which what sleeps was to start, so that it survives less than it did."""
    entry = book.entries[deployment.deployment_id]
    if any(row.room_replicas for row in (*entry.allocations, *before.allocations)):
        return False
    now, then = (kept(book.market.index, deployment, one.allocations) for one in (entry, before))
    return LEVELS.index(now) < LEVELS.index(then)


def _written(book: Book, deployment: WantedDeployment, choice: Choice | None) -> None:
    """An entry's reasons, now that all rooms stand; and who lacks something, for which reasons are sought later."""
    entry = book.entries[deployment.deployment_id]
    if choice is not None:
        own_occupancies(book, deployment, -1, entry.allocations)
        take(book, deployment, entry.allocations, -1)
        question = question_of(book, deployment, book.kept[deployment.deployment_id])
        enter(book, deployment, entry_of(question, choice, question.slots(), ready(book, deployment)))
        if lacks(book, deployment, choice):
            book.lacking[deployment.deployment_id] = choice
