"""Where replicas can run, what that costs, and when there is nothing to be had."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.streams import Streams

DAY_S = 86_400.0
S_PER_H = 3600.0
#: How a pool is paid for.
PROCUREMENTS = ("reserved", "on_demand", "spot")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPool:
    """Room for so many replicas in one zone at one price.

    hazard_per_h:       how often an hour of spot capacity is taken back
    stock_outs_per_day: how often a day the provider has nothing left; launches then fail for about ``stock_out_s``
    instance_type:      spot and on demand of one type in one zone are one market
    spot_trace:         a file that says how many there are, moment by moment; ``replicas`` at most
    """

    name: str
    procurement: str
    replicas: int
    usd_per_replica_h: float
    zone: str
    hazard_per_h: float = 0.0
    stock_outs_per_day: float = 0.0
    stock_out_s: float = 1800.0
    instance_type: str = "gpu"
    spot_trace: str | None = None

    @property
    def market_id(self) -> str:
        """Its market's, as ``controlplane.procurement`` speaks of it."""
        return f"{self.instance_type}@{self.zone}"


@dataclass(frozen=True, slots=True)
class Loss:
    """These places are gone from ``at_s`` until ``back_s``, and whoever was there.

    is_taken_back: by the provider, who says so
    """

    at_s: float
    back_s: float
    places: tuple[int, ...]
    cause: str
    is_taken_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What breaks. One GPU failure in 50,000 GPU-hours is what Meta saw with Llama 3: 419 unexpected interruptions in
    54 days on 16,384 GPUs ("The Llama 3 Herd of Models", 2024, section 3.3.4: 21.2 million GPU-hours).

    repair_s: until the place can be used again, exponential with this mean; our assumption
    zones_lost, regions_lost: how many times in the world's whole time; for ``outage_s``, uniform between the two
    """

    gpus_per_replica: int = 1
    gpu_failures_per_gpu_h: float = 419 / (54 * 24 * 16_384)
    repair_s: float = 3600.0
    zones_lost: int = 0
    regions_lost: int = 0
    outage_s: tuple[float, float] = (1200.0, 5400.0)


class Places:
    """Places of all pools in the pools' order, one for each replica that fits."""

    def __init__(self, pools: Sequence[ServingPool]) -> None:
        """Reserved pools first: the order is that of the filling."""
        self.pools = tuple(pools)
        self.pool_of = tuple(pool for pool in pools for _ in range(pool.replicas))

    def __len__(self) -> int:
        return len(self.pool_of)

    def of_zone(self, zone: str) -> tuple[int, ...]:
        """Its places."""
        return tuple(place for place, pool in enumerate(self.pool_of) if pool.zone == zone)

    def of_pool(self, name: str) -> tuple[int, ...]:
        """Its places."""
        return tuple(place for place, pool in enumerate(self.pool_of) if pool.name == name)


def losses_of(places: Places, failures: Failures, *, end_s: float, streams: Streams) -> tuple[Loss, ...]:
    """All that is lost in a region until ``end_s``, by time: the same whoever scales. Nobody misses an empty place."""
    found = [
        *_gpus_fail(places, failures, end_s, streams.of("GPU failures")),
        *_spot_is_taken_back(places, end_s, streams.of("spot reclaims")),
        *_zones_fail(places, failures, end_s, streams.of("outages")),
    ]
    return tuple(sorted(found, key=lambda loss: (loss.at_s, loss.places)))


def stock_outs_of(
    pools: Sequence[ServingPool], *, end_s: float, streams: Streams
) -> dict[str, list[tuple[float, float]]]:
    """By pool: from when until when launches fail."""
    found: dict[str, list[tuple[float, float]]] = {}
    for pool in pools:
        rng = streams.of(f"stock-outs {pool.name}")
        found[pool.name] = [
            (at_s, at_s + float(rng.exponential(pool.stock_out_s)))
            for at_s in _moments(pool.stock_outs_per_day / DAY_S, end_s, rng)
        ]
    return found


def _moments(per_s: float, end_s: float, rng: np.random.Generator) -> Iterator[float]:
    at_s = float(rng.exponential(1.0)) / per_s if per_s > 0 else end_s
    while at_s < end_s:
        yield at_s
        at_s += float(rng.exponential(1.0)) / per_s


def _gpus_fail(places: Places, failures: Failures, end_s: float, rng: np.random.Generator) -> Iterator[Loss]:
    per_place_s = failures.gpu_failures_per_gpu_h * failures.gpus_per_replica / S_PER_H
    for at_s in _moments(per_place_s * len(places), end_s, rng):
        back_s = at_s + float(rng.exponential(failures.repair_s))
        yield Loss(at_s, back_s, (int(rng.integers(len(places))),), "GPU failure")


def _spot_is_taken_back(places: Places, end_s: float, rng: np.random.Generator) -> Iterator[Loss]:
    """A few at a time go together, as many an hour as the hazard says in sum."""
    for pool in places.pools:
        here = places.of_pool(pool.name)
        if pool.hazard_per_h <= 0 or not here:
            continue
        part = float(rng.uniform(0.15, 0.5))
        for at_s in _moments(pool.hazard_per_h / part / S_PER_H, end_s, rng):
            gone = rng.permutation(len(here))[: max(1, round(part * len(here)))]
            back_s = at_s + float(rng.uniform(900.0, 3600.0))
            yield Loss(
                at_s,
                back_s,
                tuple(sorted(here[int(each)] for each in gone)),
                f"spot of {pool.name} taken back",
                is_taken_back=True,
            )


def _zones_fail(places: Places, failures: Failures, end_s: float, rng: np.random.Generator) -> Iterator[Loss]:
    zones = sorted({pool.zone for pool in places.pools})
    for _ in range(failures.zones_lost):
        at_s, zone = float(rng.uniform(0, end_s)), zones[int(rng.integers(len(zones)))]
        yield Loss(
            at_s, at_s + float(rng.uniform(*failures.outage_s)), places.of_zone(zone), f"zone {zone} lost"
        )
