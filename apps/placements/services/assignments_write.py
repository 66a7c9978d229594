"""Assignments, brought in line with an adopted entry. Make before break wherever the law allows it."""

from collections.abc import Sequence
from uuid import UUID

from apps.deployments.models import Deployment
from apps.placements import selectors
from apps.placements.models import Assignment, PlacementPlan
from controlplane.placement import Allocation, PlacementProblem

_BOUNDS = ("min_replicas", "planned_replicas", "max_replicas", "standby")


def assignments_write(
    *,
    plan: PlacementPlan,
    deployment: Deployment,
    allocations: Sequence[Allocation],
    problem: PlacementProblem,
) -> set[UUID]:
    """Create, rebound, revive or retire. ``deployment`` is locked. Returns the clusters whose tables change.

    What the plan no longer names drains at once where a successor is in the same cluster (the agent hands over), or
    where its jurisdiction is no longer allowed; otherwise it is ``leaving``: it serves on until its successors
    elsewhere are ready. That only one of them serves where only one may (active_passive) is seen to by the tables.
    """
    live = {
        (str(row.revision_id), str(row.pool_id)): row
        for row in selectors.assignments_of_deployments(deployment_ids=[deployment.pk])
    }
    touched: set[UUID] = set()
    for allocation in allocations:
        row = live.pop((allocation.revision_id, allocation.pool_id), None)
        if row is None:
            _create(plan, deployment, allocation)
            touched.add(UUID(problem.pool_by_id[allocation.pool_id].cluster_id))
        elif _rebind(row, allocation):
            touched.add(row.pool.cluster_id)
    clusters_kept = {problem.pool_by_id[row.pool_id].cluster_id for row in allocations}
    for row in live.values():
        if _retire(row, deployment, clusters_kept):
            touched.add(row.pool.cluster_id)
    return touched


def _create(plan: PlacementPlan, deployment: Deployment, allocation: Allocation) -> None:
    Assignment.objects.create(
        deployment=deployment,
        revision_id=UUID(allocation.revision_id),
        pool_id=UUID(allocation.pool_id),
        plan=plan,
        gpus_per_replica=allocation.gpus_per_replica,
        **{name: getattr(allocation, name) for name in _BOUNDS},
    )


def _rebind(row: Assignment, allocation: Allocation) -> bool:
    """New bounds; one on its way out is called back."""
    wanted = {name: getattr(allocation, name) for name in _BOUNDS} | {"draining": False, "leaving": False}
    if wanted == {name: getattr(row, name) for name in wanted}:
        return False
    for name, value in wanted.items():
        setattr(row, name, value)
    row.save(update_fields=list(wanted))
    return True


def _retire(row: Assignment, deployment: Deployment, clusters_kept: set[str]) -> bool:
    if row.draining:
        return False
    allowed = not deployment.residency or row.pool.cluster.region.jurisdiction in deployment.residency
    handed_over_here = str(row.pool.cluster_id) in clusters_kept
    if allowed and clusters_kept and not handed_over_here:
        if row.leaving:
            return False
        row.leaving = True
        row.max_replicas = max(1, row.min_replicas)
    else:
        row.draining = True
    row.save(update_fields=["leaving", "draining", "max_replicas"])
    return True
