"""What must be noticed without anybody asking: leases that end or return, tables that time has changed.

Every step finds by itself what is to be done and may be repeated, come late or run beside itself without harm.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F, Q

from apps.agents.models import AgentInstance, AgentSession, EnrolmentToken
from apps.agents.services.tables_compile import organization_tables_compile
from apps.fleet import selectors as fleet
from apps.telemetry.services import event_record

logger = logging.getLogger(__name__)

FORMER_INSTANCES_KEPT_FOR = timedelta(days=30)
ENROLMENT_TOKENS_KEPT_FOR = timedelta(days=30)


def agents_reconcile(*, now: datetime) -> None:
    """Write what has become of leases, and forget what is long over."""
    for cluster_id in _cluster_ids_changed(now):
        _connection_record(cluster_id, now)
    AgentInstance.objects.filter(created_at__lt=now - FORMER_INSTANCES_KEPT_FOR).delete()
    EnrolmentToken.objects.filter(expires_at__lt=now - ENROLMENT_TOKENS_KEPT_FOR).delete()


def tables_reconcile() -> None:
    """Compile all tables: keys expire and retire by themselves, and a new signing key has begun to sign.

    An organization whose tables cannot be compiled is logged; it keeps no other waiting.
    """
    for organization_id in fleet.organization_ids_with_clusters():
        try:
            organization_tables_compile(organization_id=organization_id)
        except ImproperlyConfigured:
            raise  # there is no key to sign with: that concerns all
        except Exception:
            logger.exception("tables of organization %s could not be compiled", organization_id)


def _cluster_ids_changed(now: datetime) -> list[UUID]:
    runs = Q(lease_expires_at__gt=now)
    changed = AgentSession.objects.filter((runs & Q(connected=False)) | (~runs & Q(connected=True)))
    return list(changed.order_by("cluster_id").values_list("cluster_id", flat=True))


@transaction.atomic
def _connection_record(cluster_id: UUID, now: datetime) -> None:
    """Say once that a cluster connected or disconnected; placement looks at the world again."""
    from apps.placements.services import placement_request

    session = (
        AgentSession.objects.select_for_update(of=("self",))
        .select_related("cluster")
        .filter(cluster_id=cluster_id)
        .exclude(lease_expires_at=None)
        .annotate(runs=Q(lease_expires_at__gt=now))
        .exclude(connected=F("runs"))
        .first()
    )
    if session is None:
        return
    connected = not session.connected
    name = session.cluster.name
    AgentSession.objects.filter(pk=session.pk).update(connected=connected)
    event_record(
        organization_id=session.cluster.organization_id,
        cluster_id=session.cluster_id,
        severity="info" if connected else "warning",
        reason="ClusterConnected" if connected else "ClusterDisconnected",
        message=f"the agent of {name} is heard"
        if connected
        else f"nothing was heard of the agent of {name} for its lease; it goes on with what it has, and gets no more",
    )
    placement_request(organization_id=session.cluster.organization_id)
