"""Zones with spot capacity that comes and goes, and a policy of renting played in them.

What is published, and kept here:
- what is taken back of one type in one zone goes together: within three minutes in over 92 % of cases
  (arXiv:2604.16457, 2,635 interruptions on AWS and Azure);
- zones differ much in how much they have and for how long, also inside a region, and regions hardly go together
  (NSDI 2024 "Can't Be Late", EuroSys 2025 "SkyServe"; their traces: V100 in nine zones of three regions over weeks, 16
  nodes in three zones, A100 in six zones);
- spot's price against on demand's, zone by zone: p5.48xlarge and p4d.24xlarge in SkyPilot's public catalogue.

What is not, and is assumed: zones go through episodes of plenty, of scarcity (a few instances, their number moving) and
of nothing, each exponential in length; ``ZoneHabit`` has the means. A region's shock takes all its zones for a while.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from controlplane.procurement import (
    Launch,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Policy,
    Ready,
    Stop,
    Wanted,
)
from controlplane.simulation.serving.spot_trace import spot_trace_of

TICK_S = 60.0
#: A policy decides whenever something has happened, and after so many ticks.
DECIDE_TICKS = 5
S_PER_H, H_PER_DAY = 3600.0, 24.0
#: Of the falls of a zone's capacity, so many are at once; the others take ``SLOW_FALL_H``.
AT_ONCE, SLOW_FALL_H = 0.92, 0.5
PLENTY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneHabit:
    """Mean lengths of a zone's episodes in hours, how many it has when it is scarce, and spot's share of the price."""

    plenty_h: float
    scarce_h: float
    none_h: float
    scarce_most: int
    price_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotWorld:
    """capacity: market id -> instances by tick; wanted: as many are to serve, always."""

    name: str
    markets: tuple[Market, ...]
    capacity: Mapping[str, list[int]]
    wanted: int
    cold_start_s: float = 180.0

    @property
    def ticks(self) -> int:
        return min(len(row) for row in self.capacity.values())


@dataclass(slots=True)
class Played:
    """What came of it. available: share of the time in which as many served as were wanted."""

    available: float = 0.0
    usd_per_h: float = 0.0
    spot_usd_per_h: float = 0.0
    launches: int = 0
    failed_launches: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A family of worlds: zones by region, on demand's price, and how often a whole region is struck."""

    name: str
    regions: Mapping[str, tuple[ZoneHabit, ...]]
    on_demand_usd_per_h: float
    wanted: int
    shocks_per_week: float = 0.5
    shock_h: float = 3.0


def _habit(plenty_h: float, scarce_h: float, none_h: float, scarce_most: int, share: float) -> ZoneHabit:
    return ZoneHabit(
        plenty_h=plenty_h, scarce_h=scarce_h, none_h=none_h, scarce_most=scarce_most, price_share=share
    )


SHAPES = (
    Shape(
        name="nine zones, three regions",
        regions={
            "us-east-1": (
                _habit(20, 6, 8, 3, 0.31), _habit(9, 5, 10, 3, 0.28), _habit(30, 4, 4, 4, 0.21),
                _habit(5, 4, 20, 2, 0.30),
            ),
            "us-east-2": (_habit(16, 8, 6, 3, 0.15), _habit(10, 6, 10, 2, 0.16)),
            "us-west-2": (_habit(40, 5, 3, 4, 0.34), _habit(12, 8, 8, 3, 0.32), _habit(6, 6, 16, 2, 0.31)),
        },
        on_demand_usd_per_h=98.32,
        wanted=8,
    ),
    Shape(
        name="three zones, sixteen nodes",
        regions={
            "us-east-2": (_habit(14, 12, 6, 9, 0.24),),
            "us-west-2": (_habit(18, 10, 5, 8, 0.32), _habit(8, 12, 10, 7, 0.35)),
        },
        on_demand_usd_per_h=32.77,
        wanted=12,
        shocks_per_week=0.3,
    ),
    Shape(
        name="six zones, five regions",
        regions={
            "us-central1": (_habit(60, 8, 20, 3, 0.30), _habit(30, 10, 40, 2, 0.30)),
            "us-east1": (_habit(48, 6, 12, 3, 0.32),),
            "us-west1": (_habit(24, 12, 36, 3, 0.29),),
            "europe-west4": (_habit(40, 10, 16, 4, 0.35),),
            "asia-southeast1": (_habit(20, 8, 30, 2, 0.40),),
        },
        on_demand_usd_per_h=40.55,
        wanted=6,
        shocks_per_week=0.2,
    ),
)  # fmt: skip


def world_made(shape: Shape, *, seed: int, days: float) -> SpotWorld:
    """One world of a family. Each zone and region draws from a stream of its own."""
    ticks = round(days * H_PER_DAY * S_PER_H / TICK_S)
    markets, capacity = [], {}
    for region, habits in shape.regions.items():
        struck = _shocks(Random(f"{seed} {shape.name} {region}"), shape, ticks)
        for index, habit in enumerate(habits):
            key = f"gpu@{region}{'abcdefgh'[index]}"
            own = _zone(Random(f"{seed} {shape.name} {key}"), habit, ticks)
            capacity[key] = [0 if shock else had for had, shock in zip(own, struck, strict=True)]
            markets.append(
                Market(
                    market_id=key,
                    region=region,
                    spot_micro_usd_per_h=round(shape.on_demand_usd_per_h * habit.price_share * 1e6),
                    on_demand_micro_usd_per_h=round(shape.on_demand_usd_per_h * 1e6),
                )
            )
    return SpotWorld(name=shape.name, markets=tuple(markets), capacity=capacity, wanted=shape.wanted)


def _zone(rng: Random, habit: ZoneHabit, ticks: int) -> list[int]:
    lengths = {"plenty": habit.plenty_h, "scarce": habit.scarce_h, "none": habit.none_h}
    nexts = {"plenty": ("scarce", "none"), "scarce": ("plenty", "none"), "none": ("scarce", "plenty")}
    total_h = sum(lengths.values())
    state = rng.choices(list(lengths), [length / total_h for length in lengths.values()])[0]
    found: list[int] = []
    while len(found) < ticks:
        left = max(1, round(rng.expovariate(1 / lengths[state]) * S_PER_H / TICK_S))
        while left > 0:
            level = {"plenty": PLENTY, "none": 0}.get(state, rng.randint(1, habit.scarce_most))
            part = (
                left
                if state != "scarce"
                else min(left, max(1, round(rng.expovariate(0.5) * S_PER_H / TICK_S)))
            )
            _extend(rng, found, level, part)
            left -= part
        state = rng.choice(nexts[state])
    return found[:ticks]


def _extend(rng: Random, found: list[int], level: int, ticks: int) -> None:
    """A fall is at once, or takes a while."""
    before = min(found[-1], 20) if found else level
    if level < before and rng.random() > AT_ONCE:
        slow = min(ticks, round(SLOW_FALL_H * S_PER_H / TICK_S))
        found += [round(before + (level - before) * (step + 1) / slow) for step in range(slow)]
        ticks -= slow
    found += [level] * ticks


def _shocks(rng: Random, shape: Shape, ticks: int) -> list[bool]:
    struck = [False] * ticks
    at_h = rng.expovariate(shape.shocks_per_week / 168)
    while (begin := round(at_h * S_PER_H / TICK_S)) < ticks:
        length_h = rng.expovariate(1 / shape.shock_h)
        end = min(ticks, begin + max(1, round(length_h * S_PER_H / TICK_S)))
        struck[begin:end] = [True] * (end - begin)
        at_h += length_h + rng.expovariate(shape.shocks_per_week / 168)
    return struck


def world_read(folder: Path, *, wanted: int, on_demand_usd_per_h: float, price_share: float) -> SpotWorld:
    """A world of recorded zones: a file each (``spot_trace``), the zone is its name up to the first ``_``.

    Raises ValueError naming the file and what is wrong with it.
    """
    markets, capacity = [], {}
    for path in sorted(folder.glob("*.json")):
        trace = spot_trace_of([path.read_text(encoding="utf-8", errors="replace")], path.name)
        key = f"gpu@{path.stem.partition('_')[0]}"
        repeat = max(1, round(trace.gap_s / TICK_S))
        capacity[key] = [instances for instances in trace.instances for _ in range(repeat)]
        markets.append(
            Market(
                market_id=key,
                region=key[:-1],
                spot_micro_usd_per_h=round(on_demand_usd_per_h * price_share * 1e6),
                on_demand_micro_usd_per_h=round(on_demand_usd_per_h * 1e6),
            )
        )
    if not markets:
        raise ValueError(f"{folder} has no trace; put one JSON file for each zone there")
    return SpotWorld(name=folder.name, markets=tuple(markets), capacity=capacity, wanted=wanted)


def play(world: SpotWorld, policy: Policy[Any], *, warm_up_s: float = 1800.0, seed: int = 0) -> Played:
    """One policy in one world, tick by tick. On demand is always to be had, within a tick."""
    return _Play(world, policy, Random(seed)).run(warm_up_s)


class _Play:
    def __init__(self, world: SpotWorld, policy: Policy[Any], rng: Random) -> None:
        self.world, self.policy, self.rng = world, policy, rng
        self.state = policy.start()
        self.outcome = Played()
        self.here: dict[str, tuple[str, str]] = {}  # instance id -> market id, how it is rented
        self.spot_here: dict[str, list[str]] = {key: [] for key in world.capacity}
        self.ready: set[str] = set()
        self.starting: list[tuple[float, str]] = []
        self.asked: list[Launch] = []
        self.names = 0
        self.told = True
        self.prices = {
            (market.market_id, rented): (price or 0) / 1e6
            for market in world.markets
            for rented, price in (
                ("spot", market.spot_micro_usd_per_h),
                ("on_demand", market.on_demand_micro_usd_per_h),
            )
        }

    def run(self, warm_up_s: float) -> Played:
        served = counted = 0
        for tick in range(self.world.ticks):
            now_s = tick * TICK_S
            self._take_back(tick, now_s)
            self._answer(tick, now_s)
            while self.starting and self.starting[0][0] <= now_s:
                _, name = self.starting.pop(0)
                if name in self.here:
                    self.ready.add(name)
                    self._tell(Ready(name), now_s)
            if self.told or tick % DECIDE_TICKS == 0:
                self.told = False
                self.state, actions, _ = self.policy.step(self.state, Wanted(self.world.wanted), now_s)
                self._do(actions)
            self._pay()
            if now_s >= warm_up_s:
                counted += 1
                served += len(self.ready) >= self.world.wanted
        hours = self.world.ticks * TICK_S / S_PER_H
        self.outcome.available = served / counted
        self.outcome.usd_per_h /= hours
        self.outcome.spot_usd_per_h /= hours
        return self.outcome

    def _tell(self, event: Any, now_s: float) -> None:
        self.told = True
        self.state, _, _ = self.policy.step(self.state, event, now_s)

    def _take_back(self, tick: int, now_s: float) -> None:
        for key, names in self.spot_here.items():
            over = len(names) - self.world.capacity[key][tick]
            for name in self.rng.sample(names, over) if over > 0 else ():
                self._end(name)
                self.outcome.lost += 1
                self._tell(Lost(name), now_s)

    def _answer(self, tick: int, now_s: float) -> None:
        asked, self.asked = self.asked, []
        for launch in asked:
            key = launch.market_id
            spot = launch.rented == "spot"
            if spot and len(self.spot_here[key]) >= self.world.capacity[key][tick]:
                self.outcome.failed_launches += 1
                self._tell(NotObtained(key, launch.rented), now_s)
                continue
            self.names += 1
            name = f"i{self.names}"
            self.here[name] = (key, launch.rented)
            if spot:
                self.spot_here[key].append(name)
            self.starting.append((now_s + self.world.cold_start_s, name))
            self._tell(Obtained(name, key, launch.rented), now_s)

    def _do(self, actions: Iterable[Any]) -> None:
        for action in actions:
            if isinstance(action, Stop):
                self._end(action.instance_id)
            else:
                self.outcome.launches += 1
                self.asked.append(action)

    def _end(self, name: str) -> None:
        key, rented = self.here.pop(name)
        self.ready.discard(name)
        if rented == "spot":
            self.spot_here[key].remove(name)

    def _pay(self) -> None:
        for key, rented in self.here.values():
            usd = self.prices[key, rented] * TICK_S / S_PER_H
            self.outcome.usd_per_h += usd
            if rented == "spot":
                self.outcome.spot_usd_per_h += usd
