"""Doorbells: each may ring twice, late or never."""

from celery import shared_task

from apps.deployments.services import deployments_reconcile as reconcile


@shared_task(name="apps.deployments.tasks.deployments_reconcile")
def deployments_reconcile() -> None:
    """Look again at every deployment that something is under way for."""
    reconcile()
