"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.api.clock import database_now
from apps.incidents.services import deliveries_purge as purge
from apps.incidents.services import incidents_look as look
from apps.incidents.services import webhooks_deliver as deliver


@shared_task(name="apps.incidents.tasks.incidents_look")
def incidents_look() -> None:
    """Open, fold and resolve incidents by what is seen now."""
    look(now=database_now())


@shared_task(name="apps.incidents.tasks.webhooks_deliver")
def webhooks_deliver() -> None:
    """Send the pager what is due."""
    deliver()


@shared_task(name="apps.incidents.tasks.deliveries_purge")
def deliveries_purge() -> None:
    """Forget what was sent long ago."""
    purge(now=timezone.now())
