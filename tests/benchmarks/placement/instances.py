"""Random problems that look like the world, and whose answer exists.

    instance(deployments=1000, pools=40, regions=8, seed=1)

Deployments are made one after the other, each with a *witness*: a lawful placement that serves its demand whatever
failure domain is lost. A pool's capacity is then what all witnesses take there, divided by ``tightness``. So the whole
is feasible with that utilisation, while everybody would like the same cheap pools. What runs now is the witness for
most of those that run, and somewhere else for the others.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from controlplane.placement import (
    Budget,
    Cluster,
    CurrentAssignment,
    Demand,
    PerformanceProfile,
    PlacementProblem,
    Pool,
    Reservation,
    Slo,
    Survivability,
    WantedDeployment,
    Weights,
)
from tests.benchmarks.placement.catalogue import FAR_ORIGINS, GIB, PLACES, RESERVED_PRICE_SHARE, Place
from tests.benchmarks.placement.worlds import (
    MEMORY_SHARE,
    Version,
    clusters_and_pools,
    network,
    profiles,
    round_trip_ms,
    versions,
)

NARROWER: Mapping[Survivability, Survivability] = {"provider": "region", "region": "zone", "zone": "none"}
ONLY_NVIDIA = ("tensorrt_llm", "nim")
EPOCH_S = 1_750_000_000.0


@dataclass(slots=True)
class _Made:
    """A deployment, what is asked of it, and the replicas by pool that could serve it."""

    wanted: WantedDeployment
    demands: tuple[Demand, ...]
    witness: dict[str, int]


@dataclass(slots=True)
class _World:
    """Everything that deployments choose from. ``used_gpus`` is what witnesses take so far."""

    rng: Random
    places: Sequence[Place]
    clusters: dict[str, Cluster]
    pools: Sequence[Pool]
    versions: Sequence[Version]
    profiles: dict[tuple[str, str], PerformanceProfile]
    popularity: dict[str, float]
    most_replicas: int
    usual_gpus: float
    survivable_share: float
    rtt_s: dict[tuple[str, str], float]
    used_gpus: Counter[str] = field(default_factory=Counter)


def instance(
    *,
    deployments: int,
    pools: int,
    regions: int,
    seed: int,
    tightness: float = 0.8,
    running_share: float = 0.7,
    survivable_share: float = 0.6,
) -> PlacementProblem:
    """A world of this size. Deterministic: equal arguments give equal problems.

    tightness:         the share of each pool's GPUs that the witness uses (whole instances, so a little less)
    running_share:     of the deployments, how many run already
    survivable_share:  of the deployments, how many must survive the loss of a zone, region or provider

    Raises ``ValueError`` for sizes that make no world: more regions than are known, fewer pools than regions.
    """
    if not 1 <= regions <= len(PLACES):
        raise ValueError(f"regions is {regions}; give 1 to {len(PLACES)}")
    if pools < regions:
        raise ValueError(f"pools is {pools}; give at least one for each of the {regions} regions")
    if not 0 < tightness <= 1:
        raise ValueError(f"tightness is {tightness}; give a share above 0, at most 1")
    rng = Random(f"{deployments} {pools} {regions} {seed}")
    world = _world(rng, deployments, pools, PLACES[:regions], survivable_share)
    made = [_deployment(world, number) for number in range(deployments)]
    sized = [_sized(rng, pool, world.used_gpus[pool.pool_id], tightness) for pool in world.pools]
    latencies, network_prices = network(world.places)
    return PlacementProblem(
        organization_id="o",
        wanted=1,
        plan_generation=1,
        clusters=tuple(world.clusters.values()),
        pools=tuple(sized),
        deployments=tuple(one.wanted for one in made),
        current=tuple(_running(world, sized, made, running_share)),
        reservations=tuple(_reservations(rng, sized)),
        demands=tuple(row for one in made for row in one.demands),
        profiles=tuple(world.profiles.values()),
        latencies=tuple(latencies),
        budgets=tuple(_budgets(rng, sized, made)),
        network_prices=tuple(network_prices),
    )


def _world(
    rng: Random, deployments: int, pools: int, places: Sequence[Place], survivable_share: float
) -> _World:
    clusters, made_pools = clusters_and_pools(rng, places, pools)
    made_versions = versions(rng, max(4, min(300, deployments // 3)))
    rows = profiles(rng, made_versions, made_pools)
    origins = (*PLACES, *FAR_ORIGINS)
    return _World(
        rng=rng,
        places=places,
        clusters={cluster.cluster_id: cluster for cluster in clusters},
        pools=made_pools,
        versions=made_versions,
        profiles={(row.model_version_id, row.instance_type_id): row for row in rows},
        popularity={
            pool.pool_id: rng.lognormvariate(0, 0.7) * (0.5 if pool.procurement == "spot" else 1.0)
            for pool in made_pools
        },
        most_replicas=8 + deployments // 4,
        usual_gpus=20 * deployments / pools,
        survivable_share=survivable_share,
        rtt_s={
            (origin.region, target.region): 0.0 if origin == target else round_trip_ms(origin, target) / 1000
            for origin in origins
            for target in places
        },
    )


def _deployment(world: _World, number: int) -> _Made:
    """Roll until it fits somewhere; a wish for survival that no set of pools could grant is lowered."""
    for _ in range(50):
        version = world.rng.choice(world.versions)
        wanted = _wanted(world, number, version)
        demands = _demands(world, wanted, version)
        if demands is None:
            continue
        while True:
            witness = _witness(world, wanted, demands)
            if witness is not None:
                return _with_bounds(world, wanted, demands, witness)
            if wanted.survivability == "none":
                break
            wanted = replace(wanted, survivability=NARROWER[wanted.survivability])
    raise ValueError(f"no deployment fits into this world of {len(world.pools)} pools; give it more of them")


def _wanted(world: _World, number: int, version: Version) -> WantedDeployment:
    rng = world.rng
    survivability: Survivability = "none"
    if rng.random() < world.survivable_share:
        survivability = rng.choices(("zone", "region", "provider"), (45, 40, 15))[0]
    jurisdictions = sorted({place.jurisdiction for place in world.places})
    residency: tuple[str, ...] = ()
    if rng.random() < 0.25:
        residency = tuple(
            one for one in rng.choice((("eu",), ("us",), ("eu", "uk"), ("jp",))) if one in jurisdictions
        )
    denied = ("azure",) if rng.random() < 0.04 else ()
    return WantedDeployment(
        deployment_id=f"d-{number:04d}",
        name=f"{version.model.name}-{number:04d}",
        project_id=f"project-{rng.randrange(1 + number // 12):03d}",
        generation=1,
        revision_id=f"r-{number:04d}-1",
        revision=1,
        model_version_id=version.version_id,
        engine=rng.choices(("vllm", "sglang", "tensorrt_llm", "nim"), (65, 20, 10, 5))[0],
        precision=version.precision,
        weights_bytes=version.weights_bytes,
        gpus_per_replica=version.gpus,
        min_replicas=_size(rng, world.most_replicas),
        max_replicas=10_000,
        concurrency_target=32.0,
        posture="active_passive" if rng.random() < 0.08 else "active_active",
        survivability=survivability,
        residency=residency,
        priority=rng.choices((0, 10, -10), (80, 12, 8))[0],
        created_at_s=EPOCH_S + number * 600,
        slo=Slo(ttft_s_p95=rng.choices((None, 0.15, 0.4, 1.0, 3.0), (25, 8, 22, 30, 15))[0]),
        providers_denied=denied,
    )


def _size(rng: Random, most: int) -> int:
    """Replicas on one kind of machine: 1 to 4 for most, a hundred and more for a few."""
    low, high = rng.choices(
        ((1, 1), (2, 2), (3, 4), (5, 8), (9, 30), (31, 100), (101, 400)), (37, 28, 22, 8, 3.7, 1, 0.3)
    )[0]
    return min(most, round(math.exp(rng.uniform(math.log(low), math.log(high)))))


def _demands(world: _World, wanted: WantedDeployment, version: Version) -> tuple[Demand, ...] | None:
    """As much as the size asks for on one of its cheapest machines; None where no machine can carry it."""
    rng = world.rng
    usable = [pool for pool in world.pools if _carries(world, wanted, pool)]
    if not usable:
        return None
    if rng.random() < 0.05:
        return ()
    usable.sort(key=lambda pool: _usd_per_request(world, wanted, pool))
    row = world.profiles[wanted.model_version_id, rng.choice(usable[:3]).instance_type_id]
    requests_per_s = row.requests_per_s * (wanted.min_replicas - rng.uniform(0.05, 0.6))
    home = rng.choice(
        [place for place in world.places if place.jurisdiction in wanted.residency] or world.places
    )
    others = rng.sample((*PLACES, *FAR_ORIGINS), rng.choice((0, 0, 1, 2, 3)))
    parts = {home.region: 1.0} | {
        place.region: rng.uniform(0.05, 0.5) for place in others if place.region != home.region
    }
    whole = sum(parts.values())
    demands = []
    for region, part in parts.items():
        p95 = requests_per_s * part / whole
        p50 = p95 * rng.uniform(0.3, 0.7)
        demands.append(
            Demand(
                deployment_id=wanted.deployment_id,
                origin_region=region,
                requests_per_s_p50=round(p50, 4),
                requests_per_s_p95=round(p95, 4),
                tokens_per_s_p50=round(p50 * version.output_tokens, 2),
                tokens_per_s_p95=round(p95 * version.output_tokens * rng.uniform(0.9, 1.02), 2),
            )
        )
    return tuple(demands)


def _carries(world: _World, wanted: WantedDeployment, pool: Pool) -> bool:
    """Whether a replica may and can run there."""
    cluster = world.clusters[pool.cluster_id]
    if wanted.residency and cluster.jurisdiction not in wanted.residency:
        return False
    if cluster.provider in wanted.providers_denied:
        return False
    if wanted.engine in ONLY_NVIDIA and pool.gpu_vendor != "nvidia":
        return False
    if wanted.weights_bytes > int(wanted.gpus_per_replica * pool.gpu_memory_gib * GIB * MEMORY_SHARE):
        return False
    return (wanted.model_version_id, pool.instance_type_id) in world.profiles


def _usd_per_request(world: _World, wanted: WantedDeployment, pool: Pool) -> float:
    row = world.profiles[wanted.model_version_id, pool.instance_type_id]
    price = (pool.instance_micro_usd_per_h or 0) * wanted.gpus_per_replica / pool.gpus_per_instance
    return price / row.requests_per_s


def _share(world: _World, wanted: WantedDeployment, demands: Sequence[Demand], pool: Pool) -> float:
    """What part of the demand a replica serves there; with its chance to live, where a loss must be survived."""
    row = world.profiles[wanted.model_version_id, pool.instance_type_id]
    requests_per_s = sum(one.requests_per_s_p95 for one in demands)
    tokens_per_s = sum(one.tokens_per_s_p95 for one in demands)
    share = 1.0
    if demands:
        share = 1 / max(requests_per_s / row.requests_per_s, tokens_per_s / row.tokens_per_s)
    return share * _lives(wanted, pool)


def _lives(wanted: WantedDeployment, pool: Pool) -> float:
    if wanted.survivability == "none":
        return 1.0
    return math.exp(-pool.hazard_per_h * Weights().spot_horizon_h)


def _witness(world: _World, wanted: WantedDeployment, demands: Sequence[Demand]) -> dict[str, int] | None:
    """Replicas by pool that keep every promise, on pools that are cheap and not yet crowded; None if there are none.

    Domains nest (zone in region in provider), so that it is enough to survive the widest kind that is asked for.
    """
    rng = world.rng
    kind = wanted.survivability
    passive = wanted.posture == "active_passive"
    ttft_s = wanted.slo.ttft_s_p95
    scored: dict[str, tuple[float, Pool]] = {}
    for pool in world.pools:
        if not _carries(world, wanted, pool):
            continue
        cluster = world.clusters[pool.cluster_id]
        if demands and ttft_s is not None:
            nearest_s = min(world.rtt_s[one.origin_region, cluster.region] for one in demands)
            if nearest_s > ttft_s:
                continue
        crowded = 1 + 3 * world.used_gpus[pool.pool_id] / (world.usual_gpus * world.popularity[pool.pool_id])
        reserved = 0.5 if pool.procurement == "reserved" else 1.0
        score = _usd_per_request(world, wanted, pool) * reserved * crowded * math.exp(rng.gauss(0, 0.25))
        domain = (
            cluster.domains(kind)[0] if kind != "none" else cluster.cluster_id if passive else pool.pool_id
        )
        if domain not in scored or score < scored[domain][0]:
            scored[domain] = (score, pool)
    best = [pool for _, pool in sorted(scored.values(), key=lambda pair: pair[0])]
    domains = 2 if kind != "none" else 1
    if not passive and wanted.min_replicas >= 4:
        domains = max(domains, min(len(best), rng.choice((2, 3, 4))))
    if len(best) < domains:
        return None
    carrying = 1 if kind == "none" and passive else domains - 1 if kind != "none" else domains
    least = max(1, _least(wanted))
    return {
        pool.pool_id: max(
            math.ceil(1 / (carrying * _share(world, wanted, demands, pool))) if demands else 1,
            math.ceil(least / (carrying * _lives(wanted, pool))),
        )
        for pool in best[:domains]
    }


def _least(wanted: WantedDeployment) -> int:
    """Of the size, what the owner wants ready at all times: about a third."""
    return math.ceil(wanted.min_replicas / 3)


def _with_bounds(
    world: _World, wanted: WantedDeployment, demands: tuple[Demand, ...], witness: dict[str, int]
) -> _Made:
    rng = world.rng
    for pool_id, replicas in witness.items():
        world.used_gpus[pool_id] += replicas * wanted.gpus_per_replica
    bounded = replace(
        wanted,
        min_replicas=0 if rng.random() < 0.04 else _least(wanted),
        max_replicas=max(4, round(sum(witness.values()) * rng.choice((1.5, 2.5, 4.0)))),
    )
    return _Made(bounded, demands, witness)


def _sized(rng: Random, pool: Pool, used_gpus: int, tightness: float) -> Pool:
    instances = math.ceil(used_gpus / tightness / pool.gpus_per_instance)
    return replace(pool, capacity_instances=max(instances, rng.choice((1, 1, 2))))


def _running(
    world: _World, pools: Sequence[Pool], made: Sequence[_Made], running_share: float
) -> list[CurrentAssignment]:
    """What is in force: the witness for three in four that run, for the others one pool that has room."""
    rng = world.rng
    free_gpus = {pool.pool_id: pool.capacity_instances * pool.gpus_per_instance for pool in pools}
    rows = []
    for one in made:
        if rng.random() >= running_share:
            continue
        wanted, kept = one.wanted, dict(one.witness)
        if rng.random() < 0.25:
            usable = [pool.pool_id for pool in pools if _carries(world, wanted, pool)]
            kept = {rng.choice(usable): max(1, round(sum(kept.values()) * rng.uniform(0.5, 1.0)))}
        for number, (pool_id, replicas) in enumerate(kept.items()):
            fitting = min(replicas, free_gpus[pool_id] // wanted.gpus_per_replica)
            if fitting < 1:
                continue
            free_gpus[pool_id] -= fitting * wanted.gpus_per_replica
            ready = fitting if wanted.survivability != "none" else min(fitting, wanted.min_replicas)
            rows.append(
                CurrentAssignment(
                    assignment_id=f"a-{wanted.deployment_id}-{number}",
                    deployment_id=wanted.deployment_id,
                    revision_id=wanted.revision_id,
                    revision=wanted.revision,
                    pool_id=pool_id,
                    min_replicas=ready,
                    max_replicas=fitting * 2,
                    gpus_per_replica=wanted.gpus_per_replica,
                    planned_replicas=fitting if one.demands else 0,
                    standby=wanted.posture == "active_passive" and number > 0,
                )
            )
    return rows


def _reservations(rng: Random, pools: Sequence[Pool]) -> list[Reservation]:
    return [
        Reservation(
            pool_id=pool.pool_id,
            instances=max(1, round(pool.capacity_instances * rng.choice((0.6, 0.8, 1.0, 1.0)))),
            instance_micro_usd_per_h=round((pool.instance_micro_usd_per_h or 0) * RESERVED_PRICE_SHARE),
        )
        for pool in pools
        if pool.procurement == "reserved"
    ]


def _budgets(rng: Random, pools: Sequence[Pool], made: Sequence[_Made]) -> list[Budget]:
    """Two projects in five may spend what their witnesses cost at the full price, and up to 60 % more."""
    by_id = {pool.pool_id: pool for pool in pools}
    spent: Counter[str] = Counter()
    for one in made:
        for pool_id, replicas in one.witness.items():
            pool = by_id[pool_id]
            gpus = replicas * one.wanted.gpus_per_replica
            spent[one.wanted.project_id] += -(
                -(pool.instance_micro_usd_per_h or 0) * gpus // pool.gpus_per_instance
            )
            spent[one.wanted.project_id] += replicas  # a share is rounded up by less than a micro-dollar
    return [
        Budget(project_id=project_id, micro_usd_per_h=round(money * rng.uniform(1.05, 1.6)))
        for project_id, money in sorted(spent.items())
        if rng.random() < 0.4
    ]
