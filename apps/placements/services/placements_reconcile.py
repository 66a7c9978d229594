"""What a lost task left: wishes that nobody solved, and clusters that came or went without a word to placement."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from apps.fleet import selectors as fleet
from apps.placements import selectors
from apps.placements.models import PlacementPlan
from apps.placements.services.placement_request import placement_request
from apps.placements.services.placements_solve import placements_solve

#: Plans that no assignment refers to are kept for so long.
PLAN_KEPT_FOR = timedelta(days=7)


def placements_reconcile(*, now: datetime) -> list[UUID]:
    """Solve whatever is behind. Returns the organizations that were."""
    for clock in selectors.clocks():
        if fleet.cluster_ids_open(organization_id=clock.organization_id, now=now) != set(
            clock.open_cluster_ids
        ):
            with transaction.atomic():
                placement_request(organization_id=clock.organization_id)
    behind = selectors.clocks_behind()
    for organization_id in behind:
        placements_solve(organization_id=organization_id)
    PlacementPlan.objects.filter(
        created_at__lt=now - PLAN_KEPT_FOR, assignments=None, pk__in=selectors.plans_superseded()
    ).delete()
    return behind
