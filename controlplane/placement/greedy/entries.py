"""A choice written down as a deployment's entry: bounds, reasons and traffic of each allocation."""

from collections.abc import Iterable, Mapping, Sequence

from controlplane.costing import usd_printed
from controlplane.placement.greedy.candidates import Slot
from controlplane.placement.greedy.ladder import Choice, Question
from controlplane.placement.plan import Allocation, DeploymentPlan, TrafficShare
from controlplane.placement.rules.needs import Index
from controlplane.placement.rules.traffic import traffic
from controlplane.placement.supply import CurrentAssignment
from controlplane.placement.wishes import WantedDeployment


def entry_of(
    question: Question,
    choice: Choice,
    slots: Sequence[Slot],
    minimum_by_pool: Mapping[str, int],
) -> DeploymentPlan:
    """What a deployment gets by a choice; prices come later, when all rooms of a pool are known.

    ``minimum_by_pool``: what is kept ready now, which stays where it is.
    """
    deployment, index = question.deployment, question.market.index
    places = [(pool_id, replicas, False) for pool_id, replicas in choice.serving.items()]
    places += [(pool_id, replicas, True) for pool_id, replicas in choice.standby.items()]
    minima = _minima(deployment, choice, minimum_by_pool)
    # More than is kept ready: what runs already, where a stop costs more than what it saves.
    stays_beyond = 0 < sum(minima.values()) < sum(replicas for _, replicas, _ in places)
    plans_room = index.needs(deployment).served > 0 or stays_beyond
    of_pool: dict[str, list[Slot]] = {pool_id: [] for pool_id, _, _ in places}
    for slot in slots:
        if (pool_id := slot.terms.pool.pool_id) in of_pool:
            of_pool[pool_id].append(slot)
    allocations = tuple(
        Allocation(
            revision_id=deployment.revision_id,
            revision=deployment.revision,
            pool_id=pool_id,
            min_replicas=minima[pool_id],
            planned_replicas=replicas if plans_room else 0,
            max_replicas=replicas,
            gpus_per_replica=deployment.gpus_per_replica,
            micro_usd_per_h=0,
            marginal_micro_usd_per_h=0,
            standby=standby,
            reasons=_reasons(deployment, choice, of_pool[pool_id], replicas, standby),
        )
        for pool_id, replicas, standby in places
    )
    return DeploymentPlan(
        deployment_id=deployment.deployment_id,
        generation=deployment.generation,
        allocations=allocations,
        traffic=traffic_of(index, deployment, allocations),
    )


def kept_entry(
    index: Index, deployment: WantedDeployment, rows: Iterable[CurrentAssignment]
) -> DeploymentPlan:
    """A "no" to what is wanted now takes nothing away that was granted before and is still lawful."""
    allocations = tuple(
        Allocation(
            revision_id=row.revision_id,
            revision=row.revision,
            pool_id=row.pool_id,
            min_replicas=row.min_replicas,
            planned_replicas=row.planned_replicas,
            max_replicas=max(1, row.room_replicas),
            gpus_per_replica=row.gpus_per_replica,
            micro_usd_per_h=0,
            marginal_micro_usd_per_h=0,
            standby=row.standby,
            reasons=("held here already; kept while what is wanted now fits nowhere",),
        )
        for row in rows
    )
    return DeploymentPlan(
        deployment_id=deployment.deployment_id,
        generation=deployment.generation,
        allocations=allocations,
        traffic=traffic_of(index, deployment, allocations),
    )


def traffic_of(
    index: Index, deployment: WantedDeployment, rows: Iterable[Allocation]
) -> tuple[TrafficShare, ...]:
    """The cheapest traffic to these allocations while nothing is lost."""
    needs = index.needs(deployment)
    shares: dict[str, float] = {}
    for row in rows:
        if not row.standby:
            pool = index.problem.pool_by_id[row.pool_id]
            part = needs.share(pool) * row.room_replicas
            shares[pool.cluster_id] = shares.get(pool.cluster_id, 0.0) + part
    demands = index.problem.demands_of(deployment.deployment_id)
    return index.memory.of(
        "traffic",
        deployment.deployment_id,
        (deployment, demands, shares),
        lambda: traffic(index.problem, deployment, shares),
    )


def _minima(
    deployment: WantedDeployment, choice: Choice, minimum_by_pool: Mapping[str, int]
) -> Mapping[str, int]:
    """All of it where losses are to be survived; elsewhere ``min_replicas``, where replicas are ready already first."""
    everything = {**choice.serving, **choice.standby}
    if deployment.min_replicas == 0:
        return dict.fromkeys(everything, 0)
    if deployment.survivability != "none":
        return everything
    left = deployment.min_replicas
    minima = dict.fromkeys(everything, 0)
    for ready in (minimum_by_pool, everything):
        for pool_id, replicas in everything.items():
            more = min(replicas, ready.get(pool_id, 0)) - minima[pool_id]
            more = max(0, min(left, more))
            minima[pool_id] += more
            left -= more
    return minima


def _reasons(
    deployment: WantedDeployment, choice: Choice, slots: Sequence[Slot], replicas: int, standby: bool
) -> tuple[str, ...]:
    reasons = []
    left = replicas
    for slot in slots:
        part = min(slot.replicas, left)
        left -= part
        if part < 1:
            continue
        if slot.held:
            reasons.append(f"{part} held here already: what runs moves only for more than that costs")
        elif slot.covered:
            reasons.append(f"{part} on reserved capacity that is paid for already")
        else:
            price = usd_printed(slot.terms.rented)
            procurement = slot.terms.pool.procurement
            reasons.append(f"{part} at {price} USD/h each, the cheapest {procurement} room left")
    if choice.rung.level != "none" and slots:
        cluster = slots[0].terms.cluster
        reasons.append(f"in {choice.rung.level} {', '.join(cluster.domains(choice.rung.level))}")
    if standby:
        reasons.append("warm standby: serves once what serves now is lost")
    return tuple(reasons)
