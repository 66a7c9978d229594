"""Models and their versions. A version is pinned by digest and never changed: a new set of weights is a new version."""

from collections.abc import Sequence
from uuid import UUID

from apps.api.actors import Actor
from apps.api.field_errors import FieldError
from apps.api.problems import Problem
from apps.api.services import audit_record, one_transaction
from apps.catalog.models import Modality, Model, ModelVersion
from apps.catalog.sources import format_check, source_check


@one_transaction
def model_create(*, actor: Actor, project_id: UUID, name: str) -> Model:
    """A model without versions. Raises Problem ``name_taken``."""
    model = Model.objects.create(project_id=project_id, name=name)
    model.refresh_from_db()
    audit_record(actor=actor, action="created", subject=model, after={"name": name})
    return model


@one_transaction
def model_delete(*, actor: Actor, model: Model) -> None:
    """Raises Problem ``in_use`` if it has versions."""
    audit_record(actor=actor, action="deleted", subject=model, before={"name": model.name})
    model.delete()


@one_transaction
def model_version_create(
    *,
    actor: Actor,
    model: Model,
    version: str,
    digest: str,
    source_uri: str,
    precision: str,
    size_bytes: int,
    max_context_tokens: int,
    weight_format: str = "safetensors",
    gpus_per_replica: int = 1,
    modalities: Sequence[str] = (Modality.TEXT,),
) -> ModelVersion:
    """Weights, pinned.

    Raises Problem ``invalid_document``, ``name_taken``; ``forbidden`` for ``file://`` without the right to operate.
    """
    _weights_check(actor, weight_format=weight_format, source_uri=source_uri)
    if ModelVersion.objects.filter(model=model, version=version).exists():
        raise Problem(
            "name_taken",
            f"{model.name} has a version {version}; versions never change, add another",
            errors=[
                FieldError(pointer="/version", detail="is taken", value=version, remedy="choose another")
            ],
        )
    row = ModelVersion.objects.create(
        model=model,
        version=version,
        digest=digest,
        source_uri=source_uri,
        format=weight_format,
        precision=precision,
        size_bytes=size_bytes,
        max_context_tokens=max_context_tokens,
        gpus_per_replica=gpus_per_replica,
        modalities=list(modalities),
    )
    row.refresh_from_db()
    after = {
        "version": version,
        "digest": digest,
        "source_uri": source_uri,
        "precision": precision,
        "modalities": list(modalities),
    }
    audit_record(actor=actor, action="created", subject=row, after=after)
    return row


def _weights_check(actor: Actor, *, weight_format: str, source_uri: str) -> None:
    """Raises Problem ``invalid_document``; ``forbidden`` for ``file://`` without the right to operate."""
    for pointer, refusal in (
        ("/format", format_check(weight_format)),
        ("/source_uri", source_check(source_uri)),
    ):
        if refusal is not None:
            error = FieldError(
                pointer=pointer,
                detail=f"refused by {refusal.rule}",
                value=refusal.value,
                remedy=refusal.remedy,
            )
            raise Problem(
                "invalid_document", f"{pointer}: {refusal.remedy}", errors=[error], refusals=[refusal]
            )
    if source_uri.startswith("file:") and not actor.can_operate:
        raise Problem(
            "forbidden", "source_uri: file:// names a place on the clusters' machines; this needs 'operate'"
        )


@one_transaction
def model_version_delete(*, actor: Actor, model_version: ModelVersion) -> None:
    """Raises Problem ``in_use`` if a revision or adapter refers to it."""
    before = {"version": model_version.version, "digest": model_version.digest}
    audit_record(actor=actor, action="deleted", subject=model_version, before=before)
    model_version.delete()
