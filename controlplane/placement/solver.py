"""Greedy and stable: what runs stays, what is new goes where it is cheapest, one deployment after the other.

1. Every deployment's present minimum is reserved where it lawfully is, so that nobody is displaced by a newcomer.
   Priority decides between those who wait, not over those who run.
2. In order of priority, then age, each gives its reservation back, is placed anew with what it holds preferred over
   any price, and takes its room. Who fits nowhere keeps what it held and gets a Refusal. Deployments that may scale to
   zero come last: they promise no room, they need some that nobody was promised.
3. When all minima stand, each allocation's ceiling is what it could reach beside them, up to the owner's maximum.

The demand planned for is the owner's ``min_replicas`` (1 where that is 0, for a place to start in). Nothing is relaxed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.costing import PoolCost, pool_cost, usd_printed
from controlplane.placement.candidates import Candidate
from controlplane.placement.capacity import Ledger
from controlplane.placement.filters import lawful
from controlplane.placement.occupancy import beyond_successors
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan, TrafficShare
from controlplane.placement.problem import CurrentAssignment, Occupancy, PlacementProblem, WantedDeployment
from controlplane.placement.refusals import Question, refusal_of, standby_refusal
from controlplane.placement.spread import Shape, shape
from workloadplane.protocol.refusal import Refusal


@dataclass(slots=True)
class _Book:
    """The plan while it is being made."""

    problem: PlacementProblem
    ledger: Ledger
    occupancies: dict[str, list[Occupancy]] = field(default_factory=dict)
    kept: dict[str, list[CurrentAssignment]] = field(default_factory=dict)
    unfit: set[str] = field(default_factory=set)
    spent: dict[str, int] = field(default_factory=dict)
    entries: dict[str, DeploymentPlan] = field(default_factory=dict)


def solve(problem: PlacementProblem) -> PlacementPlan:
    """A plan for every deployment of the problem. Deterministic: equal problems give equal plans."""
    book = _Book(problem, Ledger(problem.pools))
    in_order = sorted(
        problem.deployments, key=lambda d: (d.min_replicas == 0, -d.priority, d.created_at_s, d.deployment_id)
    )
    for row in problem.occupancies:
        book.ledger.add(row.pool_id, row.gpus_per_replica, row.replicas)
        book.occupancies.setdefault(row.deployment_id, []).append(row)
    for deployment in in_order:
        _reserve_present(book, deployment)
    for deployment in in_order:
        _place(book, deployment)
    for deployment in in_order:
        if deployment.deployment_id in book.unfit:
            _say_why_not(book, deployment)
        _raise_ceilings(book, deployment)
    entries = tuple(book.entries[deployment.deployment_id] for deployment in problem.deployments)
    allocations = [allocation for entry in entries for allocation in entry.allocations]
    return PlacementPlan(
        deployments=entries,
        micro_usd_per_h=sum(allocation.micro_usd_per_h for allocation in allocations),
        marginal_micro_usd_per_h=sum(allocation.marginal_micro_usd_per_h for allocation in allocations),
    )


def _reserve_present(book: _Book, deployment: WantedDeployment) -> None:
    """Keep the room of what runs, as far as it is lawful and its pool still has it."""
    _own_occupancies(book, deployment, -1, ())
    kept = []
    left = deployment.max_replicas
    for row in sorted(book.problem.current_of(deployment.deployment_id), key=lambda row: row.assignment_id):
        pool = book.problem.pool_by_id[row.pool_id]
        if (
            left < 1
            or pool.capacity_instances == 0
            or lawful(deployment, pool, book.problem.cluster_by_id[pool.cluster_id])
        ):
            continue
        replicas = min(row.min_replicas, left, book.ledger.headroom(row.pool_id, row.gpus_per_replica))
        if replicas < min(1, row.min_replicas):
            continue
        left -= max(1, replicas)
        book.ledger.add(row.pool_id, row.gpus_per_replica, replicas)
        kept.append(replace(row, min_replicas=replicas))
    book.kept[deployment.deployment_id] = kept
    _own_occupancies(book, deployment, 1, kept)


def _place(book: _Book, deployment: WantedDeployment) -> None:
    kept = book.kept[deployment.deployment_id]
    _own_occupancies(book, deployment, -1, kept)
    for row in kept:
        book.ledger.add(row.pool_id, row.gpus_per_replica, -row.min_replicas)
    question = _question(book, deployment, kept)
    found = question.candidates()
    chosen = shape(deployment, found, question.replicas, deployment.max_replicas)
    refusal = standby_refusal(deployment)
    if refusal is None and chosen is not None:
        entry = _entry(book, deployment, chosen, found)
        refusal = _over_budget(book, deployment, entry)
    elif refusal is None:
        book.unfit.add(deployment.deployment_id)
    if refusal is not None or chosen is None:
        entry = _keep_what_runs(book, deployment, kept, refusal)
    book.entries[deployment.deployment_id] = entry
    book.spent[deployment.project_id] = book.spent.get(deployment.project_id, 0) + entry.micro_usd_per_h
    for allocation in entry.allocations:
        book.ledger.add(allocation.pool_id, allocation.gpus_per_replica, allocation.min_replicas)
    _own_occupancies(book, deployment, 1, entry.allocations)


def _say_why_not(book: _Book, deployment: WantedDeployment) -> None:
    """Only now is it known how much room all others leave, so that the remedy's numbers hold."""
    entry = book.entries[deployment.deployment_id]
    kept = book.kept[deployment.deployment_id]
    _own_occupancies(book, deployment, -1, kept)
    for row in kept:
        book.ledger.add(row.pool_id, row.gpus_per_replica, -row.min_replicas)
    refusal = refusal_of(_question(book, deployment, kept))
    for row in kept:
        book.ledger.add(row.pool_id, row.gpus_per_replica, row.min_replicas)
    _own_occupancies(book, deployment, 1, kept)
    book.entries[deployment.deployment_id] = replace(entry, refusal=refusal)


def _question(book: _Book, deployment: WantedDeployment, kept: Sequence[CurrentAssignment]) -> Question:
    return Question(
        problem=book.problem,
        deployment=deployment,
        ledger=book.ledger,
        held=_held(kept),
        replicas=max(1, deployment.min_replicas),
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


def _held(kept: Sequence[CurrentAssignment]) -> Mapping[str, int]:
    held: dict[str, int] = {}
    for row in kept:
        held[row.pool_id] = held.get(row.pool_id, 0) + row.min_replicas
    return held


def _entry(
    book: _Book, deployment: WantedDeployment, chosen: Shape, found: Sequence[Candidate]
) -> DeploymentPlan:
    by_pool = {candidate.pool.pool_id: candidate for candidate in found}
    scale_to_zero = deployment.min_replicas == 0
    allocations = []
    for pool_id, replicas in chosen.items():
        minimum = 0 if scale_to_zero else replicas
        cost = _cost(book, pool_id, deployment.gpus_per_replica, minimum)
        allocations.append(
            Allocation(
                revision_id=deployment.revision_id,
                revision=deployment.revision,
                pool_id=pool_id,
                min_replicas=minimum,
                max_replicas=replicas,
                gpus_per_replica=deployment.gpus_per_replica,
                micro_usd_per_h=cost.share_micro_usd_per_h,
                marginal_micro_usd_per_h=cost.marginal_micro_usd_per_h,
                reasons=_reasons(deployment, by_pool[pool_id], replicas),
            )
        )
    return DeploymentPlan(
        deployment_id=deployment.deployment_id,
        generation=deployment.generation,
        allocations=tuple(allocations),
        traffic=_traffic(book.problem, deployment.deployment_id, [by_pool[pool_id] for pool_id in chosen]),
    )


def _cost(book: _Book, pool_id: str, gpus_per_replica: int, replicas: int) -> PoolCost:
    return pool_cost(
        book.problem.tariff_by_pool[pool_id],
        used_gpus=book.ledger.used_gpus(pool_id),
        gpus_per_replica=gpus_per_replica,
        replicas=replicas,
    )


def _reasons(deployment: WantedDeployment, candidate: Candidate, replicas: int) -> tuple[str, ...]:
    reasons = []
    if candidate.held:
        reasons.append(
            f"{min(candidate.held, replicas)} held here already: what runs is not moved for a price"
        )
    new = replicas - candidate.held
    if new > 0:
        covered = min(new, max(0, candidate.covered - candidate.held))
        if covered:
            reasons.append(f"{covered} on reserved capacity that is paid for already")
        if new > covered:
            price = usd_printed(candidate.replica_micro_usd_per_h)
            reasons.append(
                f"{new - covered} at {price} USD/h each, the cheapest {candidate.pool.procurement} room left"
            )
    if candidate.domains:
        reasons.append(f"in {deployment.survivability} {', '.join(candidate.domains)}")
    return tuple(reasons)


def _traffic(
    problem: PlacementProblem, deployment_id: str, chosen: Sequence[Candidate]
) -> tuple[TrafficShare, ...]:
    """Each origin that has demand goes to its nearest cluster; an unknown distance counts as the farthest."""
    rtt_ms = {(row.origin_region, row.target_region): row.rtt_ms for row in problem.latencies}
    clusters = sorted({(one.cluster.region, one.cluster.cluster_id) for one in chosen})
    shares = []
    for demand in problem.demands:
        if demand.deployment_id != deployment_id or not clusters:
            continue
        origin = demand.origin_region

        def distance(cluster: tuple[str, str], origin: str = origin) -> float:
            return 0.0 if cluster[0] == origin else rtt_ms.get((origin, cluster[0]), float("inf"))

        shares.append(
            TrafficShare(origin_region=origin, cluster_id=min(clusters, key=distance)[1], share=1.0)
        )
    return tuple(shares)


def _over_budget(book: _Book, deployment: WantedDeployment, entry: DeploymentPlan) -> Refusal | None:
    for budget in book.problem.budgets:
        if budget.project_id != deployment.project_id:
            continue
        spent = book.spent.get(deployment.project_id, 0)
        if spent + entry.micro_usd_per_h > budget.micro_usd_per_h:
            return Refusal(
                rule="budget",
                subject=f"deployment {deployment.name}",
                value=f"{usd_printed(entry.micro_usd_per_h)} USD/h on top of {usd_printed(spent)}",
                remedy=(
                    f"the project may spend {usd_printed(budget.micro_usd_per_h)} USD/h:"
                    f" raise the budget to {usd_printed(spent + entry.micro_usd_per_h)}, or lower min_replicas"
                ),
            )
    return None


def _keep_what_runs(
    book: _Book, deployment: WantedDeployment, kept: Sequence[CurrentAssignment], refusal: Refusal | None
) -> DeploymentPlan:
    """A "no" to what is wanted now takes nothing away that was granted before and is still lawful.

    Without a ``refusal`` it is said later why (``_say_why_not``).
    """
    allocations = []
    for row in kept:
        cost = _cost(book, row.pool_id, row.gpus_per_replica, row.min_replicas)
        allocations.append(
            Allocation(
                revision_id=row.revision_id,
                revision=row.revision,
                pool_id=row.pool_id,
                min_replicas=row.min_replicas,
                max_replicas=max(1, row.min_replicas),
                gpus_per_replica=row.gpus_per_replica,
                micro_usd_per_h=cost.share_micro_usd_per_h,
                marginal_micro_usd_per_h=cost.marginal_micro_usd_per_h,
                reasons=("held here already; kept while what is wanted now fits nowhere",),
            )
        )
    return DeploymentPlan(
        deployment_id=deployment.deployment_id,
        generation=deployment.generation,
        allocations=tuple(allocations),
        refusal=refusal,
    )


def _raise_ceilings(book: _Book, deployment: WantedDeployment) -> None:
    """Share what the maximum allows beyond the minima evenly, as far as each pool could carry it."""
    entry = book.entries[deployment.deployment_id]
    rows = list(entry.allocations)
    spare = deployment.max_replicas - sum(row.max_replicas for row in rows)
    room = [
        book.ledger.headroom(row.pool_id, row.gpus_per_replica) - (row.max_replicas - row.min_replicas)
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
