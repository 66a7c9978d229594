"""Periodic work of this app; may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.telemetry.services import telemetry_purge as purge


@shared_task(name="apps.telemetry.tasks.telemetry_purge")
def telemetry_purge() -> None:
    """Forget what is over its time."""
    purge(now=timezone.now())
