"""Assignments, brought in line with an adopted entry. Make before break wherever the law allows it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from apps.agents import selectors as agents
from apps.deployments.models import Deployment
from apps.placements.models import Assignment, PlacementPlan
from controlplane.placement import Allocation, PlacementProblem

_BOUNDS = ("min_replicas", "planned_replicas", "max_replicas", "standby")
_STATE = ("max_replicas", "handover_replicas", "leaving", "draining")


def assignments_write(
    *,
    plan: PlacementPlan,
    deployment: Deployment,
    allocations: Sequence[Allocation],
    problem: PlacementProblem,
    before: Iterable[Assignment],
    ready: Mapping[UUID, int],
) -> set[UUID]:
    """Create, rebound, revive or retire. ``deployment`` is locked. Returns the clusters whose tables change.

    ``before``: its live assignments; ``ready``: their ready replicas, by assignment.

    What the plan no longer names drains at once where its jurisdiction is no longer allowed, or where successors of
    its size are in the same cluster (the agent hands over). Otherwise it is ``leaving``: it serves on until its
    successors elsewhere are ready. So does what shrinks while others grow, by its ``handover_replicas``. That only one
    cluster serves where only one may (active_passive) is seen to by the tables.
    """
    live = {(str(row.revision_id), str(row.pool_id)): row for row in before}
    touched: set[UUID] = set()
    standing: list[Assignment] = []
    made: list[Assignment] = []
    grows = False
    for allocation in allocations:
        row = live.pop((allocation.revision_id, allocation.pool_id), None)
        if row is None:
            row = _new(plan, deployment, allocation)
            made.append(row)
            touched.add(UUID(problem.pool_by_id[allocation.pool_id].cluster_id))
            grows = True
        else:
            grows |= row.leaving or row.draining or allocation.room_replicas > row.room_replicas
            if _rebind(row, allocation, ready.get(row.pk, 0)):
                touched.add(row.pool.cluster_id)
        standing.append(row)
    Assignment.objects.bulk_create(made)
    for row in live.values():
        if _retire(row, deployment, allocations, problem, ready.get(row.pk, 0)):
            touched.add(row.pool.cluster_id)
    return touched | _hand_over(standing, live.values(), ready, grows=grows)


def ready_by_assignment(deployment_ids: Collection[UUID]) -> Mapping[UUID, int]:
    """Ready replicas of these deployments, by assignment."""
    found: dict[UUID, int] = {}
    for count in agents.replica_counts(deployment_ids=deployment_ids):
        if count.state == "ready":
            found[count.assignment_id] = found.get(count.assignment_id, 0) + count.replicas
    return found


def _new(plan: PlacementPlan, deployment: Deployment, allocation: Allocation) -> Assignment:
    return Assignment(
        deployment=deployment,
        revision_id=UUID(allocation.revision_id),
        pool_id=UUID(allocation.pool_id),
        plan=plan,
        gpus_per_replica=allocation.gpus_per_replica,
        **{name: getattr(allocation, name) for name in _BOUNDS},
    )


def _rebind(row: Assignment, allocation: Allocation, ready: int) -> bool:
    """New bounds, and for the time being what serves beyond them; one on its way out is called back."""
    wanted = {name: getattr(allocation, name) for name in _BOUNDS} | {"draining": False, "leaving": False}
    if wanted == {name: getattr(row, name) for name in wanted}:
        return False
    promised = min(ready, max(row.min_replicas, row.handover_replicas))
    serving = ready if ready > allocation.max_replicas else promised
    row.handover_replicas = serving if serving > allocation.min_replicas else 0
    for name, value in wanted.items():
        setattr(row, name, value)
    row.save(update_fields=[*wanted, "handover_replicas"])
    return True


def _retire(
    row: Assignment,
    deployment: Deployment,
    allocations: Iterable[Allocation],
    problem: PlacementProblem,
    ready: int,
) -> bool:
    if row.draining:
        return False
    allowed = not deployment.residency or row.pool.cluster.region.jurisdiction in deployment.residency
    successors = list(allocations)
    here = sum(
        successor.room_replicas or 1
        for successor in successors
        if problem.pool_by_id[successor.pool_id].cluster_id == str(row.pool.cluster_id)
    )
    serving = max(ready, row.min_replicas)
    before = {name: getattr(row, name) for name in _STATE}
    if not allowed or not successors or here >= max(1, serving):
        row.draining, row.leaving = True, False
    else:
        row.leaving, row.max_replicas = True, max(1, serving)
    row.handover_replicas = 0
    if before == {name: getattr(row, name) for name in _STATE}:
        return False
    row.save(update_fields=list(_STATE))
    return True


def _hand_over(
    standing: Sequence[Assignment],
    retired: Collection[Assignment],
    ready: Mapping[UUID, int],
    *,
    grows: bool,
) -> set[UUID]:
    """Where the deployment goes, as many are made ready as serve where it leaves; where nothing grows, none wait."""
    leaves = sum(ready.get(row.pk, 0) for row in retired if row.leaving)
    leaves += sum(max(0, row.handover_replicas - row.room_replicas) for row in standing)
    touched: set[UUID] = set()
    for row in standing:
        shrinks = row.handover_replicas > row.room_replicas
        wanted = row.handover_replicas if shrinks and grows else 0
        if leaves and grows and not shrinks and row.room_replicas > row.min_replicas:
            wanted = min(row.room_replicas, row.max_replicas, max(row.min_replicas, leaves))
        if wanted != row.handover_replicas:
            row.handover_replicas = wanted
            row.save(update_fields=["handover_replicas"])
            touched.add(row.pool.cluster_id)
    return touched
