"""What a lost task left: wishes that nobody solved."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from apps.placements import selectors
from apps.placements.models import PlacementPlan
from apps.placements.services.placements_solve import placements_solve
from apps.placements.services.plan_certify import plan_certify

logger = logging.getLogger(__name__)

#: Plans that no assignment refers to are kept for so long.
PLAN_KEPT_FOR = timedelta(days=7)


def placements_reconcile(*, now: datetime) -> list[UUID]:
    """Solve whatever is behind, certify what nobody has, forget old plans. Returns the organizations that were behind.

    One that cannot be solved is logged, and stays behind; it keeps no other waiting.
    """
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
