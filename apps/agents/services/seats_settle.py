"""Who may serve each ``active_passive`` deployment, settled anew whenever tables are compiled.

``controlplane.failover`` decides; here its facts are read, what follows is stored, and events say who waits for whom.
Called in two steps around the making of the tables, under the organization's compile lock: a cluster yields from the
generation on that is made in between.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from apps.agents import contents
from apps.agents.leases import SERVING_LEASE_S
from apps.agents.models import ClusterTable, ClusterTableEntry, ServingSeat, TableKind, YieldingCluster
from apps.deployments.models import Deployment, Posture
from apps.fleet.models import Cluster
from apps.placements.models import Assignment
from apps.telemetry.services import event_record
from apps.telemetry.services.event_record import Severity
from controlplane.failover import Seat, Standing, Yielding, seat_settle
from workloadplane.protocol.routing import Route


@dataclass(frozen=True)
class Settled:
    """One deployment's seat before and after. ``wanted``: the cluster that is to serve; ``is_new``: it has no row."""

    deployment: Deployment
    is_new: bool
    wanted: str | None
    before: Seat
    after: Seat


def seats_settle(
    *, organization_id: UUID, clusters: Sequence[Cluster], assignments: Iterable[Assignment], now: datetime
) -> list[Settled]:
    """What may be by now. ``clusters`` with their sessions, ``assignments`` with their deployments. Stores nothing."""
    rows = {
        row.deployment_id: row
        for row in ServingSeat.objects.filter(deployment__project__organization_id=organization_id)
        .select_related("deployment")
        .prefetch_related("yielding")
    }
    by_deployment: dict[Deployment, list[Assignment]] = {row.deployment: [] for row in rows.values()}
    for assignment in assignments:
        if assignment.deployment.posture == Posture.ACTIVE_PASSIVE or assignment.deployment_id in rows:
            by_deployment.setdefault(assignment.deployment, []).append(assignment)
    if not by_deployment:
        return []
    former = _former_seats([pk for deployment in by_deployment if (pk := deployment.pk) not in rows])
    standings = {str(cluster.pk): _standing(cluster) for cluster in clusters}
    settled = []
    for deployment, own in by_deployment.items():
        before = _seat(rows[deployment.pk]) if deployment.pk in rows else former.get(deployment.pk, Seat())
        wanted = contents.cluster_wanted(own)
        if deployment.posture != Posture.ACTIVE_PASSIVE or deployment.deleted_at is not None:
            after = Seat()
        else:
            after = seat_settle(before, wanted, standings, now_s=now.timestamp(), lease_s=SERVING_LEASE_S)
        settled.append(Settled(deployment, deployment.pk not in rows, wanted, before, after))
    return settled


def seats_store(*, organization_id: UUID, settled: Collection[Settled], clusters: Sequence[Cluster]) -> None:
    """Keep what was settled, and say what has changed. Call it once the tables that follow from it are stored."""
    over = [
        row.deployment.pk
        for row in settled
        if row.deployment.posture != Posture.ACTIVE_PASSIVE or row.deployment.deleted_at is not None
    ]
    if over:
        ServingSeat.objects.filter(deployment_id__in=over).delete()
    changed = [
        row for row in settled if (row.is_new or row.after != row.before) and row.deployment.pk not in over
    ]
    if not changed:
        return
    generations = {
        str(cluster_id): generation
        for cluster_id, generation in ClusterTable.objects.filter(
            cluster_id__in=[cluster.pk for cluster in clusters], kind=TableKind.ROUTING
        ).values_list("cluster_id", "generation")
    }
    by_id = {str(cluster.pk): cluster for cluster in clusters}
    for row in changed:
        _store(row, generations)
        _tell(organization_id, row, by_id)


def _seat(row: ServingSeat) -> Seat:
    yielding = sorted(row.yielding.all(), key=lambda entry: entry.pk)
    return Seat(
        serving=str(row.serving_id) if row.serving_id else None,
        yielding=tuple(
            Yielding(str(entry.cluster_id), generation=entry.generation, leased=entry.leased)
            for entry in yielding
        ),
    )


def _former_seats(deployment_ids: Collection[UUID]) -> dict[UUID, Seat]:
    """Of deployments without a row: whoever the last table let serve may do so still, beside others and for ever."""
    if not deployment_ids:
        return {}
    entries = ClusterTableEntry.objects.filter(
        table__kind=TableKind.ROUTING, key__in=[str(pk) for pk in deployment_ids]
    )
    found = {}
    for key, payload in entries.order_by("key", "table_id").distinct("key").values_list("key", "payload"):
        route = msgspec.json.decode(bytes(payload), type=Route)
        names = dict.fromkeys(name for share in route.revisions for name in share.cluster_ids)
        found[UUID(key)] = Seat(
            yielding=tuple(
                Yielding(name, generation=None, leased=route.posture == Posture.ACTIVE_PASSIVE)
                for name in names
            )
        )
    return found


def _standing(cluster: Cluster) -> Standing:
    """A retired one was heard at the latest when it was retired: from then on its agent was refused."""
    session = getattr(cluster, "session", None)
    if session is None:
        return Standing(gone=cluster.retired_at is None, heard_at_s=_seconds(cluster.retired_at))
    generation = session.facts.get("gateway_generations", {}).get("routing", 0)
    return Standing(
        gateways_hold=generation if isinstance(generation, int) else 0,
        heard_at_s=_seconds(session.last_sync_at),
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


def _store(row: Settled, generations: Mapping[str, int]) -> None:
    seat, _ = ServingSeat.objects.update_or_create(
        deployment=row.deployment, defaults={"serving_id": row.after.serving}
    )
    names = [entry.cluster_id for entry in row.after.yielding]
    seat.yielding.exclude(cluster_id__in=names).delete()
    YieldingCluster.objects.bulk_create(
        [
            YieldingCluster(
                seat=seat,
                cluster_id=entry.cluster_id,
                generation=generations.get(entry.cluster_id, 0)
                if entry.generation is None
                else entry.generation,
                leased=entry.leased,
            )
            for entry in row.after.yielding
        ],
        update_conflicts=True,
        unique_fields=["seat", "cluster"],
        update_fields=["generation", "leased"],
    )


def _tell(organization_id: UUID, row: Settled, clusters: Mapping[str, Cluster]) -> None:
    before, after = row.before, row.after
    name = row.deployment.name
    target = clusters.get(row.wanted or "")
    severity: Severity = "info"
    if after.serving is not None and (before.yielding or before.serving):
        reason = "ServingMoved"
        message = f"{name} is served by {clusters[after.serving].name} from now on, and by no other cluster"
    elif after.yielding and target is not None:
        reason, severity = "ServingWaits", "warning"
        message = f"{name}: {target.name} does not serve it before {waits_for(after, clusters)}"
    else:
        return
    event_record(
        organization_id=organization_id,
        project_id=row.deployment.project_id,
        deployment_id=row.deployment.pk,
        severity=severity,
        reason=reason,
        message=message,
    )


def waits_for(seat: Seat, clusters: Mapping[str, Cluster]) -> str:
    """For whom the next one waits, and how long at most."""
    leased = sorted(clusters[row.cluster_id].name for row in seat.yielding if row.leased)
    others = sorted(clusters[row.cluster_id].name for row in seat.yielding if not row.leased)
    said = []
    if leased:
        said.append(
            f"the gateways of {', '.join(leased)} hold the table in which they do not serve it,"
            f" or their agent was not heard for {SERVING_LEASE_S:g} s"
        )
    if others:
        said.append(
            f"the gateways of {', '.join(others)} hold that table (it served beside others until now: no lease ends"
            " that; retire the cluster if it never comes back)"
        )
    return "; and ".join(said)
