"""Reading the audit trail."""

from django.db.models import QuerySet

from apps.api.actors import Actor
from apps.api.models import AuditEvent


def audit_events(
    *,
    actor: Actor,
    action: str | None = None,
    subject_type: str | None = None,
    subject_name: str | None = None,
) -> QuerySet[AuditEvent]:
    """What was done in the actor's organization. A key sees its own project and what concerns no single project."""
    events = AuditEvent.objects.filter(organization_id=actor.organization_id).select_related("project")
    if actor.kind == "api_key":
        events = events.filter(project_id=actor.project_id) | events.filter(project_id=None)
    events = events if action is None else events.filter(action=action)
    events = events if subject_type is None else events.filter(subject_type=subject_type)
    return events if subject_name is None else events.filter(subject_name=subject_name)
