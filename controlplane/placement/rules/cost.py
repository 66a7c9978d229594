"""What a plan costs by decision 0021: the one number that solvers minimise, and what it is made of.

Everything is integer micro-USD/h. Wishes that a plan does not keep are found from its allocations, not from what it
says of itself, so that plans of any origin are compared alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

from controlplane.costing import PoolCost, pool_cost, pool_costs, replica_micro_usd_per_h
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan, TrafficShare
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.needs import LEVELS, Index, index_of, kept, missing_replicas
from controlplane.placement.rules.traffic import (
    SECONDS_PER_H,
    lanes_to,
    too_far,
)
from controlplane.placement.supply import Pool
from controlplane.placement.wishes import WantedDeployment

#: Deployment id -> what each of its allocations' rooms costs.
_Rents = Mapping[str, Sequence[PoolCost]]
_NOTHING = PoolCost(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """The parts of the objective, for a plan or one deployment's entry. ``rent`` is what its rooms add to the bill."""

    rent_micro_usd_per_h: int = 0
    interruption_micro_usd_per_h: int = 0
    refusal_micro_usd_per_h: int = 0
    lateness_micro_usd_per_h: int = 0
    network_micro_usd_per_h: int = 0
    churn_micro_usd_per_h: int = 0
    relaxed_micro_usd_per_h: int = 0

    def __add__(self, other: "PlanCost") -> "PlanCost":
        return PlanCost(
            **{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)}
        )

    @property
    def total_micro_usd_per_h(self) -> int:
        return (
            self.rent_micro_usd_per_h
            + self.interruption_micro_usd_per_h
            + self.refusal_micro_usd_per_h
            + self.lateness_micro_usd_per_h
            + self.network_micro_usd_per_h
            + self.churn_micro_usd_per_h
            + self.relaxed_micro_usd_per_h
        )


def plan_cost(problem: PlacementProblem, plan: PlacementPlan) -> PlanCost:
    """The objective of a plan: the sum over its entries, and over deployments that it forgot."""
    return sum(plan_costs(problem, plan).values(), PlanCost())


def plan_costs(
    problem: PlacementProblem,
    plan: PlacementPlan,
    *,
    only: Iterable[WantedDeployment] | None = None,
) -> Mapping[str, PlanCost]:
    """The objective by deployment id, of ``only`` these where they are given."""
    wanted = problem.deployments if only is None else only
    return _costs(problem, _priced_entries(problem, plan), wanted)


def _costs(
    problem: PlacementProblem, entries: Iterable[DeploymentPlan], wanted: Iterable[WantedDeployment]
) -> Mapping[str, PlanCost]:
    index, known = index_of(problem), {entry.deployment_id: entry for entry in entries}
    costs = {}
    for deployment in wanted:
        name = deployment.deployment_id
        entry = known.get(name)
        if entry is None:
            entry = DeploymentPlan(deployment_id=name, generation=deployment.generation, allocations=())
        costs[name] = _cost_of(index, deployment, entry)
    return costs


def _cost_of(index: Index, deployment: WantedDeployment, entry: DeploymentPlan) -> PlanCost:
    """``_entry_cost``, as it was a moment before where nothing has changed that it follows from."""
    problem, name = index.problem, deployment.deployment_id
    held, pools = problem.current_of(name), problem.pool_by_id
    facts = (
        *(deployment, problem.demands_of(name), entry.allocations, entry.traffic, held),
        index.wish_micro_usd_per_h(deployment),
        [pools[row.pool_id] for row in entry.allocations],
        [pools[row.pool_id] for row in held],
    )
    return index.memory.of("cost", name, facts, lambda: _entry_cost(index, deployment, entry))


def priced(problem: PlacementProblem, plan: PlacementPlan) -> PlacementPlan:
    """The plan with the prices of its rooms, and its objective, filled in."""
    entries = _priced_entries(problem, plan)
    rows = [row for entry in entries for row in entry.allocations]
    costs = _costs(problem, entries, problem.deployments).values()
    return replace(
        plan,
        deployments=entries,
        micro_usd_per_h=sum([row.micro_usd_per_h for row in rows]),
        marginal_micro_usd_per_h=sum([row.marginal_micro_usd_per_h for row in rows]),
        objective_micro_usd_per_h=sum([cost.total_micro_usd_per_h for cost in costs]),
    )


def _priced_entries(problem: PlacementProblem, plan: PlacementPlan) -> tuple[DeploymentPlan, ...]:
    rents = _rents(problem, plan)
    return tuple([_priced(entry, rents[entry.deployment_id]) for entry in plan.deployments])


def _priced(entry: DeploymentPlan, rents: Sequence[PoolCost]) -> DeploymentPlan:
    for row, rent in zip(entry.allocations, rents, strict=True):
        if (
            row.micro_usd_per_h != rent.share_micro_usd_per_h
            or row.marginal_micro_usd_per_h != rent.marginal_micro_usd_per_h
        ):
            break
    else:
        return entry
    rows = (
        replace(
            row,
            micro_usd_per_h=rent.share_micro_usd_per_h,
            marginal_micro_usd_per_h=rent.marginal_micro_usd_per_h,
        )
        for row, rent in zip(entry.allocations, rents, strict=True)
    )
    return replace(entry, allocations=tuple(rows))


def _rents(problem: PlacementProblem, plan: PlacementPlan) -> _Rents:
    """What each room costs beside all others in its pool; they are no matter where nothing is reserved."""
    tariffs, memory = problem.tariff_by_pool, index_of(problem).memory
    alone: dict[tuple[str, int, int], PoolCost] = {}
    places: dict[str, list[tuple[str, int, int, int]]] = {}
    found: dict[str, list[PoolCost]] = {}
    for entry in plan.deployments:
        costs = found[entry.deployment_id] = []
        for index, row in enumerate(entry.allocations):
            key = (row.pool_id, row.gpus_per_replica, row.room_replicas)
            cost = alone.get(key)
            if cost is None:
                pool_id, gpus, replicas = key
                if tariffs[pool_id].reserved_instances:
                    places.setdefault(pool_id, []).append((entry.deployment_id, index, gpus, replicas))
                    cost = _NOTHING
                else:
                    cost = pool_cost(tariffs[pool_id], used_gpus=0, gpus_per_replica=gpus, replicas=replicas)
                    alone[key] = cost
            costs.append(cost)
    for pool_id, rooms in places.items():
        tariff, taken = tariffs[pool_id], [(gpus, replicas) for _, _, gpus, replicas in rooms]
        shared = memory.of("shared costs", pool_id, (tariff, taken), partial(pool_costs, tariff, taken))
        for (deployment_id, index, _, _), cost in zip(rooms, shared, strict=True):
            found[deployment_id][index] = cost
    return found


def _entry_cost(index: Index, deployment: WantedDeployment, entry: DeploymentPlan) -> PlanCost:
    """What an entry costs whose rooms are priced."""
    problem = index.problem
    weights, pools = problem.weights, problem.pool_by_id
    rent = interruption = refusal = 0
    held = _held(problem, deployment)
    for row in entry.allocations:
        pool = pools[row.pool_id]
        marginal, stays = row.marginal_micro_usd_per_h, held.get(row.pool_id, 0)
        rent += marginal
        if pool.hazard_per_h:
            interruption += round(marginal * pool.hazard_per_h * weights.interruption_h)
        new = row.room_replicas - stays
        if stays:
            held[row.pool_id] = max(0, -new)
        if new > 0 and pool.obtainability < 1:
            rented_new = min(marginal, new * replica_price(problem, pool, row.gpus_per_replica))
            refusal += round(rented_new * (1 - pool.obtainability) * weights.refusal_h)
    lateness, network, hours = _lasting(index, deployment, entry)
    return PlanCost(
        rent_micro_usd_per_h=rent,
        interruption_micro_usd_per_h=interruption,
        refusal_micro_usd_per_h=refusal,
        lateness_micro_usd_per_h=lateness,
        network_micro_usd_per_h=network,
        churn_micro_usd_per_h=(_churn(problem, deployment, held) if any(held.values()) else 0)
        + _handed_over(problem, deployment, entry.allocations),
        relaxed_micro_usd_per_h=round(hours * index.wish_micro_usd_per_h(deployment)) if hours else 0,
    )


def replica_price(problem: PlacementProblem, pool: Pool, gpus_per_replica: int) -> int:
    """What one more replica costs in a pool where it is rented, in micro-USD/h."""
    return replica_micro_usd_per_h(
        instance_micro_usd_per_h=problem.tariff_by_pool[pool.pool_id].instance_micro_usd_per_h,
        gpus_per_instance=pool.gpus_per_instance,
        gpus=gpus_per_replica,
    )


def leaving_micro_usd_per_h(
    problem: PlacementProblem, deployment: WantedDeployment, pool: Pool, gpus_per_replica: int
) -> int:
    """What it costs, spread over ``amortise_h``, that one running replica leaves a pool."""
    profile = problem.profile_of(deployment, pool.instance_type_id)
    cold_start_h = profile.cold_start_s / SECONDS_PER_H if profile is not None else 0.0
    weights = problem.weights
    price = replica_price(problem, pool, gpus_per_replica)
    return round(price * (cold_start_h + weights.cache_h) / weights.amortise_h)


def handover_micro_usd_per_h(
    problem: PlacementProblem, deployment: WantedDeployment
) -> tuple[frozenset[str], int]:
    """(ids of the clusters that serve, what it costs, spread over ``amortise_h``, that none of them does any more).

    Of ``active_passive`` alone: otherwise nobody waits for another to be named, and this is nobody and nothing.
    """
    if deployment.posture != "active_passive":
        return frozenset(), 0
    serving = [row for row in problem.current_of(deployment.deployment_id) if not row.standby]
    pools, weights = problem.pool_by_id, problem.weights
    price = sum(
        row.room_replicas * replica_price(problem, pools[row.pool_id], row.gpus_per_replica)
        for row in serving
    )
    clusters = frozenset(pools[row.pool_id].cluster_id for row in serving)
    return clusters, round(price * weights.handover_h / weights.amortise_h)


def _handed_over(problem: PlacementProblem, deployment: WantedDeployment, rows: Sequence[Allocation]) -> int:
    """Nothing where nobody served, or nobody will."""
    served, price = handover_micro_usd_per_h(problem, deployment)
    if not served:
        return 0
    serves = {problem.pool_by_id[row.pool_id].cluster_id for row in rows if not row.standby}
    return price if serves and not served & serves else 0


def _held(problem: PlacementProblem, deployment: WantedDeployment) -> dict[str, int]:
    held: dict[str, int] = {}
    for row in problem.current_of(deployment.deployment_id):
        held[row.pool_id] = held.get(row.pool_id, 0) + row.room_replicas
    return held


def _churn(problem: PlacementProblem, deployment: WantedDeployment, gone: Mapping[str, int]) -> int:
    """``gone``: pool id -> replicas that run there and have no room there any more."""
    gpus = {row.pool_id: row.gpus_per_replica for row in problem.current_of(deployment.deployment_id)}
    return sum(
        replicas * leaving_micro_usd_per_h(problem, deployment, problem.pool_by_id[pool_id], gpus[pool_id])
        for pool_id, replicas in gone.items()
        if replicas
    )


def _lasting(index: Index, deployment: WantedDeployment, entry: DeploymentPlan) -> tuple[int, int, float]:
    """(lateness, network, hours of broken wishes): what an entry costs whatever the prices, and beside whomever."""
    demands = index.problem.demands_of(deployment.deployment_id)

    def work_out() -> tuple[int, int, float]:
        lateness, network = _traffic_costs(index.problem, deployment, entry.traffic)
        return lateness, network, _relaxed_h(index, deployment, entry.allocations)

    facts = (deployment, demands, entry.allocations, entry.traffic)
    return index.memory.of("lasting costs", deployment.deployment_id, facts, work_out)


def _traffic_costs(
    problem: PlacementProblem, deployment: WantedDeployment, traffic: Iterable[TrafficShare]
) -> tuple[int, int]:
    demands = problem.demands_of(deployment.deployment_id)
    number = {row.origin_region: index for index, row in enumerate(demands)}
    lateness = network = 0.0
    for share in traffic:
        if share.origin_region not in number:
            continue
        region = problem.cluster_by_id[share.cluster_id].region
        lane = lanes_to(problem, deployment, region)[number[share.origin_region]]
        lateness += share.share * lane.lateness_micro_usd_per_h
        network += share.share * lane.network_micro_usd_per_h
    return round(lateness), round(network)


def _relaxed_h(index: Index, deployment: WantedDeployment, rows: Sequence[Allocation]) -> float:
    """Broken wishes. Survivability counts by each kind given up, and it and latency by the replicas they are for."""
    problem, needs = index.problem, index.needs(deployment)
    weights = problem.weights
    given_up = LEVELS.index(deployment.survivability) - LEVELS.index(kept(index, deployment, rows))
    hours = given_up * weights.relaxed_survivability_h * needs.size
    if deployment.slo.ttft_s_p95 is not None and any(
        too_far(problem, deployment, problem.cluster_by_id[problem.pool_by_id[row.pool_id].cluster_id])
        for row in rows
    ):
        hours += weights.relaxed_latency_h * needs.size
    return hours + weights.missing_replica_h * missing_replicas(index, deployment, rows)
