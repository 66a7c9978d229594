"""LoRA adapters of a model version."""

from apps.api.actors import Actor
from apps.api.field_errors import FieldError
from apps.api.problems import Problem
from apps.api.services import audit_record, one_transaction
from apps.catalog.models import Adapter, ModelVersion
from apps.catalog.sources import source_check


@one_transaction
def adapter_create(
    *, actor: Actor, model_version: ModelVersion, name: str, digest: str, source_uri: str, rank: int
) -> Adapter:
    """A LoRA adapter, pinned by digest.

    Raises Problem ``invalid_document``, ``name_taken``; ``forbidden`` for ``file://`` without the right to operate.
    """
    refusal = source_check(source_uri)
    if refusal is not None:
        error = FieldError(
            pointer="/source_uri",
            detail=f"refused by {refusal.rule}",
            value=refusal.value,
            remedy=refusal.remedy,
        )
        raise Problem(
            "invalid_document", f"/source_uri: {refusal.remedy}", errors=[error], refusals=[refusal]
        )
    if source_uri.startswith("file:") and not actor.can_operate:
        raise Problem(
            "forbidden", "source_uri: file:// names a place on the clusters' machines; this needs 'operate'"
        )
    adapter = Adapter.objects.create(
        model_version=model_version, name=name, digest=digest, source_uri=source_uri, rank=rank
    )
    adapter.refresh_from_db()
    after = {"name": name, "model_version": str(model_version), "digest": digest, "rank": rank}
    audit_record(actor=actor, action="created", subject=adapter, after=after)
    return adapter


@one_transaction
def adapter_delete(*, actor: Actor, adapter: Adapter) -> None:
    """Forget an adapter."""
    audit_record(actor=actor, action="deleted", subject=adapter, before={"name": adapter.name})
    adapter.delete()
