"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task

from apps.api.clock import database_now
from apps.fleet.services import clusters_retired_settle as settle


@shared_task(name="apps.fleet.tasks.clusters_retired_settle")
def clusters_retired_settle() -> None:
    """Give up retired clusters whose lease is over."""
    settle(now=database_now())
