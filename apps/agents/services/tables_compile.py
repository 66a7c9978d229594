"""The tables of all clusters of an organization, compiled from what is planned, in the caller's transaction.

A change in one cluster can concern the gateways of all (they forward to each other), so an organization is compiled
as a whole; tables that come out as they were keep their generation and cost no write. Where it is known that only some
deployments have changed, only their entries are made anew and the others stay as they are stored; ``tables_reconcile``
compiles everything all the same from time to time. An advisory lock per organization, held until the caller commits,
lets one compile follow another, so each sees what the one before it stored and generations only rise.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.accounts import selectors as accounts
from apps.agents import contents, selectors
from apps.agents.contents import Contents
from apps.agents.models import TableKind
from apps.agents.services.seats_settle import (
    NO_EVIDENCE,
    Evidence,
    Settled,
    seats_settle,
    seats_store,
    waits_for,
)
from apps.agents.services.signer_registered import signer_registered
from apps.agents.services.tables_store import tables_store
from apps.deployments import selectors as deployments
from apps.drains import selectors as drains
from apps.drills import selectors as drills
from apps.fleet import selectors as fleet
from apps.fleet.models import Cluster
from apps.placements import selectors as placements
from apps.placements.models import Assignment

_COMPILE_LOCK = 7301  # the first half of the advisory lock's key; the second is the organization


def tables_compile(*, cluster_ids: Collection[UUID]) -> None:
    """Compile what a change in these clusters concerns. Call it last in the transaction that makes the change.

    Raises ImproperlyConfigured if there is no usable signing key.
    """
    for organization_id in fleet.organization_ids_of_clusters(cluster_ids=cluster_ids):
        _organization_compile(organization_id, frozenset(TableKind))


def organization_tables_compile(*, organization_id: UUID, evidence: Evidence = NO_EVIDENCE) -> None:
    """Compile all tables of an organization. As ``tables_compile``.

    evidence: who is silent; only with it does a lease end by time, and does a standby take a failed cluster's place
    """
    _organization_compile(organization_id, frozenset(TableKind), evidence)


def deployments_tables_compile(*, organization_id: UUID, deployment_ids: Collection[UUID]) -> None:
    """Compile what a change of these deployments alone concerns, of one organization. As ``tables_compile``."""
    kinds = frozenset({TableKind.DESIRED, TableKind.ROUTING})
    _organization_compile(organization_id, kinds, only=frozenset(deployment_ids))


def keysets_compile(*, organization_id: UUID) -> None:
    """Compile the accepted API keys of an organization's clusters. As ``tables_compile``."""
    _organization_compile(organization_id, frozenset({TableKind.KEYSET}))


@transaction.atomic
def _organization_compile(
    organization_id: UUID,
    kinds: Collection[TableKind],
    evidence: Evidence = NO_EVIDENCE,
    *,
    only: frozenset[UUID] | None = None,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_COMPILE_LOCK, str(organization_id)]
        )
    clusters = fleet.clusters_for_tables(organization_id=organization_id)
    if not clusters:
        return
    signer = signer_registered()
    tables: dict[tuple[UUID, TableKind], Contents] = {}
    settled: list[Settled] = []
    if TableKind.KEYSET in kinds:
        tables |= _keysets(organization_id, clusters)
    if TableKind.DESIRED in kinds or TableKind.ROUTING in kinds:
        part = _part(organization_id, clusters, only)
        settled = seats_settle(
            organization_id=organization_id,
            clusters=clusters,
            assignments=part.assignments,
            evidence=evidence,
        )
        tables |= _desired(organization_id, clusters, part)
        tables |= _routing(organization_id, clusters, part, settled)
    tables_store(tables=tables, signer=signer, plane_epoch=selectors.plane_epoch())
    seats_store(organization_id=organization_id, settled=settled, clusters=clusters)


@dataclass(frozen=True)
class _Part:
    """What is compiled anew: live assignments of these deployments (None: of all), and ids of all other live ones."""

    deployment_ids: frozenset[UUID] | None
    assignments: list[Assignment]
    other_ids: frozenset[str] = frozenset()

    def desired_stays(self, key: str) -> bool:
        """Whether a stored entry of a cluster's assignment stays."""
        return key in self.other_ids

    def route_stays(self, key: str) -> bool:
        """Whether a stored route of a deployment stays."""
        return key not in self._keys

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(map(str, self.deployment_ids or ()))


def _part(organization_id: UUID, clusters: Collection[Cluster], only: frozenset[UUID] | None) -> _Part:
    """Of whom only one may serve, all are looked at each time: who that is follows from more than their assignments."""
    cluster_ids = [cluster.pk for cluster in clusters]
    live = placements.assignments_live(cluster_ids=cluster_ids)
    if only is None or not selectors.tables_stored(
        cluster_ids=cluster_ids, kinds=(TableKind.DESIRED, TableKind.ROUTING)
    ):
        return _Part(None, list(live))
    wanted = only | selectors.deployment_ids_seated(organization_id=organization_id)
    others = placements.assignment_ids_live(cluster_ids=cluster_ids, beside=wanted)
    return _Part(wanted, list(live.filter(deployment_id__in=wanted)), frozenset(map(str, others)))


def _keysets(organization_id: UUID, clusters: Iterable[Cluster]) -> dict[tuple[UUID, TableKind], Contents]:
    now = timezone.now()
    keyset = contents.keyset_contents(
        selectors.signing_keys_trusted(now=now),
        contents.keyset_entries(accounts.api_keys_for_inference(organization_id=organization_id, now=now)),
    )
    return {(cluster.pk, TableKind.KEYSET): keyset for cluster in clusters}


def _desired(
    organization_id: UUID, clusters: Iterable[Cluster], part: _Part
) -> dict[tuple[UUID, TableKind], Contents]:
    cordoned = drains.nodes_cordoned(organization_id=organization_id)
    by_cluster: dict[UUID, list[Assignment]] = defaultdict(list)
    for row in part.assignments:
        by_cluster[row.pool.cluster_id].append(row)
    stays = part.desired_stays if part.deployment_ids is not None else None
    return {
        (cluster.pk, TableKind.DESIRED): replace(
            contents.desired_contents(
                cluster, list(cluster.pools.all()), by_cluster[cluster.pk], cordoned.get(cluster.name, ())
            ),
            stays=stays,
        )
        for cluster in clusters
    }


def _routing(
    organization_id: UUID, clusters: list[Cluster], part: _Part, settled: Iterable[Settled]
) -> dict[tuple[UUID, TableKind], Contents]:
    by_id = {str(cluster.pk): cluster for cluster in clusters}
    entries = contents.routing_entries(
        part.assignments,
        _ready_revisions(part.assignments),
        seats={row.deployment.pk: row.after for row in settled},
        nowhere={
            deployment: why
            for deployment, why in deployments.deployments_nowhere(organization_id=organization_id).items()
            if part.deployment_ids is None or deployment.pk in part.deployment_ids
        },
        waiting=lambda seat: waits_for(seat, by_id),
        withheld=drills.clusters_withheld(organization_id=organization_id),
    )
    peers = [cluster for cluster in clusters if cluster.gateway_url and hasattr(cluster, "session")]
    region_ids = {cluster.region_id for cluster in clusters}
    rtt_ms = fleet.latencies_ms(region_ids=region_ids)
    stays = part.route_stays if part.deployment_ids is not None else None
    return {
        (cluster.pk, TableKind.ROUTING): replace(
            contents.routing_contents(cluster, peers, rtt_ms, entries), stays=stays
        )
        for cluster in clusters
    }


def _ready_revisions(assignments: Iterable[Assignment]) -> set[UUID]:
    """Asked only where it matters: of deployments that change from one revision to another."""
    revisions: dict[UUID, set[UUID]] = defaultdict(set)
    for row in assignments:
        revisions[row.deployment_id].add(row.revision_id)
    changing = [deployment_id for deployment_id, live in revisions.items() if len(live) > 1]
    return selectors.revision_ids_ready(deployment_ids=changing) if changing else set()
