"""From what runs to what is said of it: conditions, handing over, and the end of a deletion."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import msgspec
from django.db import transaction
from django.utils import timezone

from apps.agents import selectors as agents
from apps.agents.selectors import ReplicaCount
from apps.deployments import selectors
from apps.deployments.judgement import Facts, judge
from apps.deployments.models import ConditionType, Deployment
from apps.deployments.services.conditions_set import conditions_set
from apps.placements import selectors as placements
from apps.placements.models import Assignment
from apps.telemetry.services import EventFacts, events_record
from workloadplane.protocol.refusal import Refusal


@transaction.atomic
def deployment_observe(*, deployment_ids: Collection[UUID], compiles_tables: bool = True) -> bool:
    """Look again at these deployments. May run twice or late: it compares what is there with what is said.

    Whether an assignment of one changed, so that tables do; they are compiled here, or by the caller where it does so
    anyway (``compiles_tables``). Locks the deployments; call it before ``tables_compile``.
    """
    from apps.agents.services.tables_compile import deployments_tables_compile
    from apps.placements.services import assignments_settle

    locked = selectors.deployments_locked(ids=deployment_ids)
    if not locked:
        return False
    ids = [deployment.pk for deployment in locked]
    concerned = assignments_settle(deployment_ids=ids, now=timezone.now())
    assignments: dict[UUID, list[Assignment]] = {pk: [] for pk in ids}
    for row in placements.assignments_of_deployments(deployment_ids=ids):
        assignments[row.deployment_id].append(row)
    counts: dict[UUID, list[ReplicaCount]] = {pk: [] for pk in ids}
    for count in agents.replica_counts(deployment_ids=ids):
        counts[count.deployment_id].append(count)
    cluster_ids = {row.pool.cluster_id for rows in assignments.values() for row in rows}
    shortfalls = _shortfalls(cluster_ids)
    over = {row.pk: row for row in locked if _is_over(row, assignments[row.pk], counts[row.pk])}
    _deletions_finish(over.values())
    conditions_set(
        verdicts=[
            (deployment, verdict)
            for deployment in locked
            if deployment.pk not in over
            for verdict in judge(
                _facts(deployment, assignments[deployment.pk], counts[deployment.pk], shortfalls)
            )
        ]
    )
    if compiles_tables:
        for organization_id, changed in sorted(concerned.items()):
            deployments_tables_compile(organization_id=organization_id, deployment_ids=changed)
    return bool(concerned)


def _shortfalls(cluster_ids: Collection[UUID]) -> Mapping[str, tuple[Refusal, ...]]:
    """Assignment id -> why its agent runs fewer replicas than it should."""
    found: dict[str, tuple[Refusal, ...]] = {}
    for assignment_id, conditions in agents.conditions_by_assignment(cluster_ids=cluster_ids).items():
        refusals = [
            c["refusal"] for c in conditions if c["type"] == "Degraded" and c["status"] and c["refusal"]
        ]
        if refusals:
            found[assignment_id] = tuple(msgspec.convert(refusal, Refusal) for refusal in refusals)
    return found


def _is_over(
    deployment: Deployment, assignments: Sequence[Assignment], counts: Sequence[ReplicaCount]
) -> bool:
    """Whether its deletion is finished."""
    if deployment.deletion_requested_at is None or assignments:
        return False
    return not any(count.state in agents.LIVING for count in counts)


def _deletions_finish(over: Collection[Deployment]) -> None:
    if not over:
        return
    Deployment.objects.filter(pk__in=[row.pk for row in over]).update(deleted_at=timezone.now())
    events_record(
        events=[
            EventFacts(
                organization_id=row.project.organization_id,
                project_id=row.project_id,
                deployment_id=row.pk,
                reason="DeploymentDeleted",
                message=f"{row.name}: its last replica has ended",
            )
            for row in over
        ]
    )


def _facts(
    deployment: Deployment,
    assignments: Sequence[Assignment],
    counts: Sequence[ReplicaCount],
    shortfalls: Mapping[str, tuple[Refusal, ...]],
) -> Facts:
    said = {row.type: row for row in deployment.conditions.all()}
    placed, ready = said.get(ConditionType.PLACED), said.get(ConditionType.READY)
    degraded = said.get(ConditionType.DEGRADED)
    standing = [row for row in assignments if not row.draining and not row.leaving]
    standing_ids = {row.pk for row in standing}
    serving = [count for count in counts if count.state == "ready"]
    living = [count for count in counts if count.state in agents.LIVING]
    why = msgspec.convert(placed.refusals, tuple[Refusal, ...]) if placed else ()
    is_placed = placed is not None and placed.status
    return Facts(
        generation=deployment.generation,
        placed_generation=placed.observed_generation if placed else None,
        refusal=None if is_placed or not why else why[0],
        relaxed=why if is_placed else (),
        deleting=deployment.deletion_requested_at is not None,
        min_replicas=deployment.autoscaling.min_replicas,
        in_force=len(standing),
        promised=sum(row.min_replicas for row in standing),
        ready_in_force=sum(count.replicas for count in serving if count.assignment_id in standing_ids),
        ready=sum(count.replicas for count in serving),
        outgoing=len(standing) < len(assignments),
        waiting_for=tuple(sorted({count.cluster for count in living})),
        shortfalls=tuple(refusal for row in standing for refusal in shortfalls.get(str(row.pk), ())),
        was_ready=ready is not None and ready.status,
        was_degraded=degraded is not None and degraded.status,
        ready_generation=ready.observed_generation if ready else 0,
    )
