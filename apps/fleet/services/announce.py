"""Telling placement and the agents, in the same transaction, that the fleet has changed."""

from collections.abc import Iterable
from uuid import UUID

from apps.fleet.models import Cluster


def fleet_changed(*, organization_id: UUID, cluster_ids: Iterable[UUID] | None = None) -> None:
    """Ask for a new plan, and compile the tables of these clusters anew (None: of all the organization's)."""
    from apps.agents.services import tables_compile
    from apps.placements.services import placement_request

    placement_request(organization_id=organization_id)
    if cluster_ids is None:
        cluster_ids = Cluster.objects.filter(organization_id=organization_id).values_list("pk", flat=True)
    tables_compile(cluster_ids=list(cluster_ids))
