"""What is to be had of each pool at a moment, who holds it, and what that comes to by kind of procurement."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from controlplane.procurement.learning import HeldSpan, Launched, TakenBack
from controlplane.simulation.serving.outcome import Rented
from controlplane.simulation.serving.pools import PROCUREMENTS, S_PER_H, Loss, Places, ServingPool
from controlplane.simulation.serving.spot_seen import SpotSeen
from controlplane.simulation.serving.spot_trace import SpotTrace
from controlplane.simulation.serving.streams import Streams


class Tally:
    """What one holder has rented, by kind of procurement; ``seen``: what it has seen of spot."""

    def __init__(self) -> None:
        self.rented = {kind: Rented() for kind in PROCUREMENTS}
        self.seen = SpotSeen()

    @property
    def usd(self) -> float:
        """Of all kinds."""
        return sum(each.usd for each in self.rented.values())

    @property
    def replica_hours(self) -> float:
        """Of all kinds."""
        return sum(each.replica_hours for each in self.rented.values())

    @property
    def failed_launches(self) -> int:
        """Of all kinds."""
        return sum(each.failed_launches for each in self.rented.values())


@dataclass(slots=True, eq=False)
class Holding:
    """A place that is paid for since then. ``tally``: whose."""

    place: int
    pool: ServingPool
    since_s: float
    tally: Tally


@dataclass(frozen=True, slots=True)
class Fall:
    """A spot pool has less than before: who stands beyond that loses it."""

    at_s: float
    pool: ServingPool
    is_taken_back: ClassVar[bool] = True


class Supply:
    """Who holds which place. Single owner: the mode that plays it."""

    def __init__(
        self,
        places: Places,
        stock_outs: Mapping[str, Sequence[tuple[float, float]]],
        traces: Mapping[str, SpotTrace],
        streams: Streams,
    ) -> None:
        """``stock_outs`` and ``traces`` by pool; a pool with a trace has as many as that says, its size at most."""
        self.pools = places.pools
        self._stock_outs = {name: tuple(spans) for name, spans in stock_outs.items()}
        self._traces = traces
        self._held: dict[str, dict[int, Holding]] = {pool.name: {} for pool in places.pools}
        self._places = {pool.name: places.of_pool(pool.name) for pool in places.pools}
        self._pool_of = places.pool_of
        self._gone_until_s: dict[int, float] = {}
        self._leaves_at = {  # a place's turn when its pool falls: of a place, not of who stands there
            name: streams.of(f"spot trace {name}").permutation(len(self._places[name])) for name in traces
        }

    def is_full(self, pool: ServingPool) -> bool:
        """All its places are held: there is nothing to ask for."""
        return len(self._held[pool.name]) >= pool.replicas

    def has(self, pool: ServingPool, now_s: float) -> bool:
        """Whether who asks now is given one."""
        return self._free(pool, now_s) is not None

    def stands(self, holding: Holding) -> bool:
        """Whether it is still who holds its place."""
        return self._held[holding.pool.name].get(holding.place) is holding

    def take(self, pool: ServingPool, tally: Tally, now_s: float) -> Holding | None:
        """A place of the pool, paid for from now on; None, and a failed launch, if there is none."""
        mine, place = tally.rented[pool.procurement], self._free(pool, now_s)
        if pool.procurement == "spot":
            tally.seen.launched.append(Launched(pool_id=pool.name, at_s=now_s, had=place is not None))
        if place is None:
            mine.failed_launches += 1
            return None
        mine.launches += 1
        holding = self._held[pool.name][place] = Holding(place, pool, now_s, tally)
        return holding

    def end(self, holding: Holding, now_s: float) -> None:
        """It is given back, and was paid for until now."""
        del self._held[holding.pool.name][holding.place]
        _pay(holding, now_s)

    def lose(self, loss: Loss | Fall, now_s: float) -> list[Holding]:
        """Who held what is gone now; it is no longer theirs."""
        if isinstance(loss, Fall):
            hit = list(self._beyond(loss.pool, now_s))
        else:
            hit = []
            for place in loss.places:
                self._gone_until_s[place] = max(loss.back_s, self._gone_until_s.get(place, 0.0))
                holding = self._held[self._pool_of[place].name].get(place)
                if holding is not None:
                    hit.append(holding)
        for holding in hit:
            holding.tally.rented[holding.pool.procurement].lost += 1
            if loss.is_taken_back:
                taken = TakenBack(pool_id=holding.pool.name, at_s=now_s, instances=1.0)
                holding.tally.seen.taken_back.append(taken)
            self.end(holding, now_s)
        return hit

    def falls(self, end_s: float) -> Iterator[Fall]:
        """When a traced pool comes to have less than before."""
        for pool in self.pools:
            if pool.name in self._traces:
                yield from (Fall(at_s, pool) for at_s in self._traces[pool.name].falls_s if 0 < at_s < end_s)

    def spot_seen(self, tally: Tally, now_s: float) -> SpotSeen:
        """What its agent tells of spot."""
        mine = (
            _span(holding, None)
            for held in self._held.values()
            for holding in held.values()
            if holding.tally is tally and holding.pool.procurement == "spot"
        )
        return tally.seen.looked_at(now_s, mine)

    def close(self, reserved: Tally, now_s: float) -> None:
        """The world's end: all are paid for, and reserved pools by ``reserved`` whether they were used or not."""
        for held in self._held.values():
            for holding in held.values():
                _pay(holding, now_s)
        for pool in self.pools:
            if pool.procurement == "reserved":
                usd = pool.usd_per_replica_h * pool.replicas * now_s / S_PER_H
                reserved.rented["reserved"].usd += usd

    def _free(self, pool: ServingPool, now_s: float) -> int | None:
        """The first place that is to be had."""
        held = self._held[pool.name]
        if pool.name in self._traces and len(held) >= self._traces[pool.name].at(now_s):
            return None
        spans = self._stock_outs.get(pool.name, ())
        last = bisect_right(spans, now_s, key=lambda span: span[0])
        if any(now_s < until_s for _, until_s in spans[:last]):
            return None
        return next(
            (
                place
                for place in self._places[pool.name]
                if place not in held and self._gone_until_s.get(place, 0.0) <= now_s
            ),
            None,
        )

    def _beyond(self, pool: ServingPool, now_s: float) -> Iterator[Holding]:
        held, turns = self._held[pool.name], self._leaves_at[pool.name]
        first = self._places[pool.name][0]
        over = len(held) - self._traces[pool.name].at(now_s)
        leaving = sorted(held, key=lambda place: int(turns[place - first]))
        return (held[place] for place in leaving[: max(0, over)])


def _pay(holding: Holding, now_s: float) -> None:
    mine, hours = holding.tally.rented[holding.pool.procurement], (now_s - holding.since_s) / S_PER_H
    mine.replica_hours += hours
    if holding.pool.procurement != "reserved":
        mine.usd += holding.pool.usd_per_replica_h * hours
    if holding.pool.procurement == "spot":
        holding.tally.seen.held.append(_span(holding, now_s))


def _span(holding: Holding, until_s: float | None) -> HeldSpan:
    return HeldSpan(pool_id=holding.pool.name, since_s=holding.since_s, until_s=until_s, instances=1.0)
