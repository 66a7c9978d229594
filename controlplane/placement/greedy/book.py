"""The book that is kept while a plan is being made: what room and money is promised to whom."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.placement.greedy.candidates import Market
from controlplane.placement.greedy.ladder import Choice, Question, budget_micro_usd_per_h
from controlplane.placement.greedy.refusals import refusal_of, relaxed_of
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.needs import TOLERANCE, Index, index_of
from controlplane.placement.rules.occupancy import beyond_successors
from controlplane.placement.supply import CurrentAssignment, Occupancy
from controlplane.placement.wishes import WantedDeployment


@dataclass(slots=True)
class Book:
    """The plan while it is being made.

    lacking:   what was chosen for those who do not get all that they wish
    given_way: ids of those whose spares went to what others need
    """

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
    given_way: set[str] = field(default_factory=set)
    prices: dict[tuple[str, int], int] = field(default_factory=dict)

    def price(self, pool_id: str, gpus_per_replica: int) -> int:
        """What one replica counts against a budget, in micro-USD/h."""
        key = (pool_id, gpus_per_replica)
        if key not in self.prices:
            pool = self.problem.pool_by_id[pool_id]
            self.prices[key] = budget_micro_usd_per_h(self.problem, pool, gpus_per_replica)
        return self.prices[key]


def book_of(problem: PlacementProblem, gpu_micro_usd_per_h_by_pool: Mapping[str, int]) -> Book:
    book = Book(
        problem,
        Market(index_of(problem), gpu_micro_usd_per_h_by_pool),
        Ledger(problem.pools),
        {row.project_id: row.micro_usd_per_h for row in problem.budgets},
    )
    for row in problem.occupancies:
        book.ledger.add(row.pool_id, row.gpus_per_replica, row.replicas)
        book.occupancies.setdefault(row.deployment_id, []).append(row)
    return book


def turn(index: Index, deployment: WantedDeployment) -> tuple[bool, int, float, str]:
    """Who is placed first: who keeps room, by priority, then age."""
    promises_room = deployment.min_replicas > 0 or index.needs(deployment).served > 0
    return (not promises_room, -deployment.priority, deployment.created_at_s, deployment.deployment_id)


def plan_of(book: Book, deployments: Iterable[WantedDeployment]) -> PlacementPlan:
    entries = tuple(book.entries[deployment.deployment_id] for deployment in deployments)
    return PlacementPlan(deployments=entries, micro_usd_per_h=0, marginal_micro_usd_per_h=0)


def reserve_all(book: Book) -> None:
    """Keep the room of what runs, as far as it is lawful and paid for and its pool still has it.

    In turn only where not all that is held and on its way out fits, or a budget does not pay for all that is held.
    """
    cramped = _Cramped(book)
    in_turn = []
    rows_taken = Counter[tuple[str, int]]()
    for deployment in book.problem.deployments:
        rows = book.problem.current_of(deployment.deployment_id)
        if cramped.concerns(deployment, rows):
            in_turn.append(deployment)
            continue
        book.kept[deployment.deployment_id] = list(rows)
        for row in rows:
            rows_taken[row.pool_id, row.gpus_per_replica] += row.room_replicas
        if deployment.project_id in book.budgets:
            spent = sum(row.room_replicas * book.price(row.pool_id, row.gpus_per_replica) for row in rows)
            book.spent[deployment.project_id] = book.spent.get(deployment.project_id, 0) + spent
    for (pool_id, gpus), replicas in rows_taken.items():
        book.ledger.add(pool_id, gpus, replicas)
    for deployment in sorted(in_turn, key=lambda deployment: turn(book.market.index, deployment)):
        _reserve(book, deployment)


class _Cramped:
    """Pools that have no room for all that is held there, and projects whose budgets do not pay for it."""

    def __init__(self, book: Book) -> None:
        self._book = book
        problem = book.problem
        taken = Counter[tuple[str, int]]()
        spent = Counter[str]()
        for row in problem.current:
            deployment = problem.deployment_by_id.get(row.deployment_id)
            if deployment is not None:
                taken[row.pool_id, row.gpus_per_replica] += row.room_replicas
                if deployment.project_id in book.budgets:
                    price = book.price(row.pool_id, row.gpus_per_replica)
                    spent[deployment.project_id] += row.room_replicas * price
        for gone in problem.occupancies:
            taken[gone.pool_id, gone.gpus_per_replica] += gone.replicas
        ledger = Ledger(problem.pools)
        for (pool_id, gpus), replicas in taken.items():
            ledger.add(pool_id, gpus, replicas)
        self._pools = {
            pool.pool_id
            for pool in problem.pools
            if pool.capacity_instances == 0 or not ledger.holds(pool.pool_id)
        }
        self._projects = {name for name, price in spent.items() if price > book.budgets[name]}

    def concerns(self, deployment: WantedDeployment, rows: Collection[CurrentAssignment]) -> bool:
        """Whether it is to be looked at what of these a deployment may keep."""
        if deployment.deployment_id in self._book.occupancies or deployment.project_id in self._projects:
            return True
        lawful, pools = self._book.market.index.lawful_clusters(deployment), self._book.problem.pool_by_id
        replicas = 0
        for row in rows:
            if row.pool_id in self._pools or pools[row.pool_id].cluster_id not in lawful:
                return True
            replicas += row.room_replicas or 1
        return replicas > deployment.max_replicas


def _reserve(book: Book, deployment: WantedDeployment) -> None:
    rows = book.problem.current_of(deployment.deployment_id)
    lawful = book.market.index.lawful_clusters(deployment)
    own_occupancies(book, deployment, -1, ())
    kept = []
    left = deployment.max_replicas
    for row in sorted(rows, key=lambda row: row.assignment_id):
        pool = book.problem.pool_by_id[row.pool_id]
        if left < 1 or pool.capacity_instances == 0 or pool.cluster_id not in lawful:
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
        take(book, deployment, [held], 1)
        kept.append(held)
    book.kept[deployment.deployment_id] = kept
    own_occupancies(book, deployment, 1, kept)


def _replicas_paid_for(book: Book, deployment: WantedDeployment, row: CurrentAssignment) -> int:
    money_left = _money_left(book, deployment)
    price = book.price(row.pool_id, row.gpus_per_replica)
    if money_left is None or price == 0:
        return row.room_replicas
    return max(0, money_left) // price


def _money_left(book: Book, deployment: WantedDeployment) -> int | None:
    budget = book.budgets.get(deployment.project_id)
    return None if budget is None else budget - book.spent.get(deployment.project_id, 0)


def take(
    book: Book, deployment: WantedDeployment, rows: Iterable[CurrentAssignment | Allocation], sign: int
) -> None:
    """Take the room of rows, and the money for it, or give them back."""
    for row in rows:
        book.ledger.add(row.pool_id, row.gpus_per_replica, sign * row.room_replicas)
        if deployment.project_id in book.budgets:
            price = book.price(row.pool_id, row.gpus_per_replica)
            book.spent[deployment.project_id] = (
                book.spent.get(deployment.project_id, 0) + sign * row.room_replicas * price
            )


def ready(book: Book, deployment: WantedDeployment) -> Mapping[str, int]:
    ready: dict[str, int] = {}
    for row in book.kept[deployment.deployment_id]:
        ready[row.pool_id] = ready.get(row.pool_id, 0) + row.min_replicas
    return ready


def enter(book: Book, deployment: WantedDeployment, entry: DeploymentPlan) -> None:
    book.entries[deployment.deployment_id] = entry
    take(book, deployment, entry.allocations, 1)
    own_occupancies(book, deployment, 1, entry.allocations)


def lacks(book: Book, deployment: WantedDeployment, choice: Choice) -> bool:
    return (
        choice.rung.level != deployment.survivability
        or not choice.rung.near
        or not choice.whole
        or 0 < book.market.index.needs(deployment).served < 1 - TOLERANCE
    )


def say_why_not(book: Book, deployment: WantedDeployment) -> None:
    """Only now is it known how much room all others leave, so that the remedy's numbers hold."""
    entry = book.entries[deployment.deployment_id]
    choice = book.lacking[deployment.deployment_id]
    own_occupancies(book, deployment, -1, entry.allocations)
    take(book, deployment, entry.allocations, -1)
    if choice is None:
        question = question_of(book, deployment, book.kept[deployment.deployment_id])
        entry = replace(entry, refusal=refusal_of(question))
    else:
        question = question_of(book, deployment, entry.allocations)
        entry = replace(
            entry, relaxed=relaxed_of(question, choice, given_way=deployment.deployment_id in book.given_way)
        )
    take(book, deployment, entry.allocations, 1)
    own_occupancies(book, deployment, 1, entry.allocations)
    book.entries[deployment.deployment_id] = entry


def question_of(
    book: Book, deployment: WantedDeployment, holds: Collection[CurrentAssignment | Allocation]
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


def own_occupancies(
    book: Book,
    deployment: WantedDeployment,
    sign: int,
    successors: Iterable[CurrentAssignment | Allocation],
) -> None:
    """Put what a deployment is leaving into the ledger, or take it out, beyond what its successors take over."""
    own = book.occupancies.get(deployment.deployment_id, ())
    for pool_id, gpus_per_replica, replicas in beyond_successors(own, successors):
        book.ledger.add(pool_id, gpus_per_replica, sign * replicas)


def raise_ceilings(book: Book, deployment: WantedDeployment) -> None:
    """Share what the maximum allows beyond the rooms evenly, as far as each pool could carry it.

    A standby keeps its bounds: it is made for what serves now.
    """
    entry = book.entries[deployment.deployment_id]
    rows = entry.allocations
    ceilings = [row.max_replicas for row in rows]
    spare = deployment.max_replicas - sum(ceilings)
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
            ceilings[index] += more
            room[index] -= more
            spare -= more
            if room[index] == 0 or spare == 0:
                open_rows.remove(index)
    raised = [
        row if row.max_replicas == most else replace(row, max_replicas=most)
        for row, most in zip(rows, ceilings, strict=True)
    ]
    book.entries[deployment.deployment_id] = replace(entry, allocations=tuple(raised))
