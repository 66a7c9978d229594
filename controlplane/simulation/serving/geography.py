"""Where clusters and clients are, how far from one another, and when a region is gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from controlplane.simulation.serving.pools import Failures, ServingPool
from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.streams import Streams
from workloadplane.autoscaling import AutoscalingPolicy

OutageKind = Literal["lost", "frozen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One cluster and its gateway.

    share:    of the clients that are said to be nowhere in particular, those that are here, against other regions'
    pools:    none where the deployment may not be served
    policies: what may be asked for, by name, with the bounds that hold here; ``rentings``: how each of them rents
    """

    name: str
    jurisdiction: str = ""
    share: float = 1.0
    pools: tuple[ServingPool, ...] = ()
    policies: Mapping[str, AutoscalingPolicy]
    rentings: Mapping[str, Renting]


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Seconds between two places and back. A place is 0 away from itself unless it is said."""

    between: Mapping[frozenset[str], float] = field(default_factory=dict)

    def s(self, one: str, other: str) -> float:
        """Both ways alike."""
        found = self.between.get(frozenset((one, other)))
        return 0.0 if found is None and one == other else inf if found is None else found

    def nearest(self, place: str, regions: Sequence[str]) -> tuple[str, ...]:
        """The regions as clients there try them."""
        return tuple(sorted(regions, key=lambda each: (self.s(place, each), regions.index(each))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Nothing comes from a region from ``at_s`` until ``back_s``, and nobody there says why.

    kind: ``lost``: whatever ran there is gone; ``frozen``: it stands still, and its replicas are there when it is back
    """

    region: str
    at_s: float
    back_s: float = inf
    kind: OutageKind = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Geography:
    """Of a world.

    regions:   none: the world is one cluster, with its own pools and policies
    origins:   where clients are: the regions first, then further places
    residency: jurisdictions in which a request may be served; empty: anywhere
    detect_s:  so long after a region fell silent its clients are led to another one
    outages:   when which region is gone, as far as the world says
    """

    regions: tuple[Region, ...] = ()
    origins: tuple[str, ...] = ("",)
    round_trips: RoundTrips = field(default_factory=RoundTrips)
    residency: frozenset[str] = frozenset()
    detect_s: float = 2.0
    outages: tuple[Outage, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the regions; of the only one none."""
        return tuple(region.name for region in self.regions) or ("",)


def outages_of(
    geography: Geography, failures: Failures, *, end_s: float, streams: Streams
) -> tuple[Outage, ...]:
    """Those that the world names, and as many more as it asks for, by time: the same whoever scales.

    One that falls into another one's time is a part of it.
    """
    rng, regions = streams.of("regions lost"), geography.names
    drawn = []
    for _ in range(failures.regions_lost):
        at_s, region = float(rng.uniform(0, end_s)), regions[int(rng.integers(len(regions)))]
        back_s = at_s + float(rng.uniform(*failures.outage_s))
        drawn.append(Outage(region=region, at_s=at_s, back_s=back_s))
    kept: dict[str, list[Outage]] = {}
    for each in sorted((*geography.outages, *drawn), key=lambda outage: (outage.at_s, outage.region)):
        before = kept.setdefault(each.region, [])
        if not before or before[-1].back_s < each.at_s:
            before.append(each)
    return tuple(sorted((each for found in kept.values() for each in found), key=lambda one: one.at_s))
