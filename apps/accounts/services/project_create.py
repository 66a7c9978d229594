"""Adding a project to an organization."""

from uuid import UUID

from apps.accounts.models import Project
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction


@one_transaction
def project_create(*, actor: Actor, organization_id: UUID, name: str) -> Project:
    """A new, empty project. Raises Problem ``name_taken``."""
    project = Project.objects.create(organization_id=organization_id, name=name)
    project.refresh_from_db()
    audit_record(
        actor=actor,
        action="created",
        subject=project,
        after={"name": name},
        organization_id=organization_id,
        project_id=project.pk,
    )
    return project
