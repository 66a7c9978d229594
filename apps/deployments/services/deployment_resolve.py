"""What a document's names mean in this project and fleet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.api.field_errors import FieldError
from apps.api.problems import Problem
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
    adapters: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, revision: Revision) -> "Resolved":
        """What a revision runs."""
        return cls(revision.model_version, revision.engine_image, tuple(revision.adapters))


def deployment_resolve(
    *, document: DeploymentDocument, project_id: UUID, current: Revision | None = None
) -> Resolved:
    """Look names up. What ``current`` already runs under the same names stays pinned, so that a change of policy never
    rolls out a newer version or image by the way; ``name@version`` or a redeployment does.

    Raises Problem ``invalid_document`` with every name that is not known, and what is.
    """
    errors: list[FieldError] = [*_unknown_jurisdictions(document), *_unknown_places(document)]
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
    adapters: list[Mapping[str, Any]] = []
    if model_version is not None:
        adapters = _adapters(document, model_version, current, errors)
    if errors or model_version is None or engine_image is None:
        detail = "; ".join(f"{error.pointer}: {error.detail}" for error in errors[:3])
        raise Problem("invalid_document", detail, errors=errors)
    return Resolved(model_version, engine_image, tuple(adapters))


def _adapters(
    document: DeploymentDocument, version: ModelVersion, current: Revision | None, errors: list[FieldError]
) -> list[Mapping[str, Any]]:
    """Pinned as ``current`` has them, if it runs the same model version, else as the catalog has them now."""
    if not document.adapters:
        return []
    known = {
        adapter.name: {
            "name": adapter.name,
            "digest": adapter.digest,
            "source_uri": adapter.source_uri,
            "rank": adapter.rank,
        }
        for adapter in catalog.adapters(model_version=version)
    }
    if current is not None and current.model_version_id == version.pk:
        known |= {adapter["name"]: adapter for adapter in current.adapters}
    for index, name in enumerate(document.adapters):
        if name not in known:
            errors.append(
                FieldError(
                    pointer=f"/adapters/{index}",
                    detail=f"{version} has no such adapter",
                    value=name,
                    remedy=f"use one of: {', '.join(sorted(known)) or 'none yet; add one to the model version first'}",
                )
            )
    return [known[name] for name in document.adapters if name in known]


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


def _unknown_places(document: DeploymentDocument) -> list[FieldError]:
    """Providers that nobody knows, and origins of demand that are no region."""
    named = {
        f"/{field}/{index}": name
        for field in ("providers_allowed", "providers_denied")
        for index, name in enumerate(getattr(document, field))
    }
    origins = {
        f"/demand/{index}/origin": stated.origin
        for index, stated in enumerate(document.demand)
        if stated.origin is not None
    }
    errors: list[FieldError] = []
    if named:
        known = sorted(fleet.providers().values_list("name", flat=True))
        errors += _not_among(named, known, "is not a known provider")
    if origins:
        known = sorted(fleet.regions().values_list("name", flat=True))
        errors += _not_among(origins, known, "is not a known region")
    return errors


def _not_among(named: Mapping[str, str], known: Sequence[str], detail: str) -> list[FieldError]:
    remedy = f"use one of: {', '.join(known[:50]) or 'none yet'}"
    return [
        FieldError(pointer=pointer, detail=detail, value=name[:80], remedy=remedy)
        for pointer, name in named.items()
        if name not in known
    ]
