"""API keys as the console shows them."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import ApiKey


@dataclass(frozen=True)
class KeyView:
    """A key and whether it still opens anything."""

    key: ApiKey
    word: str


def key_view(key: ApiKey, now: datetime) -> KeyView:
    """Revoked counts before expired: it says that somebody decided so."""
    if key.revoked_at is not None:
        return KeyView(key, "revoked")
    if key.expires_at is not None and key.expires_at <= now:
        return KeyView(key, "expired")
    return KeyView(key, "active")
