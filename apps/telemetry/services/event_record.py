"""Events: what happened, in one order."""

from typing import Literal
from uuid import UUID

from apps.telemetry.models import Event

Severity = Literal["info", "warning", "error"]
MESSAGE_CHARS_MAX = 2047


def event_record(
    *,
    organization_id: UUID,
    project_id: UUID | None = None,
    deployment_id: UUID | None = None,
    cluster_id: UUID | None = None,
    replica_id: UUID | None = None,
    severity: Severity = "info",
    reason: str,
    message: str,
) -> Event:
    """Record one event in the caller's transaction. ``reason`` is one word in CamelCase; never put secrets in either."""
    return Event.objects.create(
        organization_id=organization_id,
        project_id=project_id,
        deployment_id=deployment_id,
        cluster_id=cluster_id,
        replica_id=replica_id,
        severity=severity,
        reason=reason[:63],
        message=message.replace("\x00", "\ufffd")[:MESSAGE_CHARS_MAX],
    )
