"""Making API keys."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from apps.accounts.models import ApiKey, Priority, Project
from apps.accounts.selectors import secret_sha256
from apps.api.actors import RIGHTS, Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction

#: 32 random bytes: nobody can guess a key, so its stored form needs no slow hash.
SECRET_BYTES = 32


@one_transaction
def api_key_create(
    *,
    actor: Actor,
    project_id: UUID,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    max_priority: str = Priority.NORMAL,
    **limits: int | None,
) -> tuple[ApiKey, str]:
    """The key's row and the key itself, which is stored nowhere: show it once. ``limits``: as in ``RateLimited``.

    Raises Problem ``invalid_document`` for a scope beyond the actor's own right or an expiry in the past;
    ``name_taken``.
    """
    from apps.agents.services import keysets_compile

    if expires_at is not None and expires_at <= timezone.now():
        raise field_problem("/expires_at", "lies in the past", value=expires_at.isoformat())
    for index, scope in enumerate(scopes):
        if scope in RIGHTS and not actor.holds(scope):  # type: ignore[arg-type]
            remedy = "leave it out, or have somebody with that right make the key"
            raise field_problem(
                f"/scopes/{index}", "is more than you may do yourself", value=scope, remedy=remedy
            )
    prefix = f"mrd_{secrets.token_hex(4)}"
    key = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    api_key = ApiKey.objects.create(
        project_id=project_id,
        name=name,
        prefix=prefix,
        sha256=secret_sha256(key),
        scopes=sorted(set(scopes)),
        created_by_id=actor.user_id,
        expires_at=expires_at,
        max_priority=max_priority,
        **limits,
    )
    api_key.refresh_from_db()
    audit_record(
        actor=actor,
        action="created",
        subject=api_key,
        after={
            "name": name,
            "prefix": prefix,
            "scopes": api_key.scopes,
            "expires_at": expires_at,
            "max_priority": max_priority,
            **limits,
        },
    )
    keysets_compile(
        organization_id=Project.objects.values_list("organization_id", flat=True).get(pk=project_id)
    )
    return api_key, key
