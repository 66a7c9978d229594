"""Why each pool was taken or not: worked out on demand from a stored problem and its plan."""

from dataclasses import dataclass

from controlplane.costing import replica_micro_usd_per_h, usd_printed
from controlplane.placement.capacity import Ledger
from controlplane.placement.filters import lawful, open_to_new, suitable
from controlplane.placement.plan import Allocation, PlacementPlan
from controlplane.placement.problem import PlacementProblem, Pool, WantedDeployment
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReason:
    """One pool's part in one deployment's plan: an allocation, or the reason why there is none."""

    pool_id: str
    pool: str
    cluster: str
    allocation: Allocation | None
    refusal: Refusal | None


def room_left(problem: PlacementProblem, plan: PlacementPlan) -> Ledger:
    """What all minima of a plan leave in each pool."""
    ledger = Ledger(problem.pools)
    for entry in plan.deployments:
        for row in entry.allocations:
            ledger.add(row.pool_id, row.gpus_per_replica, row.min_replicas)
    return ledger


def explain(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str, *, room: Ledger | None = None
) -> tuple[PoolReason, ...]:
    """A reason for every pool of the problem. ``room`` is ``room_left``, for those who explain many deployments.

    Raises KeyError where the plan has no such deployment.
    """
    entry = plan.by_deployment[deployment_id]
    deployment = problem.deployment_by_id[deployment_id]
    ledger = room or room_left(problem, plan)
    chosen = {row.pool_id: row for row in entry.allocations}
    reasons = []
    for pool in problem.pools:
        allocation = chosen.get(pool.pool_id)
        reasons.append(
            PoolReason(
                pool_id=pool.pool_id,
                pool=pool.name,
                cluster=problem.cluster_by_id[pool.cluster_id].name,
                allocation=allocation,
                refusal=None if allocation else _why_not(problem, deployment, pool, ledger),
            )
        )
    return tuple(reasons)


def _why_not(problem: PlacementProblem, deployment: WantedDeployment, pool: Pool, ledger: Ledger) -> Refusal:
    cluster = problem.cluster_by_id[pool.cluster_id]
    for rules in (lawful, suitable, open_to_new):
        refusals = rules(deployment, pool, cluster)
        if refusals:
            return refusals[0]
    subject = f"pool {cluster.name}/{pool.name}"
    room = ledger.headroom(pool.pool_id, deployment.gpus_per_replica)
    if room == 0:
        return Refusal(
            rule="pool_capacity",
            subject=subject,
            value=f"no room for {deployment.gpus_per_replica} more GPUs in one instance",
            remedy="enlarge the pool, or lower another deployment's min_replicas",
        )
    price = replica_micro_usd_per_h(
        instance_micro_usd_per_h=pool.instance_micro_usd_per_h or 0,
        gpus_per_instance=pool.gpus_per_instance,
        gpus=deployment.gpus_per_replica,
    )
    return Refusal(
        rule="not_needed",
        subject=subject,
        value=f"{usd_printed(price)} USD/h a replica, room for {room}",
        remedy="what runs already and cheaper room is used first; raise min_replicas or survivability to use it",
    )
