"""Engine images: what replicas of an engine start from. Written by operators of the installation alone."""

from collections.abc import Mapping

from apps.api.actors import Actor
from apps.api.field_errors import FieldError
from apps.api.problems import Problem
from apps.api.services import audit_record, one_transaction
from apps.catalog.models import EngineImage
from workloadplane.protocol.engine_arguments import ALLOWED, check_arguments


@one_transaction
def engine_image_create(
    *, actor: Actor, engine: str, version: str, digest: str, arguments: Mapping[str, str]
) -> EngineImage:
    """An image, pinned by digest. Raises Problem ``invalid_document`` for arguments not on the engine's list."""
    refusals = check_arguments(ALLOWED[engine], arguments)
    if refusals:
        errors = [
            FieldError(
                pointer=f"/arguments/{refusal.subject}",
                detail=f"refused by {refusal.rule}",
                value=refusal.value,
                remedy=refusal.remedy,
            )
            for refusal in refusals
        ]
        raise Problem("invalid_document", str(refusals[0]), errors=errors, refusals=refusals)
    image = EngineImage.objects.create(
        engine=engine, version=version, digest=digest, arguments=dict(arguments)
    )
    image.refresh_from_db()
    after = {"engine": engine, "version": version, "digest": digest, "arguments": dict(arguments)}
    audit_record(actor=actor, action="created", subject=image, after=after)
    return image


@one_transaction
def engine_image_delete(*, actor: Actor, image: EngineImage) -> None:
    """Raises Problem ``in_use`` if a revision refers to it."""
    before = {"engine": image.engine, "version": image.version, "digest": image.digest}
    audit_record(actor=actor, action="deleted", subject=image, before=before)
    image.delete()
