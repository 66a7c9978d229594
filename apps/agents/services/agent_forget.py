"""A cluster's agent is not known any more: its key is refused, and nothing that it said counts."""

from datetime import datetime
from uuid import UUID

from apps.agents.models import AgentSession, ClusterTable, EnrolmentToken, Replica, ReplicaState, StrayReplica
from apps.agents.observations import ENDED_STATES
from apps.agents.services.intervals_store import intervals_store


def agent_forget(*, cluster_id: UUID) -> None:
    """Refuse the agent's key from now on, and every enrolment token. In the caller's transaction."""
    EnrolmentToken.objects.filter(cluster_id=cluster_id).delete()
    AgentSession.objects.filter(cluster_id=cluster_id).delete()


def replicas_end(*, cluster_id: UUID, now: datetime) -> int:
    """Count on no replica of a cluster any more, and pay for none; how many those were. It gets no tables either."""
    rows = list(Replica.objects.filter(cluster_id=cluster_id, gone_at=None))
    for row in rows:
        row.gone_at = now
        if row.state not in ENDED_STATES:
            row.state, row.reason = ReplicaState.STOPPED, "ClusterRetired"
            row.stopped_at = row.stopped_at or now
    Replica.objects.bulk_update(rows, ["gone_at", "state", "reason", "stopped_at"], batch_size=1000)
    intervals_store(replicas=rows, now=now)
    StrayReplica.objects.filter(cluster_id=cluster_id).delete()
    ClusterTable.objects.filter(cluster_id=cluster_id).delete()
    return len(rows)
