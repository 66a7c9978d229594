"""Bearer API keys for the REST API."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts.models import ApiKey
from apps.accounts.selectors import api_key_by_secret
from apps.accounts.services import api_key_touch
from apps.api.problems import Problem

_CHALLENGE = 'Bearer realm="meridian"'


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer mrd_...``. ``request.auth`` becomes the ``ApiKey``; there is no user behind it."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        api_key = api_key_by_secret(secret.strip())
        now = timezone.now()
        if api_key is None:
            raise _refused("key_unknown", "the API key is not known; make one with POST /api/v1/api-keys")
        if api_key.revoked_at is not None:
            raise _refused("key_revoked", f"the API key {api_key.prefix} was revoked; use another")
        if api_key.expires_at is not None and api_key.expires_at <= now:
            raise _refused("key_expired", f"the API key {api_key.prefix} has expired; make a new one")
        api_key_touch(api_key=api_key, now=now)
        return AnonymousUser(), api_key

    def authenticate_header(self, request: Request) -> str:
        return _CHALLENGE


def _refused(type_id: str, detail: str) -> Problem:
    return Problem(type_id, detail, headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'})
