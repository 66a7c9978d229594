"""Periodic work of this app. Beat sends it every few seconds; it may run twice, late or beside itself."""

from celery import shared_task

from apps.agents.services import agents_reconcile as reconcile
from apps.agents.services import logs_forget
from apps.agents.services import tables_reconcile as compile_all
from apps.api.clock import database_now


@shared_task(name="apps.agents.tasks.agents_reconcile")
def agents_reconcile() -> None:
    """Say which clusters connected or disconnected, forget unread logs."""
    now = database_now()
    reconcile(now=now)
    logs_forget(now=now)


@shared_task(name="apps.agents.tasks.tables_reconcile")
def tables_reconcile() -> None:
    """Compile what time alone has changed."""
    compile_all()
