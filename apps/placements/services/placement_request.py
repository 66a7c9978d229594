"""Asking for a placement."""

from uuid import UUID

from django.db import connection

from apps.api.clock import database_now
from apps.api.services.doorbell_ring import doorbell_ring

SOLVE_TASK = "apps.placements.tasks.placements_solve"
IMPROVE_TASK = "apps.placements.tasks.placement_improve"


def placement_request(*, organization_id: UUID) -> None:
    """Say, in the caller's transaction, that the world which placement sees has changed.

    The raised clock is what counts; the doorbell only makes it quick. Locks the clock's row until the caller commits:
    call it after locking deployments, clusters and pools, and before ``tables_compile``.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO placements_placementclock (organization_id, wanted, solved, plan_generation)"
            " VALUES (%s, 1, 0, 0)"
            " ON CONFLICT (organization_id) DO UPDATE SET wanted = placements_placementclock.wanted + 1",
            [organization_id],
        )
    doorbell_ring(SOLVE_TASK, str(organization_id))


def full_solve_request(*, organization_id: UUID) -> None:
    """Say that what was adopted just now deserves a full solve at once, not only when its turn comes.

    Several requests are answered by one full solve that begins after them; a lost one by the periodic run.
    """
    doorbell_ring(IMPROVE_TASK, str(organization_id), database_now().isoformat())
