"""API keys and what they and their project may use, as the console shows them."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import ApiKey, RateLimited


@dataclass(frozen=True)
class KeyView:
    """A key and whether it still opens anything."""

    key: ApiKey
    word: str

    @property
    def limits(self) -> list[str]:
        """What it may use at each gateway, and what its requests may ask for at most; in words."""
        return [*limits_in_words(self.key), f"priority {self.key.max_priority}"]


def limits_in_words(limited: RateLimited) -> list[str]:
    """What a key, or all keys of a project together, may use at each gateway process."""
    amounts = (
        (limited.requests_per_minute, "requests / min"),
        (limited.tokens_per_minute, "tokens / min"),
        (limited.concurrent_requests, "at once"),
    )
    return [f"{amount:,} {unit}" for amount, unit in amounts if amount is not None] or ["no limit"]


def key_view(key: ApiKey, now: datetime) -> KeyView:
    """Revoked counts before expired: it says that somebody decided so."""
    if key.revoked_at is not None:
        return KeyView(key, "revoked")
    if key.expires_at is not None and key.expires_at <= now:
        return KeyView(key, "expired")
    return KeyView(key, "active")
