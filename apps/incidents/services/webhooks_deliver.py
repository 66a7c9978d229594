"""Sending what is due: claimed in a short transaction, sent side by side with none open, and noted.

At least once: a process that dies on the way leaves its claim to end, and the message is sent again, with the same id.
"""

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.incidents.destinations import Destination, NotAllowed, address_chosen, destination_of
from apps.incidents.models import DeliveryState, Webhook, WebhookDelivery
from apps.incidents.signing import secret_of, signature
from apps.telemetry.services import event_record
from workloadplane.words import counted

logger = logging.getLogger(__name__)

#: Before the second attempt, the third ...; after the last one it is abandoned, some nine hours after the first.
BACK_OFF_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 18000)
#: One attempt, all of it; and how long a claim holds.
ATTEMPT_S: Final = 5.0
CLAIM: Final = timedelta(seconds=60)
_AT_ONCE: Final = 50
_KEPT_FOR: Final = timedelta(days=30)
_GONE: Final = 410


@dataclass(frozen=True)
class _Answer:
    """What came of an attempt. ``is_final``: nobody is to try again."""

    delivered: bool
    said: str
    is_final: bool = False


def webhooks_deliver() -> int:
    """One attempt for every message that is due; how many were delivered. May run twice, late or beside itself."""
    claimed = _claim(timezone.now())
    if not claimed:
        return 0
    answers = asyncio.run(_send_all(claimed))
    for delivery, answer in zip(claimed, answers, strict=True):
        _note(delivery, answer, timezone.now())
    return sum(answer.delivered for answer in answers)


def deliveries_purge(*, now: datetime) -> int:
    """Forget messages that ended long ago; how many."""
    return WebhookDelivery.objects.filter(ended_at__lt=now - _KEPT_FOR).delete()[0]


@transaction.atomic
def _claim(now: datetime) -> list[WebhookDelivery]:
    rows = list(
        WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("webhook")
        .filter(state=DeliveryState.WAITING, next_at__lte=now)
        .order_by("next_at", "pk")[:_AT_ONCE]
    )
    for row in rows:
        row.attempts += 1
        row.next_at = now + CLAIM
    WebhookDelivery.objects.bulk_update(rows, ["attempts", "next_at"])
    return rows


async def _send_all(deliveries: Sequence[WebhookDelivery]) -> list[_Answer]:
    return list(await asyncio.gather(*map(_send, deliveries)))


async def _send(delivery: WebhookDelivery) -> _Answer:
    try:
        destination = destination_of(
            delivery.webhook.url,
            domains=settings.MERIDIAN_WEBHOOK_DOMAINS,
            loopback=settings.MERIDIAN_WEBHOOK_LOOPBACK,
        )
        async with asyncio.timeout(ATTEMPT_S):
            address = address_chosen(destination, await _addresses(destination))
            status = await _post(destination, address, delivery)
    except NotAllowed as error:
        return _Answer(delivered=False, said=str(error))
    except TimeoutError:
        return _Answer(delivered=False, said=f"no answer within {ATTEMPT_S:g} s")
    except (OSError, httpx.HTTPError, ValueError) as error:
        return _Answer(delivered=False, said=f"not reached: {type(error).__name__} {error}".strip())
    if httpx.codes.is_success(status):
        return _Answer(delivered=True, said=str(status))
    if httpx.codes.is_redirect(status):
        return _Answer(delivered=False, said=f"{status}: redirects are not followed")
    return _Answer(delivered=False, said=str(status), is_final=status == _GONE)


async def _addresses(destination: Destination) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(
        destination.host, destination.port, type=socket.SOCK_STREAM
    )
    return [str(row[4][0]) for row in found]


async def _post(destination: Destination, address: str, delivery: WebhookDelivery) -> int:
    """The status of the answer, whose body nobody reads. TLS is checked for the name, not for the address."""
    body = delivery.body.encode()
    host = f"[{address}]" if ":" in address else address
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=ATTEMPT_S) as client,
        client.stream(
            "POST",
            f"{destination.scheme}://{host}:{destination.port}{destination.target}",
            content=body,
            headers=_headers(destination, delivery, body),
            extensions={"sni_hostname": destination.host},
        ) as answer,
    ):
        return answer.status_code


def _headers(destination: Destination, delivery: WebhookDelivery, body: bytes) -> dict[str, str]:
    """Raises ValueError where the secret can't be the one that its owner was shown."""
    timestamp, message_id = int(time.time()), str(delivery.pk)
    return {
        "host": destination.authority,
        "content-type": "application/json",
        "user-agent": "meridian",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(
            _secret(delivery.webhook), message_id=message_id, timestamp=timestamp, body=body
        ),
    }


def _secret(webhook: Webhook) -> str:
    secret = secret_of(bytes(webhook.salt))
    if hashlib.sha256(secret.encode()).digest() != bytes(webhook.secret_sha256):
        raise ValueError(
            "MERIDIAN_SECRET_KEY was changed since the webhook was added: remove it and add it again"
        )
    return secret


def _note(delivery: WebhookDelivery, answer: _Answer, now: datetime) -> None:
    """The webhook may have been removed meanwhile: then there is nothing to note."""
    if answer.delivered:
        changes = {"state": DeliveryState.DELIVERED, "ended_at": now}
    elif answer.is_final or delivery.attempts > len(BACK_OFF_S):
        changes = {"state": DeliveryState.ABANDONED, "ended_at": now}
    else:
        changes = {"next_at": now + timedelta(seconds=BACK_OFF_S[delivery.attempts - 1])}
    found = WebhookDelivery.objects.filter(pk=delivery.pk, state=DeliveryState.WAITING)
    noted = found.update(answer=answer.said[:255], **changes)
    if noted and changes.get("state") == DeliveryState.ABANDONED:
        event_record(
            organization_id=delivery.webhook.organization_id,
            severity="warning",
            reason="WebhookAbandoned",
            message=f"{delivery.type} was not delivered to webhook {delivery.webhook_id}"
            f" after {counted(delivery.attempts, 'attempt')}: {answer.said}",
        )
