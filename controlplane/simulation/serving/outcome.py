"""What came of a world: figures that policies are set against each other by, and what happened over time."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Upper bounds of what is counted, in seconds: from 1 ms to three hours, each 5 % above the one before.
BOUNDS_S = tuple(0.001 * 1.05**n for n in range(332))


class Durations:
    """Counts by length: percentiles to 5 % without keeping each."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_right(BOUNDS_S, seconds)] += 1
        self.count += 1

    def merge(self, other: "Durations") -> None:
        """All of another one's too."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.count += other.count

    def percentile_s(self, share: float) -> float | None:
        """So many are not longer (its bucket's upper bound); None where nothing was counted."""
        left = share * self.count
        for bound_s, count in zip((*BOUNDS_S, BOUNDS_S[-1]), self.counts, strict=True):
            left -= count
            if count and left <= 0:
                return bound_s
        return None


@dataclass(frozen=True, slots=True)
class Moment:
    """How it stood. ``demand``: replicas that what arrived then keeps busy; ``waiting``: requests, if it is known."""

    at_s: float
    demand: float
    wanted: float
    ready: float
    starting: float
    waiting: float | None = None


@dataclass(slots=True, kw_only=True)
class Rented:
    """What was rented of one kind of procurement.

    usd:             reserved pools are paid for whether they are used or not
    launches:        those that were had; ``failed_launches``: asked of a pool that had none
    lost:            broken, or taken back
    """

    replica_hours: float = 0.0
    usd: float = 0.0
    launches: int = 0
    failed_launches: int = 0
    lost: int = 0


@dataclass(slots=True, kw_only=True)
class JobOutcome:
    """What came of asynchronous work.

    done_share: of the work; ``done_s``: when all of it was done, None if it was not
    late:       after its deadline; None where the world ended before that
    usd:        beside what serving costs; ``lost``: machines that broke or were taken back
    """

    name: str
    done_share: float
    done_s: float | None
    late: bool | None
    usd: float
    spot_hours: float
    on_demand_hours: float
    failed_launches: int
    lost: int


@dataclass(slots=True, kw_only=True)
class PlanTold:
    """One plan of the control plane.

    why:      what it was made for; ``bounds`` by pool; ``moves`` against the plan before
    given_up: wishes that it does not keep, and what would keep each
    """

    at_s: float
    why: str
    bounds: dict[str, str]
    moves: list[str]
    given_up: list[str]


@dataclass(slots=True, kw_only=True)
class PlacementOutcome:
    """What placement did.

    plans:    made and in force; ``moved``: replicas from one pool to another; ``told``: the first plans
    searches: whole searches for a better plan; ``better``: plans among ``plans`` that these found
    believed: what was learned of spot pools, by pool, as it stood at the end
    """

    plans: int = 0
    moved: int = 0
    searches: int = 0
    better: int = 0
    believed: dict[str, str] = field(default_factory=dict)
    told: list[PlanTold] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SeatTold:
    """From then on this region served; empty: none. ``cause``: what the one before had failed by, if it had."""

    at_s: float
    region: str
    cause: str


@dataclass(slots=True, kw_only=True)
class SeatsOutcome:
    """Who served where only one region may. ``nobody_s``: so long none did; ``told``: the first changes."""

    takeovers: int = 0
    nobody_s: float = 0.0
    told: list[SeatTold] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class RegionOutcome:
    """Of one region: what its clients met, wherever they were served, and what ran there.

    within_slo_during: of what came while a region, this or another, was lost; None: nothing did
    within_slo_outside: of what came at any other time
    spilled:           share of its clients' requests that were served in another region
    ejections:         how often another region's gateway found it lost, with a quorum; None where nobody looks
    """

    region: str
    requests: int
    answered: int
    within_slo: float
    within_slo_outside: float
    within_slo_during: float | None
    spilled: float
    not_served: int
    replica_hours: float
    usd: float
    launches: int
    lost_replicas: int
    ejections: int | None
    ttft_s_p50: float | None
    ttft_s_p90: float | None
    ttft_s_p99: float | None
    moments: list["Moment"] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Of one policy in one world.

    mode:              what was played (``request`` or ``fluid``)
    procurement:       how capacity was rented (``in_order``, ``blend`` or ``placed``)
    within_slo:        share of requests that waited no longer than the SLO allows
    waited_s_p99, ttft_s_*: seconds; None where the mode does not know
    launches:          replicas started; ``failed_launches``: asked of a pool that had none
    lost_replicas:     by failures; ``resumed``: requests that went on elsewhere
    not_served:        refused, or given up after waiting as long as the gateway holds them
    rented:            by kind of procurement; ``reasons``: why it was rented so, the last of them
    jobs:              asynchronous work, whose cost is not in ``usd``
    placement:         what the control plane placed; None where bounds stay as they are
    seats:             who served, of an ``active_passive`` deployment; else None
    broken:            rules that did not hold, each as it was seen first
    within_slo_*, spilled: see ``RegionOutcome``; None where one cluster was played
    regions:           none where one cluster was played
    """

    policy: str
    mode: str
    procurement: str = "in_order"
    requests: int = 0
    within_slo: float = 1.0
    replica_hours: float = 0.0
    usd: float = 0.0
    launches: int = 0
    failed_launches: int = 0
    lost_replicas: int = 0
    resumed: int = 0
    not_served: int = 0
    waited_s_p99: float | None = None
    ttft_s_p50: float | None = None
    ttft_s_p90: float | None = None
    ttft_s_p99: float | None = None
    rented: dict[str, Rented] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    jobs: list[JobOutcome] = field(default_factory=list)
    within_slo_outside: float | None = None
    within_slo_during: float | None = None
    spilled: float | None = None
    moments: list[Moment] = field(default_factory=list)
    regions: list[RegionOutcome] = field(default_factory=list)
    placement: PlacementOutcome | None = None
    seats: SeatsOutcome | None = None
    broken: list[str] = field(default_factory=list)


def rented_of(parts: Sequence[Mapping[str, Rented]]) -> dict[str, Rented]:
    """By kind of procurement, of all clusters."""
    return {
        kind: Rented(
            replica_hours=sum(part[kind].replica_hours for part in parts),
            usd=sum(part[kind].usd for part in parts),
            launches=sum(part[kind].launches for part in parts),
            failed_launches=sum(part[kind].failed_launches for part in parts),
            lost=sum(part[kind].lost for part in parts),
        )
        for kind in parts[0]
    }


def summed(parts: Sequence[Sequence[Moment]]) -> list[Moment]:
    """What several clusters have at the moments of the one that was looked at the most."""
    whole = []
    times = [[moment.at_s for moment in moments] for moments in parts]
    for longest in max(parts, key=len):
        at_s = longest.at_s
        here = [
            moments[max(0, bisect_right(when, at_s) - 1)] for moments, when in zip(parts, times, strict=True)
        ]
        whole.append(
            Moment(
                at_s,
                demand=sum(each.demand for each in here),
                wanted=sum(each.wanted for each in here),
                ready=sum(each.ready for each in here),
                starting=sum(each.starting for each in here),
                waiting=sum(each.waiting or 0.0 for each in here),
            )
        )
    return whole
