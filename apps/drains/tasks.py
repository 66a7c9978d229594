"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.drains.services import drains_advance as advance
from apps.drains.services import notices_take as take


@shared_task(name="apps.drains.tasks.drains_advance")
def drains_advance() -> None:
    """Let windows begin and end, and note what has become empty; take notices that nobody rang for."""
    now = timezone.now()
    take(now=now)
    advance(now=now)


@shared_task(name="apps.drains.tasks.notices_take")
def notices_take() -> None:
    """An agent has told of capacity that is taken back, or tells of it no more."""
    take(now=timezone.now())
