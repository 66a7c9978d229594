"""Secrets of webhooks, and signatures by them as the Standard Webhooks specification has it (version 1).

A secret is made from the webhook's salt and this installation's secret key whenever it is needed: what is stored can
sign nothing. ``v1`` is HMAC-SHA256 over ``id.timestamp.body``.
"""

import base64
import hashlib
import hmac

from django.conf import settings

PREFIX = "whsec_"
_PURPOSE = b"meridian-webhook-1\n"


def secret_of(salt: bytes) -> str:
    """The secret that belongs to a salt, as its owner was shown it."""
    key = hmac.new(settings.SECRET_KEY.encode(), _PURPOSE + salt, hashlib.sha256).digest()
    return PREFIX + base64.b64encode(key).decode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``. ``timestamp``: seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
