"""Founding an organization."""

from apps.accounts.models import Organization
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction


@one_transaction
def organization_create(*, actor: Actor, name: str) -> Organization:
    """A new, empty organization. Raises Problem ``name_taken``."""
    organization = Organization.objects.create(name=name)
    organization.refresh_from_db()
    audit_record(
        actor=actor,
        action="created",
        subject=organization,
        after={"name": name},
        organization_id=organization.pk,
    )
    return organization
