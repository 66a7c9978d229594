"""Stored answers are kept for a day."""

from datetime import datetime, timedelta

from apps.api.models import IdempotentAnswer

KEPT_FOR = timedelta(hours=24)


def answers_purge(*, now: datetime) -> int:
    """Forget answers older than a day; how many were forgotten."""
    deleted, _ = IdempotentAnswer.objects.filter(created_at__lt=now - KEPT_FOR).delete()
    return deleted
