"""What an entry of a plan could cost at its ceilings."""

from controlplane.costing import pool_cost
from controlplane.placement.plan import DeploymentPlan
from controlplane.placement.problem import PlacementProblem


def micro_usd_per_h_at_most(problem: PlacementProblem, entry: DeploymentPlan) -> int:
    """An entry's price with every allocation at its ceiling, as if nobody else used a reservation: errs low."""
    return sum(
        pool_cost(
            problem.tariff_by_pool[row.pool_id],
            used_gpus=0,
            gpus_per_replica=row.gpus_per_replica,
            replicas=row.max_replicas,
        ).share_micro_usd_per_h
        for row in entry.allocations
    )
