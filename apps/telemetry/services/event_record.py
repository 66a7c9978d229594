"""Events: what happened, in one order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from apps.telemetry.models import Event

Severity = Literal["info", "warning", "error"]
MESSAGE_CHARS_MAX = 2047


@dataclass(frozen=True, kw_only=True)
class EventFacts:
    """One event. ``reason`` is one word in CamelCase; never put secrets in it or in ``message``."""

    organization_id: UUID
    project_id: UUID | None = None
    deployment_id: UUID | None = None
    cluster_id: UUID | None = None
    replica_id: UUID | None = None
    severity: Severity = "info"
    reason: str
    message: str


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
    """Record one event in the caller's transaction; see ``EventFacts``."""
    facts = EventFacts(
        organization_id=organization_id,
        project_id=project_id,
        deployment_id=deployment_id,
        cluster_id=cluster_id,
        replica_id=replica_id,
        severity=severity,
        reason=reason,
        message=message,
    )
    return events_record(events=[facts])[0]


def events_record(*, events: Iterable[EventFacts]) -> list[Event]:
    """Record several events in their order, in one statement."""
    return Event.objects.bulk_create(
        Event(
            organization_id=facts.organization_id,
            project_id=facts.project_id,
            deployment_id=facts.deployment_id,
            cluster_id=facts.cluster_id,
            replica_id=facts.replica_id,
            severity=facts.severity,
            reason=facts.reason[:63],
            message=facts.message.replace("\x00", "\ufffd")[:MESSAGE_CHARS_MAX],
        )
        for facts in events
    )
