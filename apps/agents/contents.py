"""What stands in a cluster's tables: rows in, entries of the wire out. Reads nothing, decides nothing but weights.

Entries of routes and keys are the same for all clusters of an organization, so they are encoded and hashed once;
only the headers differ.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import msgspec

from apps.accounts.models import ApiKey, RateLimited
from apps.agents.leases import HARD_TTL_S
from apps.deployments.models import Deployment, Posture, Revision
from apps.fleet import selectors as fleet
from apps.fleet.models import Cluster, GpuPool
from apps.placements.models import Assignment
from controlplane.failover import Seat
from workloadplane.protocol.desired import (
    AdapterSource,
    AutoscalingBounds,
    DesiredAssignment,
    DesiredHeader,
    EngineSource,
    ModelSource,
    PoolBound,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import (
    ApiKeyEntry,
    KeySetHeader,
    Peer,
    RateLimits,
    RevisionRoute,
    Route,
    RoutingHeader,
)
from workloadplane.protocol.tables import Manifest, digest

#: After this long without news a gateway says so in its metrics; it goes on serving by what it sees itself.
SOFT_TTL_S = 60.0
#: After this long without news a gateway passes nothing on to other regions.
FORWARDING_TTL_S = 86_400.0

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True)
class Entries:
    """Entries by key, and how a manifest names them."""

    payloads: Mapping[str, bytes]

    @cached_property
    def digests(self) -> dict[str, str]:
        return {key: digest(payload) for key, payload in sorted(self.payloads.items())}


@dataclass(frozen=True)
class Contents:
    """A table before it is signed. ``stays``: whether an entry of a key that is stored already stays as it is there."""

    header: bytes
    entries: Entries
    stays: Callable[[str], bool] | None = None

    def digests(self, stored: Mapping[str, str]) -> Mapping[str, str]:
        """How a manifest names all entries, where these were ``stored``."""
        if self.stays is None:
            return self.entries.digests
        staying = {key: sha256 for key, sha256 in stored.items() if self.stays(key)}
        return dict(sorted((staying | self.entries.digests).items()))

    def manifest(self, issued_at: float | None, digests: Mapping[str, str]) -> bytes:
        """The payload of the table's envelope: equal contents, issued at the same time, give equal bytes."""
        manifest = Manifest(header=msgspec.Raw(self.header), entries=dict(digests), issued_at=issued_at)
        return _encoder.encode(manifest)


def desired_contents(
    cluster: Cluster,
    pools: Sequence[GpuPool],
    assignments: Sequence[Assignment],
    cordoned: Sequence[str] = (),
) -> Contents:
    """What the cluster shall run, and which of its nodes are being emptied."""
    header = DesiredHeader(
        cluster_id=str(cluster.pk),
        cluster_name=cluster.name,
        region=cluster.region.name,
        jurisdiction=cluster.region.jurisdiction,
        pools=tuple(_pool_bound(pool) for pool in sorted(pools, key=lambda pool: str(pool.pk))),
        cordoned=tuple(cordoned),
    )
    entries = {
        str(row.pk): _encoder.encode(_desired_assignment(row, bounds_now(row, assignments)))
        for row in assignments
    }
    return Contents(header=_encoder.encode(header), entries=Entries(entries))


def _pool_bound(pool: GpuPool) -> PoolBound:
    return PoolBound(
        pool_id=str(pool.pk),
        name=pool.name,
        procurement=pool.procurement,
        instance_type=pool.instance_type.name,
        gpus_per_instance=pool.instance_type.gpus,
        capacity_gpus=pool.capacity_instances * pool.instance_type.gpus,
    )


def bounds_now(row: Assignment, beside: Iterable[Assignment]) -> tuple[int, int]:
    """The least and the most replicas as the agent is to keep them now. ``beside``: assignments of the same cluster.

    One that hands over keeps what serves; one that leaves insists on none of the room that successors in its own pool
    are promised.
    """
    if row.draining:
        return 0, 0
    least = max(row.min_replicas, row.handover_replicas)
    most = max(row.max_replicas, least)
    if row.leaving:
        successors = (
            other.room_replicas
            for other in beside
            if (other.deployment_id, other.pool_id) == (row.deployment_id, row.pool_id)
            and not other.leaving
            and not other.draining
        )
        least = max(0, least - sum(successors))
    return least, most


def _desired_assignment(row: Assignment, bounds: tuple[int, int]) -> DesiredAssignment:
    deployment, revision = row.deployment, row.revision
    policy, version, image = deployment.autoscaling, revision.model_version, revision.engine_image
    return DesiredAssignment(
        assignment_id=str(row.pk),
        deployment_id=str(deployment.pk),
        deployment=deployment.name,
        project_id=str(deployment.project_id),
        revision_id=str(revision.pk),
        revision=revision.number,
        pool_id=str(row.pool_id),
        gpus_per_replica=row.gpus_per_replica,
        autoscaling=AutoscalingBounds(
            min_replicas=bounds[0],
            max_replicas=bounds[1],
            autoscaling_window_s=policy.autoscaling_window_s,
            scale_down_delay_s=policy.scale_down_delay_s,
            concurrency_target=policy.concurrency_target,
            policy=policy.policy,
            slo_ttft_s_p95=deployment.slo_ttft_s_p95,
        ),
        model=ModelSource(
            name=version.model.name,
            version=version.version,
            digest=version.digest,
            source_uri=version.source_uri,
            precision=version.precision,
            max_context_tokens=version.max_context_tokens,
        ),
        engine=EngineSource(
            engine=image.engine,
            version=image.version,
            image_digest=image.digest,
            arguments={name: str(value) for name, value in image.arguments.items()},
        ),
        adapters=tuple(AdapterSource(**adapter) for adapter in revision.adapters),
        draining=row.draining,
    )


def clusters_wanted(rows: Iterable[Assignment]) -> list[str]:
    """The clusters of an ``active_passive`` deployment with these live assignments, the one that is to serve first.

    The one that must hold replicas; of two such, as when it moves, the one it leaves until that one drains. One that
    only stands by comes after those that do not; one that drains comes last.
    """
    ordered = sorted(
        rows,
        key=lambda row: (
            row.draining,
            row.standby,
            row.min_replicas == 0,
            not row.leaving,
            -row.min_replicas,
            row.created_at,
            str(row.pk),
        ),
    )
    return list(dict.fromkeys(str(row.pool.cluster_id) for row in ordered))


def routing_entries(
    assignments: Iterable[Assignment],
    ready_revision_ids: Collection[UUID],
    *,
    seats: Mapping[UUID, Seat],
    nowhere: Mapping[Deployment, Refusal],
    waiting: Callable[[Seat], str],
    withheld: Mapping[UUID, Collection[str]],
) -> Entries:
    """A route for each deployment that has a live assignment anywhere, and for each that is placed ``nowhere``.

    One that is being deleted has none: what runs ends as it would, and new requests are refused at once instead of
    being held for a replica that will not come.

    ready_revision_ids: revisions with a ready replica; needed only of deployments with several live revisions
    seats:              deployment id -> who may serve it, of every ``active_passive`` one
    waiting:            says for whom a seat waits
    withheld:           deployment id -> clusters that are to get no traffic of it for now
    """
    by_deployment: dict[Deployment, list[Assignment]] = defaultdict(list)
    for row in assignments:
        if row.deployment.deletion_requested_at is None:
            by_deployment[row.deployment].append(row)
    routes = [
        msgspec.structs.replace(
            _route(deployment, rows, ready_revision_ids),
            withheld=tuple(sorted(withheld.get(deployment.pk, ()))),
        )
        if deployment.posture != Posture.ACTIVE_PASSIVE
        else _seated_route(deployment, rows, ready_revision_ids, seats[deployment.pk], waiting)
        for deployment, rows in by_deployment.items()
    ]
    routes += [_nowhere_route(deployment, refusal) for deployment, refusal in nowhere.items()]
    return Entries({route.deployment_id: _encoder.encode(route) for route in routes})


def _seated_route(
    deployment: Deployment,
    rows: Sequence[Assignment],
    ready_revision_ids: Collection[UUID],
    seat: Seat,
    waiting: Callable[[Seat], str],
) -> Route:
    """Every revision names the serving cluster first, or none at all: nobody else may think that it is the one."""
    seated = [row for row in rows if str(row.pool.cluster_id) == seat.serving]
    route = _route(deployment, seated or rows, ready_revision_ids)
    revisions = {row.revision_id: row.revision for row in rows}
    weights = {share.revision_id: share.weight for share in route.revisions}
    shares = []
    for revision in sorted(revisions.values(), key=lambda revision: -revision.number):
        share = _revision_route(revision, rows, weight=weights.get(str(revision.pk), 0))
        others = tuple(name for name in share.cluster_ids if name != seat.serving)
        holds = seat.serving is not None and seat.serving in share.cluster_ids
        shares.append(
            msgspec.structs.replace(share, cluster_ids=(seat.serving or "", *others) if holds else ())
        )
    refusal = None
    if seat.serving is None:
        refusal = Refusal(
            rule="handing_over",
            subject="deployment",
            value=f"another cluster takes over once {waiting(seat)}",
            remedy="try again shortly",
        )
    return msgspec.structs.replace(route, revisions=tuple(shares), refusal=refusal)


def _route(deployment: Deployment, rows: Sequence[Assignment], ready_revision_ids: Collection[UUID]) -> Route:
    revisions = {row.revision_id: row.revision for row in rows}
    weighted = _weighted_revision(deployment, rows, ready_revision_ids)
    shares = tuple(
        _revision_route(revision, rows, weight=100 if revision.pk == weighted else 0)
        for revision in sorted(revisions.values(), key=lambda revision: -revision.number)
    )
    return _route_of(
        deployment,
        revisions[weighted].model_version.model.name,
        shares,
        adapters=_adapters(revisions.values()),
    )


def _adapters(revisions: Iterable[Revision]) -> tuple[str, ...]:
    """Of all live revisions: a gateway asks only replicas that have the one it wants."""
    return tuple(sorted({adapter["name"] for revision in revisions for adapter in revision.adapters}))


def _nowhere_route(deployment: Deployment, refusal: Refusal) -> Route:
    """It exists, so nobody is told otherwise; it runs nowhere, and this is why."""
    revision = deployment.current_revision
    model = revision.model_version.model.name if revision is not None else ""
    adapters = _adapters([revision]) if revision is not None else ()
    unplaced = _route_of(deployment, model, (), adapters=adapters)
    return msgspec.structs.replace(unplaced, placed=False, refusal=refusal)


def _route_of(
    deployment: Deployment,
    model: str,
    revisions: tuple[RevisionRoute, ...],
    *,
    adapters: tuple[str, ...] = (),
) -> Route:
    return Route(
        deployment_id=str(deployment.pk),
        deployment=deployment.name,
        project_id=str(deployment.project_id),
        model=model,
        residency=tuple(sorted(deployment.residency)),
        residency_ingress=deployment.residency_ingress,
        priority=deployment.priority,
        posture=deployment.posture,
        concurrency_target=deployment.autoscaling.concurrency_target,
        scale_to_zero=deployment.autoscaling.min_replicas == 0,
        revisions=revisions,
        created_at=int(deployment.created_at.timestamp()),
        adapters=adapters,
        resume=deployment.resume,
    )


def _weighted_revision(
    deployment: Deployment, rows: Sequence[Assignment], ready_revision_ids: Collection[UUID]
) -> UUID:
    """Who takes the traffic: the current revision once it is ready; until then the newest that is ready."""
    newest_first = sorted(rows, key=lambda row: (row.draining, -row.revision.number))
    live = list(dict.fromkeys(row.revision_id for row in newest_first))
    current = deployment.current_revision_id
    if current in live and current in ready_revision_ids:
        return current
    for revision_id in live:
        if revision_id in ready_revision_ids:
            return revision_id
    return current if current in live else live[0]


def _revision_route(revision: Revision, rows: Sequence[Assignment], *, weight: int) -> RevisionRoute:
    """Its clusters, those that must hold the most replicas first."""
    own = [row for row in rows if row.revision_id == revision.pk]
    own.sort(key=lambda row: (row.draining, -row.min_replicas, row.created_at, str(row.pk)))
    return RevisionRoute(
        revision_id=str(revision.pk),
        revision=revision.number,
        weight=weight,
        modalities=tuple(revision.model_version.modalities),
        cluster_ids=tuple(dict.fromkeys(str(row.pool.cluster_id) for row in own)),
    )


def routing_contents(
    cluster: Cluster, peers: Sequence[Cluster], rtt_ms: Mapping[tuple[UUID, UUID], float], entries: Entries
) -> Contents:
    """Where the cluster's gateways may send. ``peers``: enrolled clusters with a gateway, their session loaded."""
    header = RoutingHeader(
        cluster_id=str(cluster.pk),
        cluster_name=cluster.name,
        region=cluster.region.name,
        jurisdiction=cluster.region.jurisdiction,
        gateway_url=cluster.gateway_url,
        peers=tuple(
            Peer(
                cluster_id=str(peer.pk),
                cluster_name=peer.name,
                region=peer.region.name,
                jurisdiction=peer.region.jurisdiction,
                url=peer.gateway_url,
                public_key=bytes(peer.session.public_key),
                rtt_ms=fleet.rtt_ms(cluster.region, peer.region, rtt_ms),
            )
            for peer in sorted(peers, key=lambda peer: str(peer.pk))
            if peer.pk != cluster.pk
        ),
        soft_ttl_s=SOFT_TTL_S,
        hard_ttl_s=HARD_TTL_S,
        forwarding_ttl_s=FORWARDING_TTL_S,
    )
    return Contents(header=_encoder.encode(header), entries=entries)


def _rate_limits(limited: RateLimited) -> RateLimits | None:
    limits = RateLimits(
        requests_per_minute=limited.requests_per_minute or 0,
        tokens_per_minute=limited.tokens_per_minute or 0,
        concurrent_requests=limited.concurrent_requests or 0,
    )
    return None if limits == RateLimits() else limits


def keyset_entries(api_keys: Iterable[ApiKey]) -> Entries:
    """The keys that gateways accept."""
    return Entries(
        {
            str(api_key.pk): _encoder.encode(
                ApiKeyEntry(
                    api_key_id=str(api_key.pk),
                    sha256=bytes(api_key.sha256),
                    project_id=str(api_key.project_id),
                    scopes=tuple(sorted(api_key.scopes)),
                    expires_at=api_key.expires_at.timestamp() if api_key.expires_at else None,
                    limits=_rate_limits(api_key),
                    project_limits=_rate_limits(api_key.project),
                    max_priority=api_key.max_priority,
                )
            )
            for api_key in api_keys
        }
    )


def keyset_contents(signing_keys: Mapping[str, bytes], entries: Entries) -> Contents:
    """Whom the cluster's gateways let in, and whose signatures count."""
    return Contents(
        header=_encoder.encode(KeySetHeader(signing_keys=dict(sorted(signing_keys.items())))), entries=entries
    )
