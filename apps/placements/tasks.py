"""Doorbells: each may ring twice, late or never."""

from datetime import datetime
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from apps.placements.services.demand_notice import demand_notice as notice
from apps.placements.services.hazards_learn import hazards_learn as learn
from apps.placements.services.placements_improve import placement_improve as improve_one
from apps.placements.services.placements_improve import placements_improve as improve
from apps.placements.services.placements_reconcile import placements_reconcile as reconcile
from apps.placements.services.placements_solve import placements_solve as solve


@shared_task(name="apps.placements.tasks.placements_solve")
def placements_solve(organization_id: str) -> None:
    """Bring one organization's placement up to what is wanted."""
    solve(organization_id=UUID(organization_id))


@shared_task(name="apps.placements.tasks.placements_reconcile")
def placements_reconcile() -> None:
    """Solve whatever is behind."""
    reconcile(now=timezone.now())


@shared_task(name="apps.placements.tasks.demand_notice")
def demand_notice() -> None:
    """Plan for the demand that usage shows, where it has moved."""
    notice(now=timezone.now())


@shared_task(name="apps.placements.tasks.hazards_learn")
def hazards_learn() -> None:
    """Reckon with the hazard and obtainability that losses and launches show, where they have moved."""
    learn(now=timezone.now())


@shared_task(name="apps.placements.tasks.placements_improve", time_limit=900)
def placements_improve() -> None:
    """Solve everything anew."""
    improve()


@shared_task(name="apps.placements.tasks.placement_improve", time_limit=900)
def placement_improve(organization_id: str, asked_at: str) -> None:
    """Solve one organization anew, whole, unless that was done since it was asked for."""
    improve_one(organization_id=UUID(organization_id), asked_at=datetime.fromisoformat(asked_at))
