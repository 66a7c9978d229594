"""From what an agent says of a replica to the row that is stored. Pure: no queries, no clock.

What does not fit (an unknown state, an id that is none, a time out of this world) is never half-stored: such a
replica is a stray, kept as it was sent and without effect.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from apps.agents.models import Replica, ReplicaState
from apps.placements.models import Assignment
from apps.telemetry.services.event_record import EventFacts, Severity
from apps.telemetry.wire_values import moment, text_for, uuid_or_none
from workloadplane.protocol.observed import ObservedReplica

#: What ``observed_hash`` hashes: the same bytes on both sides.
_encoder = msgspec.json.Encoder(order="deterministic")

#: State -> reason and severity of the event that says so.
EVENT_OF_STATE: dict[str, tuple[str, Severity]] = {
    ReplicaState.PENDING: ("ReplicaPending", "info"),
    ReplicaState.STARTING: ("ReplicaStarting", "info"),
    ReplicaState.READY: ("ReplicaReady", "info"),
    ReplicaState.UNHEALTHY: ("ReplicaUnhealthy", "warning"),
    ReplicaState.DRAINING: ("ReplicaDraining", "info"),
    ReplicaState.STOPPED: ("ReplicaStopped", "info"),
    ReplicaState.FAILED: ("ReplicaFailed", "warning"),
}
#: States in which a replica holds no GPU.
ENDED_STATES = frozenset({ReplicaState.STOPPED.value, ReplicaState.FAILED.value})


def encoded(replica: ObservedReplica) -> bytes:
    """The replica as both sides hash it."""
    return _encoder.encode(replica)


def replica_row(replica: ObservedReplica, assignment: Assignment | None) -> Replica | None:
    """The row for a replica of a known assignment; None if it is a stray."""
    identifier = uuid_or_none(replica.replica_id)
    named = (replica.deployment_id, replica.revision_id, replica.pool_id)
    if assignment is None or identifier is None or replica.state not in ReplicaState.values:
        return None
    if named != (str(assignment.deployment_id), str(assignment.revision_id), str(assignment.pool_id)):
        return None
    try:
        started_at = moment(replica.created_at)
        ready_at = None if replica.ready_at is None else moment(replica.ready_at)
        stopped_at = None if replica.stopped_at is None else moment(replica.stopped_at)
    except ValueError:
        return None
    phases = replica.cold_start
    return Replica(
        id=identifier,
        cluster_id=assignment.pool.cluster_id,
        assignment_id=assignment.pk,
        deployment_id=assignment.deployment_id,
        revision_id=assignment.revision_id,
        pool_id=assignment.pool_id,
        engine=text_for(replica.engine, 16),
        runtime_ref=text_for(replica.runtime_ref, 255),
        state=replica.state,
        phase=None if replica.phase is None else text_for(replica.phase, 16),
        reason=text_for(replica.reason, 63),
        message=text_for(replica.message, 2047),
        restarts=max(0, min(replica.restarts, 2**31 - 1)),
        gpu_procurement_s=phases.gpu_procurement_s,
        image_pull_s=phases.image_pull_s,
        weight_load_s=phases.weight_load_s,
        engine_start_s=phases.engine_start_s,
        started_at=started_at,
        ready_at=ready_at,
        stopped_at=stopped_at,
        gone_at=None,
        observed=encoded(replica),
    )


def events_of(
    rows: Sequence[Replica], states_before: dict[UUID, str], assignments: dict[UUID, Assignment]
) -> list[EventFacts]:
    """An event for each replica whose state is another than before."""
    events = []
    for row in rows:
        if states_before.get(row.pk) == row.state:
            continue
        reason, severity = EVENT_OF_STATE[row.state]
        deployment = assignments[row.assignment_id].deployment
        events.append(
            EventFacts(
                organization_id=deployment.project.organization_id,
                project_id=deployment.project_id,
                deployment_id=row.deployment_id,
                cluster_id=row.cluster_id,
                replica_id=row.pk,
                severity=severity,
                reason=reason,
                message=_event_message(row, deployment.name),
            )
        )
    return events


def _event_message(row: Replica, deployment: str) -> str:
    subject = f"replica {str(row.pk)[:8]} of {deployment} is {row.state}"
    if row.state == ReplicaState.READY:
        took_s = [
            s for s in (row.gpu_procurement_s, row.image_pull_s, row.weight_load_s, row.engine_start_s) if s
        ]
        return f"{subject} after {sum(took_s):.1f} s" if took_s else subject
    told = row.message or row.reason
    return f"{subject}: {told}" if told else subject
