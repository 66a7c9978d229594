"""Many clusters and many deployments, made from a seed: the plan for a large fleet, made checkable.

Regions lie around the earth, so their days differ; a deployment has users in two to six regions of its residency, and
where it runs is placement's answer. Sizes are lognormal: a few deployments have most of the load. Of the deployments
``SURVIVING_SHARE`` are to survive the loss of a region, so more of them is kept ready than their load needs; the others
follow their load. Of all GPUs the mean load keeps ``BUSY_SHARE`` busy: placement then finds room for all that is
promised, an hour's highest demand and a lost region among it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams

JURISDICTIONS = ("eu", "us", "asia")
S_PER_H = 3600.0
DAY_S = 86_400.0
#: Of all GPUs, what the mean load keeps busy.
BUSY_SHARE = 0.4
#: Deployments that are to survive the loss of a region.
SURVIVING_SHARE = 0.7
#: Replicas that a deployment may have, in those that its mean load keeps busy.
ROOM_FACTOR = 4.0
#: Of an instance, the smallest thing that a cluster has.
GPUS_PER_INSTANCE = 8
#: A day's wave, a share of the mean each way.
SWING = 0.35


@dataclass(frozen=True, slots=True)
class Outage:
    """These clusters are gone from ``at_s`` until ``back_s``."""

    at_s: float
    back_s: float
    clusters: IntArray
    what: str


@dataclass(frozen=True, slots=True)
class GpuLost:
    """One GPU of this cluster fails; ``draw`` (0 to 1) says which of those in use."""

    at_s: float
    cluster: int
    draw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWorld:
    """Arrays by cluster, by region, by deployment and by origin: a deployment's users in a region.

    peak_s:      when a region has its busiest hour
    residency:   a deployment's jurisdiction, -1 for any
    survives:    whether a deployment is to survive the loss of a region
    mean_demand: replicas that an origin's users keep busy in the mean
    """

    seed: int
    end_s: float
    region: IntArray
    gpus: IntArray
    jurisdiction: IntArray
    peak_s: FloatArray
    residency: IntArray
    survives: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    gpus_per_replica: IntArray
    max_replicas: IntArray
    origin_deployment: IntArray
    origin_region: IntArray
    mean_demand: FloatArray
    outages: tuple[Outage, ...]
    gpus_lost: tuple[GpuLost, ...]

    def demand(self, now_s: float | FloatArray) -> FloatArray:
        """Each origin's at a time, or (times, origins) at several."""
        peak_s = self.peak_s[self.origin_region]
        wave = 1 + SWING * np.cos(2 * np.pi * (np.asarray(now_s)[..., None] - peak_s) / DAY_S)
        return np.asarray(self.mean_demand * wave, dtype=np.float64)

    @property
    def sizes(self) -> Mapping[str, int]:
        """How much there is of each."""
        return {
            "clusters": len(self.gpus),
            "GPUs": int(self.gpus.sum()),
            "deployments": len(self.residency),
            "origins": len(self.origin_region),
            "regions": len(self.jurisdiction),
        }


def fleet_world(
    seed: int,
    *,
    clusters: int = 1_000,
    gpus: int = 100_000,
    deployments: int = 500,
    regions: int = 40,
    hours: float = 24.0,
    regions_lost: int = 2,
    clusters_lost: int = 10,
    busy_share: float = BUSY_SHARE,
    gpu_failures_per_gpu_h: float = 419 / (54 * 24 * 16_384),
) -> FleetWorld:
    """A fleet and its day. Failure rate of GPUs: Meta's with Llama 3 (see ``pools.Failures``)."""
    streams, end_s = Streams(seed), hours * S_PER_H
    rng = streams.of("fleet")
    region = np.sort(np.concatenate((np.arange(regions), rng.integers(0, regions, clusters - regions))))
    of_region = np.arange(regions) % len(JURISDICTIONS)
    size = _sizes(rng.lognormal(0.0, 0.5, clusters), gpus)
    residency = np.where(rng.random(deployments) < 0.5, -1, rng.integers(0, len(JURISDICTIONS), deployments))
    per_replica = 2 ** rng.integers(0, 4, deployments)
    weight = rng.lognormal(0.0, 1.2, deployments)
    weight = np.minimum(weight / weight.sum(), 0.03)
    origins = [_origins_of(of_region, int(each), rng) for each in residency]
    of_origin = np.repeat(np.arange(deployments), [len(places) for places, _ in origins])
    share = np.concatenate([shares for _, shares in origins])
    demand = weight[of_origin] * share * gpus * busy_share / per_replica[of_origin]
    total = np.bincount(of_origin, weights=demand, minlength=deployments)
    return FleetWorld(
        seed=seed,
        end_s=end_s,
        region=region,
        gpus=size,
        jurisdiction=of_region,
        peak_s=np.arange(regions) / regions * DAY_S,
        residency=residency,
        survives=rng.random(deployments) < SURVIVING_SHARE,
        gpus_per_replica=per_replica,
        max_replicas=np.maximum(4, np.ceil(total * ROOM_FACTOR)).astype(np.int64),
        origin_deployment=of_origin,
        origin_region=np.concatenate([places for places, _ in origins]),
        mean_demand=demand,
        outages=_outages(
            region, streams, regions_lost=regions_lost, clusters_lost=clusters_lost, end_s=end_s
        ),
        gpus_lost=_gpus_lost(size, gpu_failures_per_gpu_h, end_s, streams),
    )


def _sizes(share: FloatArray, gpus: int) -> IntArray:
    """Whole instances, two of them at least; the largest clusters have what is left."""
    instances = np.maximum(2, np.floor(share / share.sum() * gpus / GPUS_PER_INSTANCE)).astype(np.int64)
    left = max(0, gpus // GPUS_PER_INSTANCE - int(instances.sum()))
    instances[np.argsort(-share)[:left]] += 1
    return np.asarray(instances * GPUS_PER_INSTANCE, dtype=np.int64)


def _origins_of(of_region: IntArray, residency: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Two to six regions of the residency, and each one's share of the load."""
    allowed = np.flatnonzero((of_region == residency) | (residency < 0))
    chosen = rng.permutation(allowed)[: int(rng.integers(2, 7))]
    return chosen, rng.dirichlet(np.full(len(chosen), 8.0))


def _outages(
    region: IntArray, streams: Streams, *, regions_lost: int, clusters_lost: int, end_s: float
) -> tuple[Outage, ...]:
    rng = streams.of("outages")
    found = []
    for _ in range(regions_lost):
        at_s, lost = float(rng.uniform(0.1, 0.8)) * end_s, int(rng.choice(np.unique(region)))
        clusters = np.flatnonzero(region == lost)
        found.append(Outage(at_s, at_s + float(rng.uniform(1200, 5400)), clusters, f"region {lost}"))
    for _ in range(clusters_lost):
        at_s, one = float(rng.uniform(0, end_s)), int(rng.integers(len(region)))
        found.append(Outage(at_s, at_s + float(rng.uniform(1200, 5400)), np.array([one]), f"cluster {one}"))
    return tuple(sorted(found, key=lambda outage: outage.at_s))


def _gpus_lost(size: IntArray, per_gpu_h: float, end_s: float, streams: Streams) -> tuple[GpuLost, ...]:
    rng = streams.of("GPU failures")
    count = int(rng.poisson(per_gpu_h * float(size.sum()) * end_s / S_PER_H))
    at_s = np.sort(rng.uniform(0, end_s, count))
    clusters = rng.choice(len(size), count, p=size / size.sum())
    draws = rng.random(count)
    rows = zip(at_s.tolist(), clusters.tolist(), draws.tolist(), strict=True)
    return tuple(GpuLost(*row) for row in rows)
