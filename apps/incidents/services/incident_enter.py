"""The one door of an incident's state: the row, its event, and what the pager is told."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from apps.deployments import selectors as deployments
from apps.incidents.models import Incident, IncidentEntry
from apps.incidents.services.message_queue import message_queue
from apps.telemetry.models import Event
from apps.telemetry.services import event_record
from apps.telemetry.services.event_record import Severity
from controlplane.failover import Place

#: What became of an incident -> the event's reason, and the type of the message.
Turn = Literal["opened", "worse", "outlived", "reopened", "recovering", "folded", "unfolded", "resolved"]
_REASONS: Final[dict[Turn, tuple[str, str]]] = {
    "opened": ("IncidentOpened", "incident.opened"),
    "worse": ("IncidentWorse", "incident.updated"),
    "outlived": ("IncidentOutlivesDrill", "incident.updated"),
    "reopened": ("IncidentReopened", "incident.updated"),
    "recovering": ("IncidentRecovering", "incident.updated"),
    "folded": ("IncidentFolded", "incident.folded"),
    "unfolded": ("IncidentUnfolded", "incident.updated"),
    "resolved": ("IncidentResolved", "incident.resolved"),
}


def incident_enter(incident: Incident, turn: Turn, *, now: datetime) -> None:
    """Say what became of a row that is stored already: an event, an entry of its time line, and the pager's message.

    What is folded under another wakes nobody; that it is resolved is told, for it may have been told that it was open.
    """
    reason, message_type = _REASONS[turn]
    deployment_id = deployment_of(incident)
    project_id = project_of(incident)
    severity: Severity = "info"
    if turn in ("opened", "worse", "outlived", "reopened", "unfolded"):
        severity = "error" if incident.severity == "error" else "warning"
    event = event_record(
        organization_id=incident.organization_id,
        project_id=project_id,
        deployment_id=deployment_id,
        severity=severity,
        reason=reason,
        message=_message(incident, turn),
    )
    entry_add(incident, event, now)
    if incident.parent_id is None or turn in ("folded", "resolved"):
        message_queue(incident=incident, message_type=message_type, now=now)


def entry_add(incident: Incident, event: Event, now: datetime) -> None:
    """One more entry of the time line."""
    IncidentEntry.objects.get_or_create(
        incident=incident,
        event_id=event.pk,
        defaults={
            "project_id": event.project_id,
            "at": now,
            "severity": event.severity,
            "reason": event.reason,
            "message": event.message,
        },
    )


def place_of(incident: Incident) -> Place:
    """Its place as the pure room knows it."""
    return Place(incident.kind, incident.name)  # type: ignore[arg-type]


def deployment_of(incident: Incident) -> UUID | None:
    """The deployment whose replicas failed, where that is all."""
    return UUID(incident.name.rpartition("/")[2]) if incident.kind == "replica" else None


def project_of(incident: Incident) -> UUID | None:
    """The only project that may read of it; None: all whom it touches."""
    deployment_id = deployment_of(incident)
    if deployment_id is None:
        return None
    return deployments.project_ids(deployment_ids=[deployment_id]).get(deployment_id)


def title_of(incident: Incident) -> str:
    """As its readers know the place; a deployment is named only to those who may know it."""
    if incident.kind != "replica":
        return str(incident)
    return f"replicas in {incident.name.rpartition('/')[0]}"


def _message(incident: Incident, turn: Turn) -> str:
    title = title_of(incident)
    if turn == "folded" and incident.parent is not None:
        return f"{title} is part of {title_of(incident.parent)}: it is told of there"
    if turn == "unfolded":
        return f"{title} is told of by itself again: {incident.evidence}"
    drilled = f" (brought about by drill {incident.drill})" if incident.drill is not None else ""
    said: dict[Turn, str] = {
        "opened": f"{title}: {incident.evidence}{drilled}",
        "worse": f"{title} is worse than it was: {incident.evidence}",
        "outlived": f"{title} is no drill any more, it fails beyond it: {incident.evidence}",
        "reopened": f"{title} fails again: {incident.evidence}",
        "recovering": f"{title} is coming back: {incident.evidence}",
        "resolved": f"{title} has been sound since {incident.sound_since:%H:%M:%S} UTC; it is over"
        if incident.sound_since
        else f"{title} is over",
    }
    return said[turn]
