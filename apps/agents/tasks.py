"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task
from django.utils import timezone

from apps.agents.services import agents_reconcile as reconcile
from apps.agents.services import logs_forget
from apps.agents.services import seats_reconcile as look_at_seats
from apps.agents.services import tables_reconcile as compile_all


@shared_task(name="apps.agents.tasks.agents_reconcile")
def agents_reconcile() -> None:
    """Say which clusters connected or disconnected, let serve who waited for one that did, forget unread logs."""
    reconcile(now=timezone.now())
    logs_forget(now=timezone.now())
    look_at_seats()


@shared_task(name="apps.agents.tasks.tables_reconcile")
def tables_reconcile() -> None:
    """Compile what time alone has changed."""
    compile_all()
