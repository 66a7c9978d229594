"""What a lost task left: wishes that nobody solved."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from apps.placements import selectors
from apps.placements.models import PlacementPlan
from apps.placements.services.placement_load import placement_load_sound
from apps.placements.services.placement_request import placement_request
from apps.placements.services.placements_solve import placements_solve
from apps.placements.services.plan_certify import plan_certify

logger = logging.getLogger(__name__)

#: Plans that no assignment refers to are kept for so long.
PLAN_KEPT_FOR = timedelta(days=7)


def placements_reconcile(*, now: datetime) -> list[UUID]:
    """Solve what is behind or was mended, certify what nobody has, forget old plans. Returns those that were behind.

    One that cannot be solved is logged, and stays behind; it keeps no other waiting.
    """
    for organization_id, said in selectors.rows_left_out().items():
        try:
            _look_again(organization_id, said, now)
        except Exception:
            logger.exception("the rows of organization %s could not be looked at", organization_id)
    behind = selectors.clocks_behind()
    for organization_id in behind:
        try:
            placements_solve(organization_id=organization_id)
        except Exception:
            logger.exception("organization %s could not be solved", organization_id)
    for organization_id in selectors.organization_ids_uncertified():
        try:
            plan_certify(organization_id=organization_id)
        except Exception:
            logger.exception("the plans of organization %s could not be certified", organization_id)
    PlacementPlan.objects.filter(
        created_at__lt=now - PLAN_KEPT_FOR, assignments=None, pk__in=selectors.plans_superseded()
    ).delete()
    return behind


def _look_again(organization_id: UUID, said: str, now: datetime) -> None:
    """Whatever mends a row that can't be planned with may tell nobody."""
    if placement_load_sound(organization_id=organization_id, now=now)[1].said != said:
        placement_request(organization_id=organization_id)
