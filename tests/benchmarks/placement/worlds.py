"""Where replicas may run: regions, clusters, pools and what they do and cost, made from a seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from controlplane.placement import (
    Cluster,
    FailureDomain,
    Latency,
    NetworkPrice,
    PerformanceProfile,
    Pool,
)
from controlplane.placement.supply import Procurement
from tests.benchmarks.placement.catalogue import (
    FAR_ORIGINS,
    GIB,
    GPUS,
    MACHINES,
    MODELS,
    PLACES,
    SPOT_PRICE_SHARE,
    Machine,
    Model,
    Place,
)

MICRO_USD = 1_000_000
#: What inference may take of a GPU's memory.
MEMORY_SHARE = 0.9
#: A step longer than this would be too slow for a reader.
STEP_S = 0.05
TENSOR_PARALLEL_SHARE = {True: {1: 1.0, 2: 0.93, 4: 0.88, 8: 0.8}, False: {1: 1.0, 2: 0.85, 4: 0.7, 8: 0.5}}


@dataclass(frozen=True, slots=True)
class Version:
    """A model version as it is deployed, and the requests that it gets."""

    version_id: str
    model: Model
    precision: str
    gpus: int
    prompt_tokens: int
    output_tokens: int

    @property
    def weights_bytes(self) -> int:
        return int(self.model.parameters_b * 1e9 * (1 if self.precision == "fp8" else 2))


def clusters_and_pools(rng: Random, places: Sequence[Place], pools: int) -> tuple[list[Cluster], list[Pool]]:
    """A cluster a zone, one to a few pools each; capacity is not yet said (one instance each)."""
    zones = [(place, zone) for zone in range(3) for place in places if zone < place.zones]
    wanted = max(len(places), min(len(zones), round(pools / 2.6)))
    clusters = [_cluster(place, "abc"[zone]) for place, zone in zones[: min(wanted, pools)]]
    place_of = {place.region: place for place in places}
    made: list[Pool] = []
    taken: set[tuple[str, str, Procurement]] = set()
    while len(made) < pools:
        cluster = clusters[len(made)] if len(made) < len(clusters) else rng.choice(clusters)
        place = place_of[cluster.region]
        machines = MACHINES[cluster.provider]
        machine = rng.choices(machines, [one.weight for one in machines])[0]
        procurement = _procurement(rng, cluster.provider)
        key = (cluster.cluster_id, machine.name, procurement)
        if key in taken and len(taken) < len(clusters) * 5:
            continue
        taken.add(key)
        made.append(_pool(rng, len(made), cluster, machine, place, procurement))
    return clusters, made


def _cluster(place: Place, zone: str) -> Cluster:
    name = f"{place.region}-{zone}"
    return Cluster(
        cluster_id=f"c-{name}",
        name=name,
        generation=1,
        region=place.region,
        provider=place.provider,
        jurisdiction=place.jurisdiction,
        failure_domains=(
            FailureDomain(kind="zone", name=name),
            FailureDomain(kind="region", name=place.region),
            FailureDomain(kind="provider", name=place.provider),
        ),
    )


def _procurement(rng: Random, provider: str) -> Procurement:
    if provider == "onprem":
        return "reserved"
    return rng.choices(("reserved", "on_demand", "spot"), (25, 40, 35))[0]


def _pool(
    rng: Random, number: int, cluster: Cluster, machine: Machine, place: Place, procurement: Procurement
) -> Pool:
    gpu = GPUS[machine.gpu]
    usd_per_h = machine.usd_per_h * place.price
    hazard_per_h, obtainability = 0.0, 1.0
    if procurement == "spot":
        usd_per_h *= rng.uniform(*SPOT_PRICE_SHARE)
        hazard_per_h = round(rng.choice((0.01, 0.02, 0.05, 0.1, 0.2)) * rng.uniform(0.7, 1.3), 4)
        obtainability = round(rng.uniform(0.4, 0.95), 2)
    elif procurement == "on_demand":
        obtainability = round(rng.uniform(0.8, 1.0), 2)
    return Pool(
        pool_id=f"p-{number:03d}",
        name=f"{machine.name}-{procurement}-{number:03d}",
        generation=1,
        cluster_id=cluster.cluster_id,
        instance_type_id=f"i-{machine.name}",
        instance_type=machine.name,
        gpu_type=gpu.name,
        gpu_vendor=gpu.vendor,
        gpu_memory_gib=gpu.memory_gib,
        precisions=gpu.precisions,
        procurement=procurement,
        gpus_per_instance=machine.gpus,
        capacity_instances=1,
        instance_micro_usd_per_h=round(usd_per_h * MICRO_USD),
        hazard_per_h=hazard_per_h,
        obtainability=obtainability,
    )


def versions(rng: Random, count: int) -> list[Version]:
    """Model versions of all sizes, some at 8 bits, each with its own kind of requests."""
    made = []
    for number in range(count):
        model = rng.choices(MODELS, [one.weight for one in MODELS])[0]
        precision = "fp8" if rng.random() < 0.35 else "bf16"
        gpus = rng.choice(model.gpus_at_8_bits if precision == "fp8" else model.gpus_at_16_bits)
        prompt_tokens, output_tokens = rng.choice(
            ((500, 200), (1500, 300), (3000, 250), (800, 700), (200, 60))
        )
        made.append(Version(f"m-{number:04d}", model, precision, gpus, prompt_tokens, output_tokens))
    return made


def profiles(rng: Random, made: Sequence[Version], pools: Sequence[Pool]) -> list[PerformanceProfile]:
    """Every version on every machine that it fits, but for one pair in twelve, which nobody has measured."""
    machines = sorted({(pool.instance_type_id, pool.gpu_type, pool.gpus_per_instance) for pool in pools})
    rows = []
    for version in made:
        for instance_type_id, gpu_type, gpus_per_instance in machines:
            if version.gpus <= gpus_per_instance and rng.random() > 1 / 12:
                row = _profile(rng, version, instance_type_id, gpu_type)
                if row is not None:
                    rows.append(row)
    return rows


def _profile(
    rng: Random, version: Version, instance_type_id: str, gpu_type: str
) -> PerformanceProfile | None:
    """A roof line: a step reads the weights and each request's cache, a prompt is computed; None if too large."""
    gpu = GPUS[gpu_type]
    if version.precision not in gpu.precisions:
        return None
    free_bytes = version.gpus * gpu.memory_gib * GIB * MEMORY_SHARE - version.weights_bytes
    cache_bytes = version.model.cache_bytes_per_token * (version.prompt_tokens + version.output_tokens)
    reach = TENSOR_PARALLEL_SHARE[gpu.nvlink][version.gpus] * gpu.software
    bytes_per_s = version.gpus * gpu.gb_per_s * 1e9 * reach
    active_bytes = version.weights_bytes * version.model.active_b / version.model.parameters_b
    batch = int(min(256.0, free_bytes / cache_bytes, (STEP_S * bytes_per_s - active_bytes) / cache_bytes))
    if batch < 1:
        return None
    decode_tokens_per_s = batch / ((active_bytes + batch * cache_bytes) / bytes_per_s)
    flops_per_s = version.gpus * gpu.tflops * 1e12 * reach * (2 if version.precision == "fp8" else 1)
    prompt_s = 2 * version.model.active_b * 1e9 * version.prompt_tokens / flops_per_s
    request_s = version.output_tokens / decode_tokens_per_s + prompt_s
    requests_per_s = math.exp(rng.gauss(0, 0.08)) / request_s
    gigabytes = version.weights_bytes / 1e9
    return PerformanceProfile(
        model_version_id=version.version_id,
        instance_type_id=instance_type_id,
        tensor_parallel=version.gpus,
        requests_per_s=round(requests_per_s, 4),
        tokens_per_s=round(requests_per_s * version.output_tokens, 2),
        concurrency=batch,
        gpu_procurement_s=round(rng.uniform(60, 240)),
        image_pull_s=round(rng.uniform(40, 120)),
        weight_load_s=round(gigabytes / rng.uniform(0.8, 2.0)),
        engine_start_s=round(40 + gigabytes * 0.3),
    )


def round_trip_ms(one: Place, other: Place) -> float:
    """Light in fibre (200 km a millisecond) both ways, over cables 1.6 times as long as the great circle."""
    latitudes = math.radians(one.latitude), math.radians(other.latitude)
    half_latitude = (latitudes[1] - latitudes[0]) / 2
    half_longitude = math.radians(other.longitude - one.longitude) / 2
    chord = math.sin(half_latitude) ** 2
    chord += math.cos(latitudes[0]) * math.cos(latitudes[1]) * math.sin(half_longitude) ** 2
    km = 2 * 6371 * math.asin(math.sqrt(chord))
    return round(1 + 2 * 1.6 * km / 200, 1)


def network(places: Sequence[Place]) -> tuple[list[Latency], list[NetworkPrice]]:
    """Every origin to every region. A GiB costs 0.02 USD within a provider, 0.09 to the rest of the world."""
    latencies, prices = [], []
    for origin in (*PLACES, *FAR_ORIGINS):
        for target in places:
            latencies.append(
                Latency(
                    origin_region=origin.region,
                    target_region=target.region,
                    rtt_ms=0.5 if origin == target else round_trip_ms(origin, target),
                )
            )
            usd = 0.0 if origin == target else 0.02 if origin.provider == target.provider else 0.09
            prices.append(
                NetworkPrice(
                    origin_region=origin.region,
                    target_region=target.region,
                    micro_usd_per_gib=round(usd * MICRO_USD),
                )
            )
    return latencies, prices
