"""Periodic work of the shared room."""

from celery import shared_task
from django.utils import timezone

from apps.api.services import answers_purge


@shared_task
def idempotent_answers_purge() -> None:
    """Forget stored answers after a day. Harmless to run twice or late."""
    answers_purge(now=timezone.now())
