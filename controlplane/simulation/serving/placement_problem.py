"""A world as placement is asked about it: one deployment, a cluster in each region, its pools as they are listed.

A replica is an instance; all types of it do what the world's service says. A pool's hazard is what the world says until
something else is learned; of stock-outs nothing is told beforehand.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.placement import (
    Budget,
    Cluster,
    Demand,
    FailureDomain,
    Latency,
    PerformanceProfile,
    PlacementProblem,
    Pool,
    Posture,
    Reservation,
    WantedDeployment,
)
from controlplane.placement.checks import LEAST_RATE
from controlplane.placement.supply import Procurement
from controlplane.simulation.serving.geography import Geography, Region
from controlplane.simulation.serving.placement_world import Placement
from controlplane.simulation.serving.pools import ServingPool
from controlplane.simulation.serving.usage import Rates
from controlplane.simulation.serving.world import ServingWorld, Survey
from workloadplane.autoscaling import AutoscalingPolicy

DEPLOYMENT_ID = "deployment"
_VERSION, _REVISION, _PROVIDER, _PROJECT = "model", "revision", "provider", "project"
_RATE_MAX = 1e6
_KINDS: Mapping[str, Procurement] = {"reserved": "reserved", "on_demand": "on_demand", "spot": "spot"}


@dataclass(frozen=True, slots=True)
class Mean:
    """A request of the world in the mean. work_s: replica-seconds."""

    work_s: float
    output_tokens: float

    @classmethod
    def of(cls, seen: Survey) -> "Mean":
        """As the survey has it; of no requests: nothing."""
        return cls(seen.work_s, seen.output_tokens / max(1, seen.requests))


def pool_id_of(region: str, pool: ServingPool) -> str:
    """As plans name it."""
    return f"{region}/{pool.name}"


def problem_of(
    world: ServingWorld,
    placement: Placement,
    policy: AutoscalingPolicy,
    mean: Mean,
    rates: Rates,
    *,
    posture: Posture,
) -> PlacementProblem:
    """As it is at the beginning. ``policy``: with the deployment's own bounds. Raises ValueError (``checks``)."""
    geography, gpus = world.geography, world.failures.gpus_per_replica
    pools = [(region.name, pool) for region in geography.regions for pool in region.pools]
    return PlacementProblem(
        organization_id="world",
        wanted=1,
        plan_generation=0,
        clusters=tuple(map(_cluster, geography.regions)),
        pools=tuple(_pool(region, pool, gpus) for region, pool in pools),
        reservations=tuple(
            Reservation(
                pool_id=pool_id_of(region, pool),
                instances=pool.replicas,
                instance_micro_usd_per_h=round(pool.usd_per_replica_h * 1e6),
            )
            for region, pool in pools
            if pool.procurement == "reserved"
        ),
        deployments=(_deployment(placement, policy, gpus, geography, posture),),
        demands=tuple(demands_of(geography.origins, rates, mean)),
        profiles=tuple(
            PerformanceProfile(
                model_version_id=_VERSION,
                instance_type_id=kind,
                tensor_parallel=gpus,
                requests_per_s=min(_RATE_MAX, 1.0 / max(mean.work_s, 1.0 / _RATE_MAX)),
                tokens_per_s=max(LEAST_RATE, mean.output_tokens / max(mean.work_s, 1.0 / _RATE_MAX)),
                concurrency=world.service.seats,
                **{f"{phase.name}_s": phase.mean_s for phase in world.cold_start},
            )
            for kind in sorted({pool.instance_type for _, pool in pools})
        ),
        latencies=tuple(_latencies(geography)),
        budgets=budgets_of(placement, 0.0),
    )


def demands_of(origins: Iterable[str], rates: Rates, mean: Mean) -> Iterator[Demand]:
    """Of each place where clients are. ``rates``: requests per second."""
    for origin, p50, p95 in zip(origins, rates.p50.tolist(), rates.p95.tolist(), strict=True):
        middle, high = (rate if rate >= LEAST_RATE else 0.0 for rate in (p50, p95))
        tokens = mean.output_tokens if high * mean.output_tokens >= LEAST_RATE else 0.0
        yield Demand(
            deployment_id=DEPLOYMENT_ID,
            origin_region=origin,
            requests_per_s_p50=middle,
            requests_per_s_p95=high,
            tokens_per_s_p50=middle * tokens,
            tokens_per_s_p95=high * tokens,
        )


def zones_of(clusters: Iterable[Cluster]) -> dict[str, tuple[str, ...]]:
    """By cluster: as they are recorded."""
    return {cluster.cluster_id: cluster.domains("zone") for cluster in clusters}


def budgets_of(placement: Placement, now_s: float) -> tuple[Budget, ...]:
    """What its project may spend now, if that is bounded."""
    known = [one for one in placement.budgets if one.at_s <= now_s]
    return (Budget(project_id=_PROJECT, micro_usd_per_h=round(known[-1].usd_per_h * 1e6)),) if known else ()


def _cluster(region: Region) -> Cluster:
    zones = sorted({pool.zone for pool in region.pools})
    return Cluster(
        cluster_id=region.name,
        name=region.name,
        generation=1,
        region=region.name,
        provider=_PROVIDER,
        jurisdiction=region.jurisdiction,
        failure_domains=(
            *(FailureDomain(kind="zone", name=f"{region.name}/{zone}") for zone in zones),
            FailureDomain(kind="region", name=region.name),
            FailureDomain(kind="provider", name=_PROVIDER),
        ),
    )


def _pool(region: str, pool: ServingPool, gpus: int) -> Pool:
    return Pool(
        pool_id=pool_id_of(region, pool),
        name=pool.name,
        generation=1,
        cluster_id=region,
        instance_type_id=pool.instance_type,
        instance_type=pool.instance_type,
        gpu_type="GPU",
        gpu_vendor="nvidia",
        gpu_memory_gib=80,
        precisions=("bf16",),
        procurement=_KINDS[pool.procurement],
        gpus_per_instance=gpus,
        capacity_instances=pool.replicas,
        instance_micro_usd_per_h=round(pool.usd_per_replica_h * 1e6),
        hazard_per_h=pool.hazard_per_h,
    )


def _deployment(
    placement: Placement, policy: AutoscalingPolicy, gpus: int, geography: Geography, posture: Posture
) -> WantedDeployment:
    return WantedDeployment(
        deployment_id=DEPLOYMENT_ID,
        name=DEPLOYMENT_ID,
        project_id=_PROJECT,
        generation=1,
        revision_id=_REVISION,
        revision=1,
        model_version_id=_VERSION,
        engine="vllm",
        precision="bf16",
        weights_bytes=1 << 30,
        gpus_per_replica=gpus,
        min_replicas=policy.min_replicas,
        max_replicas=max(1, policy.max_replicas),
        concurrency_target=policy.concurrency_target,
        posture=posture,
        survivability=placement.survivability,
        residency=tuple(sorted(geography.residency)),
        priority=0,
        created_at_s=0.0,
    )


def _latencies(geography: Geography) -> Iterator[Latency]:
    for origin in geography.origins:
        for region in geography.names:
            if origin != region or geography.round_trips.s(origin, region):
                rtt_ms = min(2000.0, 1000.0 * geography.round_trips.s(origin, region))
                yield Latency(origin_region=origin, target_region=region, rtt_ms=rtt_ms)
