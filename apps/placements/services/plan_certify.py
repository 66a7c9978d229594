"""The hash of a plan's certificate, stored beside the plan once that is in force: agents need not wait for it."""

from uuid import UUID

from apps.placements import selectors
from apps.placements.models import PlacementPlan
from apps.placements.services.plan_in_force import plan_stored
from controlplane.placement import certify


def plan_certify(*, organization_id: UUID) -> None:
    """Certify the newest plans that nobody has certified. May run twice or late: it says the same again."""
    for plan_id in selectors.plan_ids_uncertified(organization_id=organization_id):
        problem, plan = plan_stored(plan_id)
        sha256 = certify(problem, plan).sha256
        PlacementPlan.objects.filter(pk=plan_id).update(certificate_sha256=sha256)
