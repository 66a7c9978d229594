"""Who may serve each ``active_passive`` deployment, settled anew whenever tables are compiled.

``controlplane.failover`` decides; here its facts are read, what follows is stored, and events say who waits for whom.
Called in two steps around the making of the tables, under the organization's compile lock: a cluster yields from the
generation on that is made in between.

Whoever compiles may move a seat by the plan and by what gateways acknowledge. Only ``seats_watch`` brings evidence of
silence, by which a lease ends and a standby is promoted.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import msgspec
from django.db import transaction

from apps.agents import contents
from apps.agents.leases import HARD_TTL_S, HEARD_S, SERVING_LEASE_S
from apps.agents.models import ClusterTable, ClusterTableEntry, ServingSeat, TableKind, YieldingCluster
from apps.deployments.models import Deployment, Posture
from apps.fleet.models import Cluster
from apps.placements.models import Assignment
from apps.telemetry.services import event_record
from apps.telemetry.services.event_record import Severity
from controlplane.failover import (
    Candidate,
    Cause,
    PromotionPolicy,
    Seat,
    Standing,
    Yielding,
    promotion,
    seat_settle,
)
from workloadplane.protocol.routing import Route

PROMOTION = PromotionPolicy(silent_s=HARD_TTL_S, heard_s=HEARD_S)


@dataclass(frozen=True)
class Silence:
    """So long nothing was heard of a cluster after this sign of life (``sign_of_life``)."""

    marker: str
    silent_s: float


@dataclass(frozen=True)
class Evidence:
    """What an observer saw of clusters, by its own clock. Times in seconds, those not named are 0.

    unready_s: (deployment, cluster) -> for so long it has had no ready replica of it
    ungated_s: cluster -> for so long its agent has had no gateway
    """

    silences: Mapping[UUID, Silence] = field(default_factory=dict)
    unready_s: Mapping[tuple[UUID, UUID], float] = field(default_factory=dict)
    ungated_s: Mapping[UUID, float] = field(default_factory=dict)

    def silent_s(self, cluster: Cluster) -> float:
        """What was seen counts only for the sign of life that the database holds now: a later one ended the silence."""
        session = getattr(cluster, "session", None)
        if session is not None and session.last_sync_at is None:
            return math.inf
        silence = self.silences.get(cluster.pk)
        return silence.silent_s if silence is not None and silence.marker == sign_of_life(cluster) else 0.0


#: Of whoever compiles for another reason: it judges nobody.
NO_EVIDENCE = Evidence()


def sign_of_life(cluster: Cluster) -> str:
    """Changes with every call that renews the cluster's lease; a retired one was heard at the latest when it was."""
    session = getattr(cluster, "session", None)
    if session is None:
        return "retired"
    return f"{session.instance_id} {session.last_sequence} {session.last_sync_at}"


@dataclass(frozen=True)
class Settled:
    """One deployment's seat before and after.

    wanted:   the cluster that is to serve; is_new: it has no row
    promoted: the standby that takes a failed one's place, before and now; cause: why, if it is new
    """

    deployment: Deployment
    is_new: bool
    wanted: str | None
    before: Seat
    after: Seat
    promoted_before: str | None = None
    promoted: str | None = None
    cause: Cause = ""


def seats_settle(
    *,
    organization_id: UUID,
    clusters: Sequence[Cluster],
    assignments: Iterable[Assignment],
    evidence: Evidence,
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
    standings = {str(cluster.pk): standing(cluster, evidence) for cluster in clusters}
    settled = []
    for deployment, own in by_deployment.items():
        before = seat_of(rows[deployment.pk]) if deployment.pk in rows else former.get(deployment.pk, Seat())
        row = rows.get(deployment.pk)
        promoted_before = str(row.promoted_id) if row is not None and row.promoted_id else None
        if deployment.posture != Posture.ACTIVE_PASSIVE or deployment.deleted_at is not None:
            settled.append(Settled(deployment, row is None, None, before, Seat()))
            continue
        wanted, promoted, cause = _wanted(deployment, own, promoted_before, standings, evidence)
        after = seat_settle(before, wanted, standings, lease_s=SERVING_LEASE_S)
        settled.append(
            Settled(deployment, row is None, wanted, before, after, promoted_before, promoted, cause)
        )
    return settled


def _wanted(
    deployment: Deployment,
    own: Sequence[Assignment],
    promoted: str | None,
    standings: Mapping[str, Standing],
    evidence: Evidence,
) -> tuple[str | None, str | None, Cause]:
    """Who is to serve; who of them was promoted over the one that the plan names; why, if that is new."""
    planned = contents.clusters_wanted(own)
    stays = {str(row.pool.cluster_id) for row in own if not row.draining and not row.leaving}
    if promoted not in stays or promoted in planned[:1]:
        promoted = None
    order = list(
        dict.fromkeys([*([promoted] if promoted else []), *planned[:1], *filter(stays.__contains__, planned)])
    )
    candidates = [
        Candidate(
            cluster_id=name,
            silent_s=math.inf if name not in standings or standings[name].gone else standings[name].silent_s,
            unready_s=evidence.unready_s.get((deployment.pk, UUID(name)), 0.0),
            ungated_s=evidence.ungated_s.get(UUID(name), 0.0),
        )
        for name in order
    ]
    chosen = promotion(candidates, PROMOTION) if evidence is not NO_EVIDENCE else None
    wanted = chosen.cluster_id if chosen is not None else next(iter(order), None)
    promoted = wanted if wanted not in planned[:1] else None
    return wanted, promoted, chosen.cause if chosen is not None else ""


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
        row
        for row in settled
        if (row.is_new or row.after != row.before or row.promoted != row.promoted_before)
        and row.deployment.pk not in over
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
    if any(row.promoted is not None and row.after.serving == row.promoted for row in changed):
        transaction.on_commit(partial(_plan_anew, organization_id), robust=True)


def _plan_anew(organization_id: UUID) -> None:
    """The plan is to name who serves. Not before the tables' locks are given back: a placement takes its own first."""
    from apps.placements.services import placement_request  # which imports this app's services

    with transaction.atomic():
        placement_request(organization_id=organization_id)


def seat_of(row: ServingSeat) -> Seat:
    """As the room knows it; its yielding rows are loaded."""
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


def standing(cluster: Cluster, evidence: Evidence) -> Standing:
    """What is known of a cluster, its session loaded."""
    session = getattr(cluster, "session", None)
    if session is None:
        return Standing(gone=cluster.retired_at is None, silent_s=evidence.silent_s(cluster))
    generation = session.facts.get("gateway_generations", {}).get("routing", 0)
    return Standing(
        gateways_hold=generation if isinstance(generation, int) else 0,
        silent_s=evidence.silent_s(cluster),
    )


def _store(row: Settled, generations: Mapping[str, int]) -> None:
    seat, _ = ServingSeat.objects.update_or_create(
        deployment=row.deployment,
        defaults={"serving_id": row.after.serving, "promoted_id": row.promoted},
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
    if row.cause and row.promoted != row.promoted_before and target is not None:
        event_record(
            organization_id=organization_id,
            project_id=row.deployment.project_id,
            deployment_id=row.deployment.pk,
            severity="error",
            reason="StandbyPromoted",
            message=f"{name}: {target.name} takes over, for {_WHY[row.cause].format(_first(row, clusters))}",
        )
    if after.serving is not None and after.serving == before.serving:
        return  # only the plan names it otherwise than before
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


_WHY: Mapping[Cause, str] = {
    "silent": "the agent of {} is not heard any more",
    "no_replica": "{} has no ready replica",
    "no_gateway": "{} has no gateway",
}


def _first(row: Settled, clusters: Mapping[str, Cluster]) -> str:
    """Who served, or would have."""
    names = [entry.cluster_id for entry in row.before.yielding]
    if row.before.serving is not None:
        names.insert(0, row.before.serving)
    return next(
        (clusters[name].name for name in names if name in clusters), "the cluster that the plan names"
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
