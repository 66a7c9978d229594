"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.drains.services import drains_advance as advance


@shared_task(name="apps.drains.tasks.drains_advance")
def drains_advance() -> None:
    """Let windows begin and end, and note what has become empty."""
    advance(now=timezone.now())
