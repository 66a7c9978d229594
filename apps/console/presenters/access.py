"""API keys as the console shows them."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import ApiKey


@dataclass(frozen=True)
class KeyView:
    """A key and whether it still opens anything."""

    key: ApiKey
    word: str

    @property
    def limits(self) -> list[str]:
        """What it may use at each gateway, and what its requests may ask for at most; in words."""
        key = self.key
        amounts = (
            (key.requests_per_minute, "requests / min"),
            (key.tokens_per_minute, "tokens / min"),
            (key.concurrent_requests, "at once"),
        )
        limits = [f"{amount:,} {unit}" for amount, unit in amounts if amount is not None]
        return [*(limits or ["no limit"]), f"priority {key.max_priority}"]


def key_view(key: ApiKey, now: datetime) -> KeyView:
    """Revoked counts before expired: it says that somebody decided so."""
    if key.revoked_at is not None:
        return KeyView(key, "revoked")
    if key.expires_at is not None and key.expires_at <= now:
        return KeyView(key, "expired")
    return KeyView(key, "active")
