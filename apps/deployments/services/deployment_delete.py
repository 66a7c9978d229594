"""A deployment ends: it drains first, and is gone when its last replica has ended."""

from django.utils import timezone

from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction
from apps.deployments.documents import document_of
from apps.deployments.models import Deployment
from apps.deployments.services.deployment_change import deployment_lock
from apps.deployments.services.deployment_observe import deployment_observe


@one_transaction
def deployment_delete(*, actor: Actor, deployment: Deployment, if_match: str | None = None) -> None:
    """Ask for the end. Raises Problem ``not_found``, ``stale_etag``, ``conflict`` if that was asked before."""
    from apps.placements.services import assignments_drain

    locked = deployment_lock(deployment, if_match)
    locked.deletion_requested_at = timezone.now()
    locked.generation += 1
    locked.updated_at = locked.deletion_requested_at
    locked.save(update_fields=["deletion_requested_at", "generation", "updated_at"])
    audit_record(actor=actor, action="deleted", subject=locked, before=document_of(locked).as_json())
    assignments_drain(deployment_id=locked.pk, organization_id=locked.project.organization_id)
    deployment_observe(deployment_ids=[locked.pk])
