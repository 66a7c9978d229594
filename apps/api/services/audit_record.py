"""The audit trail: who did what to which object, written in the transaction that does it."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db.models import Model

from apps.api.actors import Actor
from apps.api.models import AuditEvent

#: Members that are never written down, whatever a caller passes.
SECRET_MEMBERS: Final = frozenset(
    {"key", "token", "secret", "password", "initial_password", "sha256", "private_key", "enrolment_token"}
)


def audit_record(
    *,
    actor: Actor,
    action: str,
    subject: Model,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    organization_id: UUID | None = None,
    project_id: UUID | None = None,
) -> AuditEvent:
    """Record one act. Call it inside the transaction of the act.

    action:          a verb in the past, ``created``, ``replaced``, ``revoked`` ...
    before, after:   the documents; members named like secrets are left out
    organization_id, project_id: the tenant concerned, the actor's own if not given
    """
    return AuditEvent.objects.create(
        organization_id=organization_id or actor.organization_id,
        project_id=project_id or (actor.project_id if organization_id is None else None),
        actor=str(actor)[:200],
        action=action,
        subject_type=subject._meta.model_name or "",
        subject_id=str(subject.pk),
        subject_name=str(subject)[:255],
        before=_without_secrets(before),
        after=_without_secrets(after),
    )


def _without_secrets(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {
            str(name): _without_secrets(value)
            for name, value in document.items()
            if str(name).lower() not in SECRET_MEMBERS
        }
    if isinstance(document, list | tuple):
        return [_without_secrets(value) for value in document]
    return msgspec.to_builtins(document, enc_hook=str)
