"""Reading the audit trail."""

from django.db.models import Q, QuerySet

from apps.accounts.selectors import organization_wanted, project_wanted
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
    events = AuditEvent.objects.filter(organization_id=organization_wanted(actor)).select_related("project")
    if actor.kind == "api_key":
        events = events.filter(Q(project_id=project_wanted(actor)) | Q(project_id__isnull=True))
    events = events if action is None else events.filter(action=action)
    events = events if subject_type is None else events.filter(subject_type=subject_type)
    return events if subject_name is None else events.filter(subject_name=subject_name)
