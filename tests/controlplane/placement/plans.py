"""Plans written by hand."""

from typing import Any

from controlplane.placement import Allocation, DeploymentPlan, PlacementPlan


def allocation(
    pool_id: str, ready: int, *, most: int | None = None, name: str = "chat", **fields: Any
) -> Allocation:
    """So many ready replicas of one GPU each, and at ``most`` so many."""
    values: dict[str, Any] = {
        "revision_id": f"r-{name}-1",
        "revision": 1,
        "pool_id": pool_id,
        "min_replicas": ready,
        "max_replicas": max(1, ready) if most is None else most,
        "gpus_per_replica": 1,
        "micro_usd_per_h": 0,
        "marginal_micro_usd_per_h": 0,
        "reasons": (),
    }
    return Allocation(**(values | fields))


def planned(*rows: Allocation, name: str = "chat", **fields: Any) -> DeploymentPlan:
    """What one deployment gets."""
    return DeploymentPlan(deployment_id=f"d-{name}", generation=1, allocations=rows, **fields)


def plan_of(*entries: DeploymentPlan) -> PlacementPlan:
    """All of it, free of charge."""
    return PlacementPlan(deployments=entries, micro_usd_per_h=0, marginal_micro_usd_per_h=0)
