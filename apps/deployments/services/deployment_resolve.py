"""What a document's names mean in this project and fleet."""

from dataclasses import dataclass
from uuid import UUID

from apps.api.problems import FieldError, Problem
from apps.catalog import selectors as catalog
from apps.catalog.models import EngineImage, ModelVersion
from apps.deployments.documents import DeploymentDocument
from apps.deployments.models import Revision
from apps.fleet import selectors as fleet


@dataclass(frozen=True)
class Resolved:
    """What exactly shall run."""

    model_version: ModelVersion
    engine_image: EngineImage


def deployment_resolve(
    *, document: DeploymentDocument, project_id: UUID, current: Revision | None = None
) -> Resolved:
    """Look names up. What ``current`` already runs under the same names stays pinned, so that a change of policy never
    rolls out a newer version or image by the way; ``name@version`` or a redeployment does.

    Raises Problem ``invalid_document`` with every name that is not known, and what is.
    """
    errors: list[FieldError] = _unknown_jurisdictions(document)
    model_version = engine_image = None
    if current is not None and document.model in (
        str(current.model_version),
        current.model_version.model.name,
    ):
        model_version = current.model_version
    if current is not None and document.engine == current.engine_image.engine:
        engine_image = current.engine_image
    try:
        model_version = model_version or catalog.model_version_resolve(
            project_id=project_id, reference=document.model
        )
    except Problem as problem:
        errors.extend(problem.errors)
    try:
        engine_image = engine_image or catalog.engine_image_resolve(engine=document.engine)
    except Problem as problem:
        errors.extend(problem.errors)
    if errors or model_version is None or engine_image is None:
        detail = "; ".join(f"{error.pointer}: {error.detail}" for error in errors[:3])
        raise Problem("invalid_document", detail, errors=errors)
    return Resolved(model_version, engine_image)


def _unknown_jurisdictions(document: DeploymentDocument) -> list[FieldError]:
    if not document.residency:
        return []
    known = fleet.jurisdictions()
    return [
        FieldError(
            pointer=f"/residency/{index}",
            detail="no region lies in this jurisdiction",
            value=name,
            remedy=f"use one of: {', '.join(known) or 'none yet; add a region first'}",
        )
        for index, name in enumerate(document.residency)
        if name not in known
    ]
