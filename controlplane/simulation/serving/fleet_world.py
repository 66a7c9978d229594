"""Many clusters and many deployments, made from a seed: the plan for a large fleet, made checkable.

A *lane* is a deployment in a cluster. Regions lie around the earth, so their days differ; a deployment runs in some
regions of its residency, in some clusters of each. Sizes are lognormal: a few deployments have most of the load.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams

JURISDICTIONS = ("eu", "us", "asia")
S_PER_H = 3600.0
#: Of all GPUs, what the mean load keeps busy.
BUSY_SHARE = 0.5
#: Replicas that a lane may have, in those that its mean load keeps busy.
ROOM_FACTOR = 3.0


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
    """Arrays by cluster, by deployment and by lane.

    peak_s:      when a cluster's region has its busiest hour
    residency:   a deployment's jurisdiction, -1 for any
    mean_demand: replicas that a lane's own users keep busy in the mean
    """

    seed: int
    end_s: float
    region: IntArray
    jurisdiction: IntArray
    gpus: IntArray
    peak_s: FloatArray
    residency: IntArray
    deployment: IntArray
    cluster: IntArray
    gpus_per_replica: IntArray
    mean_demand: FloatArray
    max_replicas: IntArray
    outages: tuple[Outage, ...]
    gpus_lost: tuple[GpuLost, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How much there is of each."""
        return {
            "clusters": len(self.gpus),
            "GPUs": int(self.gpus.sum()),
            "deployments": len(self.residency),
            "lanes": len(self.deployment),
            "regions": int(self.region.max()) + 1,
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
    gpu_failures_per_gpu_h: float = 419 / (54 * 24 * 16_384),
) -> FleetWorld:
    """A fleet and its day. Failure rate of GPUs: Meta's with Llama 3 (see ``pools.Failures``)."""
    streams, end_s = Streams(seed), hours * S_PER_H
    rng = streams.of("fleet")
    region = np.sort(rng.integers(0, regions, clusters))
    of_region = np.arange(regions) % len(JURISDICTIONS)
    share = rng.lognormal(0.0, 0.5, clusters)
    size = np.maximum(16, np.floor(share / share.sum() * gpus)).astype(np.int64)
    residency = np.where(rng.random(deployments) < 0.5, -1, rng.integers(0, len(JURISDICTIONS), deployments))
    per_replica = 2 ** rng.integers(0, 4, deployments)
    weight = rng.lognormal(0.0, 1.2, deployments)
    weight = np.minimum(weight / weight.sum(), 0.03)
    lanes: list[tuple[int, int, float]] = []
    for number in range(deployments):
        lanes += _lanes_of(number, region, of_region, int(residency[number]), float(weight[number]), rng)
    deployment = np.array([lane[0] for lane in lanes])
    cluster = np.array([lane[1] for lane in lanes])
    wanted_gpus = _fitted(np.array([lane[2] for lane in lanes]) * gpus * BUSY_SHARE, cluster, size)
    demand = wanted_gpus / per_replica[deployment]
    return FleetWorld(
        seed=seed,
        end_s=end_s,
        region=region,
        jurisdiction=of_region[region],
        gpus=size,
        peak_s=(region / regions * 86_400.0).astype(np.float64),
        residency=residency,
        deployment=deployment,
        cluster=cluster,
        gpus_per_replica=per_replica[deployment],
        mean_demand=demand,
        max_replicas=np.maximum(2, np.ceil(demand * ROOM_FACTOR)).astype(np.int64),
        outages=_outages(
            region, streams, regions_lost=regions_lost, clusters_lost=clusters_lost, end_s=end_s
        ),
        gpus_lost=_gpus_lost(size, gpu_failures_per_gpu_h, end_s, streams),
    )


def _lanes_of(  # noqa: PLR0917  (what a deployment is made from)
    number: int,
    region: IntArray,
    of_region: IntArray,
    residency: int,
    weight: float,
    rng: np.random.Generator,
) -> list[tuple[int, int, float]]:
    """(deployment, cluster, share of all load): in two to six regions, in more clusters the larger it is."""
    allowed = np.flatnonzero((of_region == residency) | (residency < 0))
    allowed = np.intersect1d(allowed, region)
    chosen = rng.permutation(allowed)[: int(rng.integers(2, 7))]
    each = 1 + int(weight * 300)
    clusters = np.concatenate([rng.permutation(np.flatnonzero(region == place))[:each] for place in chosen])
    shares = rng.dirichlet(np.full(len(clusters), 8.0))
    return [(number, int(c), weight * float(s)) for c, s in zip(clusters, shares, strict=True)]


def _fitted(wanted: FloatArray, cluster: IntArray, size: IntArray) -> FloatArray:
    """No cluster is asked in the mean for more than six tenths of what it has; what is too much is left away."""
    asked = np.bincount(cluster, weights=wanted, minlength=len(size))
    factor = np.minimum(1.0, 0.6 * size / np.maximum(asked, 1e-9))
    return np.asarray(wanted * factor[cluster], dtype=np.float64)


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
