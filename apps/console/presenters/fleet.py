"""Clusters, pools, regions and capacity as the console shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.agents.models import AgentSession, Replica, ReplicaState
from apps.console import worldmap
from apps.fleet.models import Cluster, GpuPool, Procurement
from apps.fleet.selectors import gpus_of
from apps.placements.models import Assignment
from workloadplane.words import counted

#: States in which a replica occupies GPUs.
OCCUPYING = frozenset(
    {
        ReplicaState.PENDING,
        ReplicaState.STARTING,
        ReplicaState.READY,
        ReplicaState.UNHEALTHY,
        ReplicaState.DRAINING,
    }
)


@dataclass(frozen=True)
class AgentView:
    """Whether a cluster's agent is heard, in one word and one sentence."""

    word: str
    tone: str
    said: str
    last_sync_at: datetime | None


@dataclass(frozen=True)
class PoolView:
    """A pool with what of it is in use."""

    pool: GpuPool
    gpus: int
    used_gpus: int
    price_micro_usd_per_h: int | None
    hazard_percent_per_h: float


@dataclass(frozen=True)
class ClusterView:
    """A cluster with its agent, its pools and its replicas counted."""

    cluster: Cluster
    agent: AgentView
    pools: tuple[PoolView, ...]
    ready: int
    desired: int
    present: int
    substitutions: tuple[tuple[str, str], ...]

    @property
    def gpus(self) -> int:
        return sum(pool.gpus for pool in self.pools)

    @property
    def used_gpus(self) -> int:
        return sum(pool.used_gpus for pool in self.pools)


@dataclass(frozen=True)
class CapacityClass:
    """All pools of one procurement together."""

    procurement: str
    used_gpus: int
    gpus: int


@dataclass(frozen=True)
class RegionView:
    """A region with its clusters, judged by the worst of them."""

    name: str
    provider: str
    jurisdiction: str
    word: str
    tone: str
    said: str
    clusters: tuple[ClusterView, ...]
    capacity: tuple[CapacityClass, ...]
    ready: int
    desired: int


def agent_view(cluster: Cluster, now: datetime) -> AgentView:
    """``cluster.session`` must be loaded where there is one."""
    if cluster.retired_at is not None:
        return AgentView("retired", "idle", "its agent is refused, for good", None)
    session: AgentSession | None = getattr(cluster, "session", None)
    if session is None or session.last_sync_at is None:
        return AgentView("not enrolled", "idle", "no agent has called home yet", None)
    if session.fenced_at is not None:
        said = "two agents claimed this cluster; both are fenced until one enrols again"
        return AgentView("fenced", "bad", said, session.last_sync_at)
    if session.lease_expires_at is None or session.lease_expires_at <= now:
        said = "not heard of; it goes on serving with its last decisions"
        return AgentView("disconnected", "bad", said, session.last_sync_at)
    return AgentView("connected", "ok", "the agent calls home", session.last_sync_at)


def cluster_views(
    *,
    clusters: Iterable[Cluster],
    pools: Sequence[GpuPool],
    replicas: Sequence[Replica],
    assignments: Sequence[Assignment],
    now: datetime,
) -> tuple[ClusterView, ...]:
    """``clusters`` with region, provider and session loaded, ``pools`` priced with instance and GPU type; the rest
    live rows only."""
    gpus_per_replica = {str(a.pk): a.gpus_per_replica for a in assignments}
    used_by_pool: dict[UUID, int] = {}
    for replica in replicas:
        if replica.state in OCCUPYING:
            gpus = gpus_per_replica.get(str(replica.assignment_id), 1)
            used_by_pool[replica.pool_id] = used_by_pool.get(replica.pool_id, 0) + gpus
    return tuple(
        _cluster_view(
            cluster,
            pools=[pool for pool in pools if pool.cluster_id == cluster.pk],
            replicas=[replica for replica in replicas if replica.cluster_id == cluster.pk],
            assignments=assignments,
            used_by_pool=used_by_pool,
            now=now,
        )
        for cluster in clusters
    )


def _cluster_view(
    cluster: Cluster,
    *,
    pools: Sequence[GpuPool],
    replicas: Sequence[Replica],
    assignments: Sequence[Assignment],
    used_by_pool: Mapping[UUID, int],
    now: datetime,
) -> ClusterView:
    own = tuple(
        PoolView(
            pool=pool,
            gpus=gpus_of(pool),
            used_gpus=used_by_pool.get(pool.pk, 0),
            price_micro_usd_per_h=getattr(pool, "micro_usd_per_h", None),
            hazard_percent_per_h=pool.hazard_believed_per_h * 100,
        )
        for pool in sorted(pools, key=_pool_order)
    )
    ids = {pool.pool.pk for pool in own}
    session = getattr(cluster, "session", None)
    facts = session.facts if session is not None else {}
    return ClusterView(
        cluster=cluster,
        agent=agent_view(cluster, now),
        pools=own,
        ready=sum(replica.state == ReplicaState.READY for replica in replicas),
        desired=sum(a.min_replicas for a in assignments if a.pool_id in ids and not a.draining),
        present=sum(replica.state in OCCUPYING for replica in replicas),
        substitutions=tuple(sorted((facts.get("engine_substitutions") or {}).items())),
    )


def _pool_order(pool: GpuPool) -> tuple[int, str]:
    return Procurement.values.index(pool.procurement), pool.name


def capacity_classes(clusters: Iterable[ClusterView]) -> tuple[CapacityClass, ...]:
    """Used and total GPUs by procurement, in the order reserved, on demand, spot."""
    pools = [pool for cluster in clusters for pool in cluster.pools]
    return tuple(
        CapacityClass(
            procurement=procurement,
            used_gpus=sum(p.used_gpus for p in pools if p.pool.procurement == procurement),
            gpus=sum(p.gpus for p in pools if p.pool.procurement == procurement),
        )
        for procurement in Procurement.values
    )


def region_views(clusters: Sequence[ClusterView]) -> tuple[RegionView, ...]:
    """Clusters grouped by region."""
    by_region: dict[UUID, list[ClusterView]] = {}
    for cluster in clusters:
        by_region.setdefault(cluster.cluster.region_id, []).append(cluster)
    views = [_region_view(tuple(members)) for members in by_region.values()]
    return tuple(sorted(views, key=lambda view: view.name))


def _region_view(members: tuple[ClusterView, ...]) -> RegionView:
    region = members[0].cluster.region
    worst = max(
        members, key=lambda member: ("ok", "idle", "busy", "warn", "bad").index(member.agent.tone)
    ).agent
    ready = sum(member.ready for member in members)
    desired = sum(member.desired for member in members)
    word, tone = worst.word, worst.tone
    if worst.tone == "ok" and ready < desired:
        word, tone = "starting", "busy"
    return RegionView(
        name=region.name,
        provider=region.provider.name,
        jurisdiction=region.jurisdiction,
        word=word,
        tone=tone,
        said=f"{counted(ready, 'replica')} ready, at least {desired} wanted; agent {worst.word}",
        clusters=members,
        capacity=capacity_classes(members),
        ready=ready,
        desired=desired,
    )


def places(regions: Sequence[RegionView]) -> tuple[worldmap.Place, ...]:
    """The regions as dots on the map."""
    return tuple(
        worldmap.place(
            name=view.name,
            tone=view.tone,
            said=f"{view.word}, {view.said}",
            longitude=view.clusters[0].cluster.region.longitude,
            latitude=view.clusters[0].cluster.region.latitude,
        )
        for view in regions
    )
