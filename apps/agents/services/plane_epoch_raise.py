"""Raising the plane's epoch: this control plane takes the place of another, or of a later state of itself."""

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from apps.agents.models import (
    AgentSession,
    ClusterTable,
    ClusterTableEntry,
    PlaneState,
    ServingSeat,
    TableKind,
    YieldingCluster,
)
from apps.agents.services.tables_compile import tables_compile
from apps.api.actors import system_actor
from apps.api.services import audit_record
from apps.fleet import selectors as fleet

#: How far generations jump: further than any back-up lies behind what it was taken of.
GENERATIONS_LOST_AT_MOST = 1_000_000


@transaction.atomic
def plane_epoch_raise(*, above: int) -> int:
    """Speak in an epoch above ``above`` and the present one; the new epoch.

    All tables are signed anew in generations above whatever agents may hold, and every agent is asked for its full
    state, so that nothing is compared with what was forgotten. Who served an ``active_passive`` deployment is not known
    any more: every cluster yields before one serves it again.
    """
    state, _ = PlaneState.objects.select_for_update().get_or_create(pk=1)
    before = state.plane_epoch
    state.plane_epoch = max(before, above) + 1
    state.save()
    ClusterTable.objects.update(generation=F("generation") + GENERATIONS_LOST_AT_MOST)
    _seats_fence()
    tables_compile(cluster_ids=fleet.cluster_ids())
    generation = ClusterTable.objects.filter(pk=OuterRef("table_id")).values("generation")
    ClusterTableEntry.objects.update(changed_generation=Subquery(generation))
    AgentSession.objects.update(state_hash="")
    audit_record(
        actor=system_actor("plane_epoch_raise"),
        action="plane_epoch_raised",
        subject=state,
        before={"plane_epoch": before},
        after={"plane_epoch": state.plane_epoch},
    )
    return state.plane_epoch


def _seats_fence() -> None:
    """No table that was made up to now, known or forgotten, lets a cluster serve beside the one that comes."""
    generations = dict(
        ClusterTable.objects.filter(kind=TableKind.ROUTING).values_list("cluster_id", "generation")
    )
    seats = list(ServingSeat.objects.select_related("deployment__project").select_for_update(of=("self",)))
    rows = [
        YieldingCluster(
            seat=seat, cluster_id=cluster.pk, generation=generations.get(cluster.pk, 0) + 1, leased=True
        )
        for seat in seats
        for cluster in fleet.clusters_watched(organization_id=seat.deployment.project.organization_id)
        if hasattr(cluster, "session") or cluster.retired_at is not None
    ]
    ServingSeat.objects.filter(pk__in=[seat.pk for seat in seats]).update(serving=None, promoted=None)
    YieldingCluster.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["seat", "cluster"],
        update_fields=["generation", "leased"],
    )
