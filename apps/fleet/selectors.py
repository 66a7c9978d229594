"""Reading the fleet: shared facts for everyone, clusters and pools for their organization."""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.utils import timezone

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.api.problems import not_found
from apps.api.rows import M, row_by_id
from apps.fleet.models import (
    Cluster,
    FailureDomain,
    GpuPool,
    GpuType,
    InstanceType,
    NetworkPrice,
    PoolPrice,
    Provider,
    Region,
    RegionLatency,
    Reservation,
)


def providers() -> QuerySet[Provider]:
    return Provider.objects.all()


def regions(*, provider: str | None = None, jurisdiction: str | None = None) -> QuerySet[Region]:
    found = Region.objects.select_related("provider")
    found = found if provider is None else found.filter(provider__name=provider)
    return found if jurisdiction is None else found.filter(jurisdiction=jurisdiction)


def jurisdictions() -> list[str]:
    """All that regions lie in, sorted."""
    return sorted(set(Region.objects.values_list("jurisdiction", flat=True)))


def failure_domains(*, kind: str | None = None) -> QuerySet[FailureDomain]:
    found = FailureDomain.objects.all()
    return found if kind is None else found.filter(kind=kind)


def gpu_types() -> QuerySet[GpuType]:
    return GpuType.objects.all()


def instance_types(*, provider: str | None = None, gpu_type: str | None = None) -> QuerySet[InstanceType]:
    found = InstanceType.objects.select_related("provider", "gpu_type")
    found = found if provider is None else found.filter(provider__name=provider)
    return found if gpu_type is None else found.filter(gpu_type__name=gpu_type)


def latencies(*, origin: str | None = None) -> QuerySet[RegionLatency]:
    found = RegionLatency.objects.select_related("origin", "target")
    return found if origin is None else found.filter(origin__name=origin)


def network_prices(*, origin: str | None = None) -> QuerySet[NetworkPrice]:
    found = NetworkPrice.objects.select_related("origin", "target")
    return found if origin is None else found.filter(origin__name=origin)


def clusters(*, actor: Actor, region: str | None = None, now: datetime | None = None) -> QuerySet[Cluster]:
    """Clusters of the actor's organization, with ``is_enrolled`` and ``is_connected`` (the lease runs at ``now``)."""
    now = now or timezone.now()
    found = (
        Cluster.objects.filter(organization_id=organization_wanted(actor))
        .select_related("region__provider")
        .prefetch_related("failure_domains")
        .annotate(
            is_connected=Exists(Cluster.objects.filter(pk=OuterRef("pk"), session__lease_expires_at__gt=now)),
            is_enrolled=Exists(Cluster.objects.filter(pk=OuterRef("pk"), session__isnull=False)),
        )
    )
    return found if region is None else found.filter(region__name=region)


def cluster_is_enrolled(*, cluster: Cluster) -> bool:
    """Whether an agent's key is bound to it."""
    return Cluster.objects.filter(pk=cluster.pk, session__isnull=False).exists()


def cluster_get(*, actor: Actor, name: str) -> Cluster:
    """By name or id. Raises Problem ``not_found``."""
    return _one(clusters(actor=actor), "cluster", name)


def pools(
    *,
    actor: Actor,
    cluster: str | None = None,
    procurement: str | None = None,
    gpu_type: str | None = None,
    now: datetime | None = None,
) -> QuerySet[GpuPool]:
    """Pools of the actor's organization, each with ``micro_usd_per_h``: an instance's price at ``now``."""
    found = pools_priced(now=now).filter(cluster__organization_id=organization_wanted(actor))
    found = found if cluster is None else found.filter(cluster__name=cluster)
    found = found if procurement is None else found.filter(procurement=procurement)
    return found if gpu_type is None else found.filter(instance_type__gpu_type__name=gpu_type)


def pools_priced(*, now: datetime | None = None) -> QuerySet[GpuPool]:
    """All pools of all organizations, for the control plane itself, with ``micro_usd_per_h`` at ``now``."""
    current = (
        PoolPrice.objects.filter(pool=OuterRef("pk"), effective_from__lte=now or timezone.now())
        .order_by("-effective_from")
        .values("instance_micro_usd_per_h")[:1]
    )
    return GpuPool.objects.select_related(
        "cluster__region__provider", "instance_type__gpu_type", "instance_type__provider"
    ).annotate(micro_usd_per_h=Subquery(current))


def pool_get(*, actor: Actor, pool_id: str) -> GpuPool:
    """By id. Raises Problem ``not_found``."""
    return row_by_id(pools(actor=actor), "pool", pool_id)


def pool_ids_of_cluster(*, cluster_id: UUID) -> list[UUID]:
    """Keys of a cluster's pools."""
    return list(GpuPool.objects.filter(cluster_id=cluster_id).values_list("pk", flat=True))


def pool_by_name(*, actor: Actor, cluster: str, name: str) -> GpuPool | None:
    return pools(actor=actor, cluster=cluster).filter(name=name).first()


def pool_prices(*, pool: GpuPool) -> QuerySet[PoolPrice]:
    """What an instance cost and costs."""
    return PoolPrice.objects.filter(pool=pool)


def reservations(*, actor: Actor, pool: UUID | None = None) -> QuerySet[Reservation]:
    found = Reservation.objects.filter(
        pool__cluster__organization_id=organization_wanted(actor)
    ).select_related("pool__cluster")
    return found if pool is None else found.filter(pool_id=pool)


def reservation_get(*, actor: Actor, reservation_id: str) -> Reservation:
    """Raises Problem ``not_found``."""
    return row_by_id(reservations(actor=actor), "reservation", reservation_id)


def fact_get(found: "QuerySet[M]", kind: str, name: str) -> M:
    """A shared fact by name or id. Raises Problem ``not_found``."""
    return _one(found, kind, name)


def _one(found: "QuerySet[M]", kind: str, name: str) -> M:
    try:
        condition = Q(pk=UUID(name))
    except ValueError:
        condition = Q(name=name)
    rows = list(found.filter(condition)[:2])
    if len(rows) != 1:
        raise not_found(kind, name)
    return rows[0]


def gpus_of(pool: GpuPool) -> int:
    """How many GPUs a pool has in all. ``instance_type`` must be loaded."""
    return pool.capacity_instances * pool.instance_type.gpus


def organization_ids_of_clusters(*, cluster_ids: Collection[UUID]) -> list[UUID]:
    """The organizations that these clusters belong to, in one order."""
    owners = Cluster.objects.filter(pk__in=cluster_ids).values_list("organization_id", flat=True)
    return sorted(set(owners))


def cluster_by_id(*, cluster_id: UUID) -> Cluster | None:
    """For the system itself, whoever owns it."""
    return Cluster.objects.filter(pk=cluster_id).first()


def cluster_ids_retired(*, before: datetime) -> list[UUID]:
    """Clusters that were retired before a moment and are still counted on."""
    found = Cluster.objects.filter(retired_at__lt=before, ended_at=None)
    return list(found.order_by("pk").values_list("pk", flat=True))


def cluster_names(*, cluster_ids: Collection[UUID]) -> dict[UUID, str]:
    """Cluster id -> name, whoever's, also of those that are retired; for the control plane itself."""
    return dict(Cluster.objects.filter(pk__in=cluster_ids).values_list("pk", "name"))


def pool_names(*, organization_id: UUID) -> dict[UUID, str]:
    """Pool id -> ``cluster/pool``, of all pools of an organization."""
    rows = GpuPool.objects.filter(cluster__organization_id=organization_id)
    return {pk: f"{cluster}/{name}" for pk, cluster, name in rows.values_list("pk", "cluster__name", "name")}


def organization_ids_with_clusters() -> list[UUID]:
    """All organizations that have a cluster, for the control plane itself."""
    return sorted(set(Cluster.objects.values_list("organization_id", flat=True)))


def clusters_for_tables(*, organization_id: UUID) -> list[Cluster]:
    """An organization's clusters with region, agent's session (if enrolled) and pools: what tables are made of.

    One that has ended gets none.
    """
    found = Cluster.objects.filter(organization_id=organization_id, ended_at=None).order_by("id")
    return list(
        found.select_related("region", "session").prefetch_related(
            Prefetch("pools", GpuPool.objects.select_related("instance_type"))
        )
    )


def clusters_watched(*, organization_id: UUID) -> list[Cluster]:
    """An organization's clusters that have not ended, with their agents' sessions."""
    found = Cluster.objects.filter(organization_id=organization_id, ended_at=None)
    return list(found.select_related("session").order_by("id"))


def latencies_ms(*, region_ids: Collection[UUID]) -> dict[tuple[UUID, UUID], float]:
    """(origin, target) -> round-trip time between these regions, where it is recorded."""
    rows = RegionLatency.objects.filter(origin__in=region_ids, target__in=region_ids)
    return {
        (origin_id, target_id): rtt_ms
        for origin_id, target_id, rtt_ms in rows.values_list("origin_id", "target_id", "rtt_ms")
    }


def rtt_ms(origin: Region, target: Region, measured: Mapping[tuple[UUID, UUID], float]) -> float:
    """As recorded; else light in fibre (200 km/ms) there and back over the great circle, half as long again."""
    known = measured.get((origin.pk, target.pk))
    if known is not None:
        return known
    a, b = math.radians(origin.latitude), math.radians(target.latitude)
    half = math.radians(target.longitude - origin.longitude) / 2
    chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(half) ** 2
    distance_km = 2 * 6371 * math.asin(math.sqrt(min(1.0, chord)))
    return round(max(1.0, distance_km / 100 * 1.5), 1)


def cluster_generations_locked(*, cluster_ids: Collection[str]) -> dict[UUID, int]:
    """Lock clusters until the caller's transaction ends; their generations by id."""
    rows = Cluster.objects.select_for_update(no_key=True).filter(pk__in=cluster_ids).order_by("pk")
    return dict(rows.values_list("pk", "generation"))


def pool_generations_locked(*, pool_ids: Collection[str]) -> dict[UUID, int]:
    """Lock pools until the caller's transaction ends; their generations by id."""
    rows = GpuPool.objects.select_for_update(no_key=True).filter(pk__in=pool_ids).order_by("pk")
    return dict(rows.values_list("pk", "generation"))


def cluster_ids() -> list[UUID]:
    """All clusters of all organizations, for the control plane itself."""
    return list(Cluster.objects.order_by("pk").values_list("pk", flat=True))


def region_by_cluster() -> dict[UUID, str]:
    """The region's name of every cluster, for the control plane itself."""
    return dict(Cluster.objects.values_list("pk", "region__name"))


def cluster_ids_named(*, actor: Actor, name: str) -> list[UUID]:
    """The cluster of this name in the actor's organization: one or none."""
    found = Cluster.objects.filter(organization_id=organization_wanted(actor), name=name)
    return list(found.values_list("pk", flat=True))
