"""Remembering when a key was last used, without a write for every request."""

from datetime import datetime, timedelta

from apps.accounts.models import ApiKey

TOUCHED_EVERY = timedelta(minutes=1)


def api_key_touch(*, api_key: ApiKey, now: datetime) -> None:
    """Set ``last_used_at``, at most once a minute."""
    if api_key.last_used_at is None or now - api_key.last_used_at >= TOUCHED_EVERY:
        ApiKey.objects.filter(pk=api_key.pk).update(last_used_at=now)
