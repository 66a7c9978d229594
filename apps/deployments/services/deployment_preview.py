"""A dry run: what a document would get, and what that would cost."""

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.api.actors import Actor
from apps.api.field_errors import FieldError
from apps.api.problems import Problem, field_problem
from apps.deployments import selectors
from apps.deployments.documents import (
    DeploymentDocument,
    document_merge,
    document_of,
    document_read,
    policy_write,
)
from apps.deployments.models import AutoscalingPolicy, Deployment, Revision
from apps.deployments.services.deployment_resolve import Resolved, deployment_resolve

if TYPE_CHECKING:
    from apps.placements.services import Preview


@dataclass(frozen=True)
class DryRun:
    """The document as it would be stored, and the part of the plan that is its own."""

    document: DeploymentDocument
    preview: "Preview"


def deployment_preview(
    *, actor: Actor, document: Any, deployment: Deployment | None = None, partial: bool = False
) -> DryRun:
    """Judge and place a document without writing anything: for a new deployment, or in place of ``deployment``.

    ``partial``: the document is a merge patch of it. Raises Problem as the write itself would.
    """
    current = deployment.current_revision if deployment else None
    if deployment is not None and partial:
        wanted = document_merge(document_of(deployment), document)
    else:
        wanted = document_read(document)
    if deployment is not None and wanted.name != deployment.name:
        raise field_problem("/name", "cannot be changed", value=wanted.name, remedy="leave it as it is")
    if deployment is None and selectors.deployments(actor=actor, name=wanted.name).exists():
        taken = FieldError(pointer="/name", detail="is taken", remedy="choose another name")
        raise Problem("name_taken", "the name is taken; choose another", errors=[taken])
    resolved = deployment_resolve(document=wanted, project_id=project_wanted(actor), current=current)
    return _placed(actor, wanted, resolved, deployment)


def _placed(
    actor: Actor, wanted: DeploymentDocument, resolved: Resolved, deployment: Deployment | None
) -> DryRun:
    """Rows as they would be written, kept in memory, and the plan for them."""
    from apps.placements.services import placement_preview

    now = timezone.now()
    row = Deployment(
        id=deployment.pk if deployment else uuid.uuid4(),
        project_id=project_wanted(actor),
        name=wanted.name,
        generation=deployment.generation + 1 if deployment else 1,
        created_at=deployment.created_at if deployment else now,
    )
    row.autoscaling = AutoscalingPolicy(deployment=row)
    policy_write(wanted, row, row.autoscaling)
    current = deployment.current_revision if deployment else None
    if current is None or resolved != Resolved.of(current):
        current = Revision(
            deployment=row,
            number=current.number + 1 if current else 1,
            model_version=resolved.model_version,
            engine_image=resolved.engine_image,
            adapters=list(resolved.adapters),
        )
    row.current_revision = current
    preview = placement_preview(
        organization_id=organization_wanted(actor),
        wanted=selectors.deployment_to_place(row, current),
        now=now,
    )
    return DryRun(document=document_of(row), preview=preview)
