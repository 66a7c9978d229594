"""A database of an earlier time under this control plane: noticed, and answered by a new epoch where that is safe.

By itself: a database is known by its server's system identifier, its timeline and its oid. A restored back-up and a
replica that took over differ in one of them, so the epoch rises before any agent is answered. By agents: one that has
heard of a later epoch or generation than the database holds is refused, and an event says what to do. Then either the
database was set back in place, or another control plane has taken over; only an operator knows which.
"""

from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction

from apps.agents.models import PlaneState
from apps.agents.services.plane_epoch_raise import plane_epoch_raise
from apps.fleet import selectors as fleet
from apps.telemetry import selectors as telemetry
from apps.telemetry.services import event_record

#: Of the database that answers. On one that is still recovering there is none: it can't be asked.
IDENTITY_SQL = """
(SELECT system_identifier::text FROM pg_control_system())
|| '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
|| '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())
"""
#: An event of the same cluster is not repeated before this.
_AGAIN = timedelta(hours=1)


@transaction.atomic
def plane_restored_settle() -> int | None:
    """Raise the epoch if this is another database than the one met last; the new epoch, None if it is the same.

    May run twice, late, or beside itself.
    """
    state, _ = PlaneState.objects.select_for_update().get_or_create(pk=1)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {IDENTITY_SQL}")
        identity: str = cursor.fetchone()[0]
    before = state.database_identity
    if identity == before:
        return None
    PlaneState.objects.filter(pk=1).update(database_identity=identity)
    return plane_epoch_raise(above=0) if before else None


@transaction.atomic
def plane_behind_notice(*, cluster_id: UUID, remedy: str) -> None:
    """Say that a cluster's agent holds what this database does not know, once an hour."""
    cluster = fleet.cluster_by_id(cluster_id=cluster_id)
    if cluster is None or telemetry.event_lately(cluster_id=cluster_id, reason="PlaneBehind", within=_AGAIN):
        return
    event_record(
        organization_id=cluster.organization_id,
        cluster_id=cluster_id,
        severity="error",
        reason="PlaneBehind",
        message=f"the agent of {cluster.name} has heard of a later control plane than this one and is not rolled back:"
        f" {remedy}",
    )
