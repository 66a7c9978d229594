"""Registering webhooks, and removing them."""

import hashlib
import secrets

from django.conf import settings

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction
from apps.incidents.destinations import NotAllowed, destination_of
from apps.incidents.models import Webhook
from apps.incidents.signing import secret_of

#: Each message goes to all of them.
WEBHOOKS_MOST = 20


@one_transaction
def webhook_add(*, actor: Actor, url: str) -> tuple[Webhook, str]:
    """The webhook, and the secret by which its messages are signed: show it once.

    Raises Problem ``invalid_document`` for a URL that is not allowed, ``already_exists``, ``conflict`` for too many.
    """
    try:
        destination_of(
            url,
            domains=settings.MERIDIAN_WEBHOOK_DOMAINS,
            loopback=settings.MERIDIAN_WEBHOOK_LOOPBACK,
        )
    except NotAllowed as error:
        raise field_problem("/url", str(error), value=url[:80]) from error
    organization_id = organization_wanted(actor)
    if Webhook.objects.filter(organization_id=organization_id).count() >= WEBHOOKS_MOST:
        raise Problem("conflict", f"there are {WEBHOOKS_MOST} webhooks already; remove one first")
    salt = secrets.token_bytes(32)
    secret = secret_of(salt)
    webhook = Webhook.objects.create(
        organization_id=organization_id,
        url=url,
        salt=salt,
        secret_sha256=hashlib.sha256(secret.encode()).digest(),
        created_by=str(actor)[:200],
    )
    webhook.refresh_from_db()
    audit_record(
        actor=actor, action="created", subject=webhook, after={"url": url}, organization_id=organization_id
    )
    return webhook, secret


@one_transaction
def webhook_remove(*, actor: Actor, webhook: Webhook) -> None:
    """Nothing more is sent there; what was is forgotten with it."""
    audit_record(
        actor=actor,
        action="deleted",
        subject=webhook,
        before={"url": webhook.url},
        organization_id=webhook.organization_id,
    )
    webhook.delete()
