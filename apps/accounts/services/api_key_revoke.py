"""Ending API keys."""

from django.utils import timezone

from apps.accounts.models import ApiKey
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction


@one_transaction
def api_key_revoke(*, actor: Actor, api_key: ApiKey) -> ApiKey:
    """End a key now; connected gateways refuse it within seconds. A revoked key stays revoked."""
    from apps.agents.services import keysets_compile

    locked = ApiKey.objects.select_for_update(of=("self",)).select_related("project").get(pk=api_key.pk)
    if locked.revoked_at is not None:
        return locked
    locked.revoked_at = timezone.now()
    locked.save(update_fields=["revoked_at"])
    audit_record(
        actor=actor,
        action="revoked",
        subject=locked,
        before={"revoked_at": None},
        after={"revoked_at": locked.revoked_at},
    )
    keysets_compile(organization_id=locked.project.organization_id)
    return locked
