"""Reserved pools first, the rest from ``controlplane.procurement``'s blend: spot, and on demand what spot lacks.

The blend hears what a control plane would: of each launch whether it was had, once the provider has had its time to
answer; which replicas are ready; which are gone. It looks at that whenever it is asked, which is at each of the
agent's decisions.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from controlplane.procurement import (
    Blend,
    BlendPolicy,
    Event,
    Launch,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Ready,
    Stop,
    Wanted,
)
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.pools import ServingPool
from controlplane.simulation.serving.renting import Turn
from controlplane.simulation.serving.replicas import Fleet, SimulatedReplica

_RENTED = ("on_demand", "spot")
#: So many of its last reasons are told.
REASONS_TOLD = 12
#: Turns in which the first replicas are had at most: a market after the other.
_TURNS_AT_FIRST = 100


def markets_of(pools: Iterable[ServingPool]) -> tuple[Market, ...]:
    """One for each type in each zone. A pool's hazard is what is believed of it before anything was seen."""
    found: dict[str, Market] = {}
    for pool in pools:
        if pool.procurement not in _RENTED:
            continue
        market = found.get(pool.market_id, Market(market_id=pool.market_id, region=pool.zone))
        micro_usd = round(pool.usd_per_replica_h * 1e6)
        if pool.procurement == "on_demand":
            found[pool.market_id] = replace(market, on_demand_micro_usd_per_h=micro_usd)
            continue
        hazard_per_h = None if pool.spot_trace else pool.hazard_per_h
        found[pool.market_id] = replace(market, spot_micro_usd_per_h=micro_usd, hazard_per_h=hazard_per_h)
    return tuple(found.values())


class Blended:
    """Single owner. ``turn_to`` is asked at each decision."""

    def __init__(self, fleet: Fleet, launches: LaunchTimes, policy: BlendPolicy) -> None:
        pools = fleet.supply.pools
        self._fleet, self._launches = fleet, launches
        self._reserved = [pool for pool in pools if pool.procurement == "reserved"]
        self._pools = {(pool.market_id, pool.procurement): pool for pool in pools}
        self._blend = Blend(markets=markets_of(pools), policy=replace(policy, replace_s=launches.mean_s))
        self._state = self._blend.start()
        self._answers: list[tuple[float, int, Event, SimulatedReplica | None]] = []
        self._asked = 0
        self._had: dict[str, SimulatedReplica] = {}
        self._ready: set[str] = set()
        self._rented = 0
        self._spare = 0
        self._said: deque[str] = deque(maxlen=REASONS_TOLD)
        self._last_said: tuple[str, ...] = ()

    @property
    def reasons(self) -> list[str]:
        return list(self._said)

    @property
    def spare(self) -> int:
        """What is extra, and on demand until spot has lasted."""
        return self._spare

    def begin(self, count: int) -> Sequence[tuple[SimulatedReplica, float]]:
        found: list[tuple[SimulatedReplica, float]] = []
        for _ in range(_TURNS_AT_FIRST):
            turn = self._turn(count, 0.0, at_once=True)
            found += turn.launched
            if not turn.launched or len(found) >= count:
                break
        return found

    def turn_to(self, wanted: int, now_s: float) -> Turn:
        return self._turn(wanted, now_s, at_once=False)

    def _turn(self, wanted: int, now_s: float, *, at_once: bool) -> Turn:
        """``at_once``: answers take no time."""
        self._hear(now_s)
        launched, stopped = self._turn_reserved(wanted, now_s)
        self._state, actions, reasons = self._blend.step(self._state, Wanted(self._beyond(wanted)), now_s)
        self._note(reasons, now_s)
        for action in actions:
            if isinstance(action, Stop):
                stopped.append(self._had.pop(action.instance_id))
                self._ready.discard(action.instance_id)
                continue
            replica = self._fleet.launch(self._pools[action.market_id, action.rented], now_s)
            answered_s = self._launches.procured_mean_s
            if replica is not None:
                took = self._launches.next()
                launched.append((replica, now_s + took.ready_s))
                answered_s = took.procured_s
            self._answer(action, replica, now_s if at_once else now_s + answered_s)
        there = sum(not each.is_leaving for each in self._fleet.replicas.values()) - len(stopped)
        self._spare = max(0, there - wanted)
        return Turn(launched, stopped)

    def _turn_reserved(
        self, wanted: int, now_s: float
    ) -> tuple[list[tuple[SimulatedReplica, float]], list[SimulatedReplica]]:
        """They are paid for in any case: as many of them as are wanted and stand."""
        there = self._count_reserved()
        launched: list[tuple[SimulatedReplica, float]] = []
        for pool in self._reserved:
            while there < wanted and not self._fleet.supply.is_full(pool):
                if not self._fleet.supply.has(pool, now_s):
                    break
                replica = self._fleet.launch(pool, now_s)
                assert replica is not None  # noqa: S101  (it has one)
                launched.append((replica, now_s + self._launches.next().ready_s))
                there += 1
        return launched, self._fleet.to_stop(there - wanted, self._reserved)

    def _beyond(self, wanted: int) -> int:
        """What the blend is to rent. What it has stays until the reserved one in its place is ready."""
        least = max(0, wanted - self._count_reserved())
        most = max(0, wanted - self._count_reserved(ready=True))
        self._rented = min(max(self._rented, least), most)
        return self._rented

    def _count_reserved(self, *, ready: bool = False) -> int:
        return sum(
            each.holding.pool.procurement == "reserved"
            and not each.is_leaving
            and (each.is_ready or not ready)
            for each in self._fleet.replicas.values()
        )

    def _answer(self, launch: Launch, replica: SimulatedReplica | None, at_s: float) -> None:
        event: Event = NotObtained(launch.market_id, launch.rented)
        if replica is not None:
            event = Obtained(replica.replica_id, launch.market_id, launch.rented)
        self._asked += 1
        heappush(self._answers, (at_s, self._asked, event, replica))

    def _hear(self, now_s: float) -> None:
        """What has happened since it was asked last."""
        while self._answers and self._answers[0][0] <= now_s:
            _, _, event, replica = heappop(self._answers)
            if replica is not None and isinstance(event, Obtained):
                if self._fleet.stands(replica):
                    self._had[replica.replica_id] = replica
                else:  # taken back before it was handed over
                    event = NotObtained(event.market_id, event.rented)
            self._tell(event, now_s)
        for name, replica in list(self._had.items()):
            if not self._fleet.stands(replica):
                del self._had[name]
                self._ready.discard(name)
                self._tell(Lost(name), now_s)
            elif replica.is_ready and name not in self._ready:
                self._ready.add(name)
                self._tell(Ready(name), now_s)

    def _tell(self, event: Event, now_s: float) -> None:
        self._state, _, _ = self._blend.step(self._state, event, now_s)

    def _note(self, reasons: tuple[str, ...], now_s: float) -> None:
        """Those that are not said again and again."""
        self._said.extend(f"{now_s:,.0f} s: {each}" for each in reasons if each not in self._last_said)
        if reasons:
            self._last_said = reasons
