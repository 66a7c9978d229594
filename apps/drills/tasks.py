"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.drills.services import drills_advance as advance


@shared_task(name="apps.drills.tasks.drills_advance")
def drills_advance() -> None:
    """Begin what is scheduled, carry on what nobody drives, end what is past its deadline."""
    advance(now=timezone.now())
