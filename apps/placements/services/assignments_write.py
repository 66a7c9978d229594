"""Assignments, brought in line with adopted entries. Make before break wherever the law allows it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apps.agents import selectors as agents
from apps.deployments.models import Deployment
from apps.placements import selectors
from apps.placements.models import Assignment, PlacementPlan
from controlplane.placement import Allocation, PlacementProblem

_BOUNDS = ("min_replicas", "planned_replicas", "max_replicas", "standby")
_STATE = ("max_replicas", "handover_replicas", "leaving", "draining")


@dataclass
class _Drafts:
    """Rows to be written, new ones among them, and the clusters whose tables they change."""

    plan: PlacementPlan
    problem: PlacementProblem
    ready: Mapping[UUID, int]
    rows: dict[UUID, Assignment] = field(default_factory=dict)
    cluster_ids: set[UUID] = field(default_factory=set)

    def write(self, row: Assignment) -> None:
        self.rows[row.pk] = row
        self.cluster_ids.add(UUID(self.problem.pool_by_id[str(row.pool_id)].cluster_id))


def assignments_write(
    *,
    plan: PlacementPlan,
    wanted: Sequence[tuple[Deployment, Sequence[Allocation]]],
    problem: PlacementProblem,
) -> set[UUID]:
    """Create, rebound, revive or retire, in two statements. Returns the clusters whose tables change.

    ``wanted``: locked deployments, each with all that it is to have.

    What the plan no longer names drains at once where its jurisdiction is no longer allowed, or where successors of
    its size are in the same cluster (the agent hands over). Otherwise it is ``leaving``: it serves on until its
    successors elsewhere are ready. So does what shrinks while others grow, by its ``handover_replicas``, and what
    is in a pool that is being emptied while nobody can take over. That only one cluster serves where only one may
    (active_passive) is seen to by the tables.
    """
    ids = [deployment.pk for deployment, _ in wanted]
    before: dict[UUID, list[Assignment]] = {deployment_id: [] for deployment_id in ids}
    for row in selectors.assignments_of_deployments(deployment_ids=ids):
        before[row.deployment_id].append(row)
    drafts = _Drafts(plan, problem, _ready_by_assignment(ids))
    for deployment, allocations in wanted:
        _draft(drafts, deployment, allocations, before[deployment.pk])
    made = [row for row in drafts.rows.values() if row._state.adding]
    Assignment.objects.bulk_create(made)
    Assignment.objects.bulk_create(  # an UPDATE of many rows to values of their own, which PostgreSQL lacks
        [row for row in drafts.rows.values() if not row._state.adding],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=list(dict.fromkeys((*_BOUNDS, *_STATE))),
    )
    return drafts.cluster_ids


def _ready_by_assignment(deployment_ids: Collection[UUID]) -> Mapping[UUID, int]:
    found: dict[UUID, int] = {}
    for count in agents.replica_counts(deployment_ids=deployment_ids):
        if count.state == "ready":
            found[count.assignment_id] = found.get(count.assignment_id, 0) + count.replicas
    return found


def _draft(
    drafts: _Drafts, deployment: Deployment, allocations: Sequence[Allocation], before: Iterable[Assignment]
) -> None:
    live = {(str(row.revision_id), str(row.pool_id)): row for row in before}
    standing: list[Assignment] = []
    grows = False
    for allocation in allocations:
        row = live.pop((allocation.revision_id, allocation.pool_id), None)
        if row is None:
            row = _new(drafts.plan, deployment, allocation)
            drafts.write(row)
            grows = True
        else:
            grows |= row.leaving or row.draining or allocation.room_replicas > row.room_replicas
            _rebind(drafts, row, allocation)
        standing.append(row)
    for row in live.values():
        _retire(drafts, row, deployment, allocations)
    _hand_over(drafts, standing, live.values(), grows=grows)


def _new(plan: PlacementPlan, deployment: Deployment, allocation: Allocation) -> Assignment:
    return Assignment(
        deployment=deployment,
        revision_id=UUID(allocation.revision_id),
        pool_id=UUID(allocation.pool_id),
        plan=plan,
        gpus_per_replica=allocation.gpus_per_replica,
        **{name: getattr(allocation, name) for name in _BOUNDS},
    )


def _rebind(drafts: _Drafts, row: Assignment, allocation: Allocation) -> None:
    """New bounds, and for the time being what serves beyond them; one on its way out is called back."""
    ready = drafts.ready.get(row.pk, 0)
    wanted = {name: getattr(allocation, name) for name in _BOUNDS} | {"draining": False, "leaving": False}
    if wanted == {name: getattr(row, name) for name in wanted}:
        return
    promised = min(ready, max(row.min_replicas, row.handover_replicas))
    serving = ready if ready > allocation.max_replicas else promised
    row.handover_replicas = serving if serving > allocation.min_replicas else 0
    for name, value in wanted.items():
        setattr(row, name, value)
    drafts.write(row)


def _retire(
    drafts: _Drafts, row: Assignment, deployment: Deployment, successors: Sequence[Allocation]
) -> None:
    if row.draining:
        return
    allowed = not deployment.residency or row.pool.cluster.region.jurisdiction in deployment.residency
    here = sum(
        successor.room_replicas or 1
        for successor in successors
        if drafts.problem.pool_by_id[successor.pool_id].cluster_id == str(row.pool.cluster_id)
    )
    serving = max(drafts.ready.get(row.pk, 0), row.min_replicas)
    pool = drafts.problem.pool_by_id.get(str(row.pool_id))
    waits = bool(successors) or (pool is not None and pool.leaving)
    before = {name: getattr(row, name) for name in _STATE}
    if not allowed or not waits or here >= max(1, serving):
        row.draining, row.leaving = True, False
    else:
        row.leaving, row.max_replicas = True, max(1, serving)
    row.handover_replicas = 0
    if before != {name: getattr(row, name) for name in _STATE}:
        drafts.write(row)


def _hand_over(
    drafts: _Drafts, standing: Sequence[Assignment], retired: Collection[Assignment], *, grows: bool
) -> None:
    """Where the deployment goes, as many are made ready as serve where it leaves; where nothing grows, none wait."""
    leaves = sum(drafts.ready.get(row.pk, 0) for row in retired if row.leaving)
    leaves += sum(max(0, row.handover_replicas - row.room_replicas) for row in standing)
    for row in standing:
        shrinks = row.handover_replicas > row.room_replicas
        wanted = row.handover_replicas if shrinks and grows else 0
        if leaves and grows and not shrinks and row.room_replicas > row.min_replicas:
            wanted = min(row.room_replicas, row.max_replicas, max(row.min_replicas, leaves))
        if wanted != row.handover_replicas:
            row.handover_replicas = wanted
            drafts.write(row)
