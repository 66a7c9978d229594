"""Greedy and stable: what runs stays, what is new goes where it costs least, one deployment after the other.

1. Every deployment's present room is reserved where it lawfully is, so that nobody is displaced by a newcomer.
   Priority decides between those who wait, not over those who run.
2. In order of priority, then age, each gives its reservation back, is placed anew with what it holds preferred over
   any price, and takes its room; what does not fit gives wishes up in the order of ``ladder``. Who fits nowhere keeps
   what it held and gets a Refusal. Deployments that only name a place to start in come last.
3. For each that lacks something, those who came newly where it could be are placed after it instead, one by one, until
   it lacks less and they lack nothing more.
4. When all rooms stand, each allocation's ceiling is what it could reach beside them, up to the owner's maximum, and
   it is said why wishes were given up: only then do a remedy's numbers hold.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.placement.candidates import Market
from controlplane.placement.capacity import Ledger
from controlplane.placement.cost import priced
from controlplane.placement.entries import entry_of, kept_entry
from controlplane.placement.filters import lawful
from controlplane.placement.ladder import Choice, Question, budget_micro_usd_per_h, choose
from controlplane.placement.needs import LEVELS, TOLERANCE, Index, missing_replicas
from controlplane.placement.occupancy import beyond_successors
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import CurrentAssignment, Occupancy, PlacementProblem, WantedDeployment
from controlplane.placement.refusals import refusal_of, relaxed_of

#: So many times in all, and so many for one deployment, it is tried to make way for those who lack something.
MOST_TRIALS = 100
MOST_TRIALS_EACH = 10

_NOTHING = (0, False, 0)


@dataclass(slots=True)
class _Book:
    """The plan while it is being made. ``lacking``: what was chosen for those who do not get all that they wish."""

    problem: PlacementProblem
    market: Market
    ledger: Ledger
    budgets: Mapping[str, int]
    moves: float | None = None
    occupancies: dict[str, list[Occupancy]] = field(default_factory=dict)
    kept: dict[str, list[CurrentAssignment]] = field(default_factory=dict)
    lacking: dict[str, Choice | None] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    entries: dict[str, DeploymentPlan] = field(default_factory=dict)


def solve(problem: PlacementProblem) -> PlacementPlan:
    """A plan for every deployment of the problem. Deterministic: equal problems give equal plans."""
    book = _book(problem, {})
    in_order = sorted(problem.deployments, key=lambda deployment: _turn(book, deployment))
    for deployment in in_order:
        _reserve_present(book, deployment)
    _place_all(book, in_order)
    return priced(problem, _plan(book, problem.deployments), index=book.market.index)


def resolve(problem: PlacementProblem, in_force: PlacementPlan, touched: Collection[str]) -> PlacementPlan:
    """The plan in force, with the deployments ``touched`` (ids) placed anew in the room that the others leave.

    At the scarcity prices of the last full solve, which ``in_force`` carries. Whoever is new or changed, or no longer
    lawfully has what is in force, counts as touched. What is touched moves where it must, or where that alone saves
    ``hysteresis`` times what its moves cost.
    """
    book = _book(problem, in_force.gpu_micro_usd_per_h_by_pool)
    book.moves = problem.weights.hysteresis
    in_order = sorted(problem.deployments, key=lambda deployment: _turn(book, deployment))
    for deployment in in_order:
        _reserve_present(book, deployment)
    anew = []
    for deployment in in_order:
        entry = _standing_entry(book, deployment, in_force)
        if entry is None or deployment.deployment_id in touched:
            anew.append(deployment)
        else:
            book.entries[deployment.deployment_id] = entry
    _place_all(book, anew)
    plan = replace(
        _plan(book, problem.deployments), gpu_micro_usd_per_h_by_pool=in_force.gpu_micro_usd_per_h_by_pool
    )
    return priced(problem, plan, index=book.market.index)


def _standing_entry(
    book: _Book, deployment: WantedDeployment, in_force: PlacementPlan
) -> DeploymentPlan | None:
    """The entry in force, where it still is what runs and all of that may stay; else None."""
    entry = in_force.by_deployment.get(deployment.deployment_id)
    rows = book.problem.current_of(deployment.deployment_id)
    if entry is None or entry.generation != deployment.generation:
        return None
    if {_place_of(row) for row in book.kept[deployment.deployment_id]} != {_place_of(row) for row in rows}:
        return None
    if {_place_of(row) for row in entry.allocations} != {_place_of(row) for row in rows}:
        return None
    return entry


def _place_of(row: CurrentAssignment | Allocation) -> tuple[str, str, int, int, int, bool]:
    return (
        *(row.pool_id, row.revision_id, row.min_replicas, row.planned_replicas),
        *(row.gpus_per_replica, row.standby),
    )


def _book(problem: PlacementProblem, gpu_micro_usd_per_h_by_pool: Mapping[str, int]) -> _Book:
    book = _Book(
        problem,
        Market(Index(problem), gpu_micro_usd_per_h_by_pool),
        Ledger(problem.pools),
        {row.project_id: row.micro_usd_per_h for row in problem.budgets},
    )
    for row in problem.occupancies:
        book.ledger.add(row.pool_id, row.gpus_per_replica, row.replicas)
        book.occupancies.setdefault(row.deployment_id, []).append(row)
    return book


def _turn(book: _Book, deployment: WantedDeployment) -> tuple[bool, int, float, str]:
    promises_room = deployment.min_replicas > 0 or book.market.index.needs(deployment).served > 0
    return (not promises_room, -deployment.priority, deployment.created_at_s, deployment.deployment_id)


def _place_all(book: _Book, in_order: Collection[WantedDeployment]) -> None:
    for deployment in in_order:
        _place(book, deployment)
    _make_way(book, in_order)
    for deployment in in_order:
        if deployment.deployment_id in book.lacking:
            _say_why_not(book, deployment)
        _raise_ceilings(book, deployment)


def _plan(book: _Book, deployments: Iterable[WantedDeployment]) -> PlacementPlan:
    entries = tuple(book.entries[deployment.deployment_id] for deployment in deployments)
    return PlacementPlan(deployments=entries, micro_usd_per_h=0, marginal_micro_usd_per_h=0)


def _reserve_present(book: _Book, deployment: WantedDeployment) -> None:
    """Keep the room of what runs, as far as it is lawful and paid for and its pool still has it."""
    rows = book.problem.current_of(deployment.deployment_id)
    if not rows:
        book.kept[deployment.deployment_id] = []
        return
    _own_occupancies(book, deployment, -1, ())
    kept = []
    left = deployment.max_replicas
    for row in sorted(rows, key=lambda row: row.assignment_id):
        pool = book.problem.pool_by_id[row.pool_id]
        if (
            left < 1
            or pool.capacity_instances == 0
            or lawful(deployment, pool, book.problem.cluster_by_id[pool.cluster_id])
        ):
            continue
        replicas = min(
            row.room_replicas,
            left,
            book.ledger.headroom(row.pool_id, row.gpus_per_replica),
            _replicas_paid_for(book, deployment, row),
        )
        if replicas < min(1, row.room_replicas):
            continue
        left -= max(1, replicas)
        held = row
        if replicas < row.room_replicas:
            held = replace(
                row,
                min_replicas=min(row.min_replicas, replicas),
                planned_replicas=min(row.planned_replicas, replicas),
            )
        _take(book, deployment, [held], 1)
        kept.append(held)
    book.kept[deployment.deployment_id] = kept
    _own_occupancies(book, deployment, 1, kept)


def _replicas_paid_for(book: _Book, deployment: WantedDeployment, row: CurrentAssignment) -> int:
    money_left = _money_left(book, deployment)
    price = budget_micro_usd_per_h(book.problem, book.problem.pool_by_id[row.pool_id], row.gpus_per_replica)
    if money_left is None or price == 0:
        return row.room_replicas
    return max(0, money_left) // price


def _money_left(book: _Book, deployment: WantedDeployment) -> int | None:
    budget = book.budgets.get(deployment.project_id)
    return None if budget is None else budget - book.spent.get(deployment.project_id, 0)


def _take(
    book: _Book, deployment: WantedDeployment, rows: Iterable[CurrentAssignment | Allocation], sign: int
) -> None:
    """Take the room of rows, and the money for it, or give them back."""
    for row in rows:
        book.ledger.add(row.pool_id, row.gpus_per_replica, sign * row.room_replicas)
        if deployment.project_id in book.budgets:
            pool = book.problem.pool_by_id[row.pool_id]
            price = budget_micro_usd_per_h(book.problem, pool, row.gpus_per_replica)
            book.spent[deployment.project_id] = (
                book.spent.get(deployment.project_id, 0) + sign * row.room_replicas * price
            )


def _place(book: _Book, deployment: WantedDeployment) -> None:
    kept = book.kept[deployment.deployment_id]
    _own_occupancies(book, deployment, -1, kept)
    _take(book, deployment, kept, -1)
    question = _question(book, deployment, kept)
    slots = question.slots()
    choice = choose(question, slots)
    if choice is None:
        entry = kept_entry(book.market.index, deployment, kept)
    else:
        ready: dict[str, int] = {}
        for row in kept:
            ready[row.pool_id] = ready.get(row.pool_id, 0) + row.min_replicas
        entry = entry_of(question, choice, slots, ready)
    if choice is None or _lacks(book, deployment, choice):
        book.lacking[deployment.deployment_id] = choice
    book.entries[deployment.deployment_id] = entry
    _take(book, deployment, entry.allocations, 1)
    _own_occupancies(book, deployment, 1, entry.allocations)


def _lacks(book: _Book, deployment: WantedDeployment, choice: Choice) -> bool:
    return (
        choice.rung.level != deployment.survivability
        or not choice.rung.near
        or not choice.whole
        or 0 < book.market.index.needs(deployment).served < 1 - TOLERANCE
    )


def _make_way(book: _Book, in_order: Collection[WantedDeployment]) -> None:
    lacking = [deployment for deployment in in_order if deployment.deployment_id in book.lacking]
    trials = MOST_TRIALS if lacking else 0
    for deployment in lacking:
        for other in _in_its_way(book, deployment, in_order)[:MOST_TRIALS_EACH]:
            if trials == 0 or _lack(book, deployment) == _NOTHING:
                break
            trials -= 1
            _change_turns(book, deployment, other)


def _in_its_way(
    book: _Book, deployment: WantedDeployment, in_order: Iterable[WantedDeployment]
) -> list[WantedDeployment]:
    """Who was newly placed in pools that it could use, those with most GPUs there first."""
    usable = {pool.pool_id for pool in book.market.index.usable(deployment)}
    found = []
    for turn, other in enumerate(in_order):
        held = {row.pool_id for row in book.kept[other.deployment_id]}
        new_gpus = sum(
            row.room_replicas * row.gpus_per_replica
            for row in book.entries[other.deployment_id].allocations
            if row.pool_id in usable and row.pool_id not in held
        )
        if new_gpus and other is not deployment:
            found.append((-new_gpus, turn, other))
    return [other for _, _, other in sorted(found, key=lambda one: one[:2])]


def _change_turns(book: _Book, first: WantedDeployment, second: WantedDeployment) -> None:
    """Place ``first`` before ``second``, if it lacks less then and the other nothing more."""
    both = (first, second)
    before = {one.deployment_id: _lack(book, one) for one in both}
    entries = {one.deployment_id: book.entries[one.deployment_id] for one in both}
    choices = {name: book.lacking[name] for name in entries if name in book.lacking}
    for one in both:
        _give_back(book, one)
    for one in both:
        _place(book, one)
    after = {one.deployment_id: _lack(book, one) for one in both}
    first_id, second_id = entries
    if after[first_id] < before[first_id] and after[second_id] <= before[second_id]:
        return
    for one in both:
        _give_back(book, one)
    book.lacking |= choices
    for one in both:
        _stand(book, one, entries[one.deployment_id])


def _lack(book: _Book, deployment: WantedDeployment) -> tuple[int, bool, int]:
    """(replicas, whether latency, kinds of survivability) that a deployment lacks so far."""
    name = deployment.deployment_id
    if name not in book.lacking:
        return _NOTHING
    choice, index = book.lacking[name], book.market.index
    if choice is None:
        return (index.needs(deployment).size + 1, True, len(LEVELS))
    missing = missing_replicas(index, deployment, book.entries[name].allocations)
    given_up = LEVELS.index(deployment.survivability) - LEVELS.index(choice.rung.level)
    return (missing, not choice.rung.near, given_up)


def _give_back(book: _Book, deployment: WantedDeployment) -> None:
    """As it was before its turn: only what it held is reserved."""
    name = deployment.deployment_id
    rows = book.entries.pop(name).allocations
    book.lacking.pop(name, None)
    _own_occupancies(book, deployment, -1, rows)
    _take(book, deployment, rows, -1)
    _take(book, deployment, book.kept[name], 1)
    _own_occupancies(book, deployment, 1, book.kept[name])


def _stand(book: _Book, deployment: WantedDeployment, entry: DeploymentPlan) -> None:
    """An entry takes the place of what is reserved."""
    kept = book.kept[deployment.deployment_id]
    _own_occupancies(book, deployment, -1, kept)
    _take(book, deployment, kept, -1)
    book.entries[deployment.deployment_id] = entry
    _take(book, deployment, entry.allocations, 1)
    _own_occupancies(book, deployment, 1, entry.allocations)


def _say_why_not(book: _Book, deployment: WantedDeployment) -> None:
    """Only now is it known how much room all others leave, so that the remedy's numbers hold."""
    entry = book.entries[deployment.deployment_id]
    choice = book.lacking[deployment.deployment_id]
    _own_occupancies(book, deployment, -1, entry.allocations)
    _take(book, deployment, entry.allocations, -1)
    if choice is None:
        question = _question(book, deployment, book.kept[deployment.deployment_id])
        entry = replace(entry, refusal=refusal_of(question))
    else:
        question = _question(book, deployment, entry.allocations)
        entry = replace(entry, relaxed=relaxed_of(question, choice))
    _take(book, deployment, entry.allocations, 1)
    _own_occupancies(book, deployment, 1, entry.allocations)
    book.entries[deployment.deployment_id] = entry


def _question(
    book: _Book, deployment: WantedDeployment, holds: Collection[CurrentAssignment | Allocation]
) -> Question:
    held: dict[str, int] = {}
    for row in holds:
        held[row.pool_id] = held.get(row.pool_id, 0) + row.room_replicas
    return Question(
        market=book.market,
        deployment=deployment,
        ledger=book.ledger,
        held=held,
        standby=frozenset(row.pool_id for row in holds if row.standby),
        money_left=_money_left(book, deployment),
        moves=book.moves,
    )


def _own_occupancies(
    book: _Book,
    deployment: WantedDeployment,
    sign: int,
    successors: Iterable[CurrentAssignment | Allocation],
) -> None:
    """Put what a deployment is leaving into the ledger, or take it out, beyond what its successors take over."""
    own = book.occupancies.get(deployment.deployment_id, ())
    for pool_id, gpus_per_replica, replicas in beyond_successors(own, successors):
        book.ledger.add(pool_id, gpus_per_replica, sign * replicas)


def _raise_ceilings(book: _Book, deployment: WantedDeployment) -> None:
    """Share what the maximum allows beyond the rooms evenly, as far as each pool could carry it.

    A standby keeps its bounds: it is made for what serves now.
    """
    entry = book.entries[deployment.deployment_id]
    rows = list(entry.allocations)
    spare = deployment.max_replicas - sum(row.max_replicas for row in rows)
    if spare <= 0:
        return
    room = [
        0
        if row.standby
        else book.ledger.headroom(row.pool_id, row.gpus_per_replica) - (row.max_replicas - row.room_replicas)
        for row in rows
    ]
    open_rows = [index for index in range(len(rows)) if room[index] > 0]
    while spare > 0 and open_rows:
        share = max(1, spare // len(open_rows))
        for index in list(open_rows):
            more = min(share, room[index], spare)
            rows[index] = replace(rows[index], max_replicas=rows[index].max_replicas + more)
            room[index] -= more
            spare -= more
            if room[index] == 0 or spare == 0:
                open_rows.remove(index)
    book.entries[deployment.deployment_id] = replace(entry, allocations=tuple(rows))
