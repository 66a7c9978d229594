"""A simulated cluster with the real queue and the real decision whose seat is taken back; times in seconds.

``python -m tests.workloadplane.gateway.queueing.fair_world`` writes the table of docs/decisions/0016.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random
from typing import Any

from workloadplane.gateway.queueing import (
    NORMAL,
    Bounds,
    Holding,
    Joined,
    Place,
    Seat,
    Ticket,
    WaitingRoom,
    seat_to_take_back,
)

SEATS = 32
TOKEN_S = 0.02
OUTPUT_TOKENS_MEAN = 200
INPUT_TOKENS = 100
PREFILL_S = 0.2
CAPACITY_PER_S = SEATS / (PREFILL_S + OUTPUT_TOKENS_MEAN * TOKEN_S)
TENANTS = 10
PLACE = Place("chat", "project", SEATS, True)
GREEDY = "t0"


class Stream:
    """A request. ``made``: tokens so far, of ``wanted``; ``run``: its turn at the engine, by number."""

    def __init__(self, tenant: str, came_s: float, wanted: int, *, can_go_on: bool) -> None:
        self.tenant = tenant
        self.came_s = came_s
        self.wanted = wanted
        self.can_go_on = can_go_on
        self.ticket: Ticket[Stream] = Ticket(self, tenant, NORMAL, INPUT_TOKENS + 2.0 * OUTPUT_TOKENS_MEAN, 1)
        self.first_s = 0.0
        self.made = 0
        self.run = 0
        self.sent_s = 0.0
        self.tokens_from_s = 0.0
        self.preemptions = 0
        self.gave_way_s = 0.0
        self.used = 0.0

    def made_by(self, now_s: float) -> int:
        return self.made + max(0, int((now_s - self.tokens_from_s) / TOKEN_S))

    def used_by(self, now_s: float) -> float:
        return INPUT_TOKENS + 2.0 * self.made_by(now_s)

    def left(self, now_s: float) -> float:
        return max(1.0, self.used + self.ticket.cost - self.used_by(now_s))


class World:
    """Tenants send at a rate each; ``ttft_s`` by tenant is what they see, of requests that came in ``seconds``.

    preempts:     seats are taken back
    opted_out:    of the first tenant's streams none can go on
    """

    def __init__(
        self,
        rates_per_s: dict[str, float],
        seconds: float,
        *,
        fair: bool = True,
        preempts: bool = True,
        opted_out: bool = False,
        seed: int = 1,
    ) -> None:
        self.ttft_s: dict[str, list[float]] = defaultdict(list)
        self.pauses_s: list[float] = []  # of streams that gave way, until they had a seat again
        self.refused: dict[str, int] = defaultdict(int)
        self.tokens: dict[str, float] = defaultdict(float)
        self.preemptions = 0
        self.preemptions_of_one = 0
        self._rates = rates_per_s
        self._seconds = seconds
        self._fair = fair
        self._preempts = preempts
        self._opted_out = opted_out
        self._rngs = {tenant: Random(f"{seed} {tenant}") for tenant in rates_per_s}
        self._events: list[tuple[float, int, str, tuple[Stream, int] | None]] = []
        self._number = 0
        self._running: dict[Stream, None] = {}
        self._room: WaitingRoom[Any] = WaitingRoom(
            Bounds(requests_max=500, bytes_max=10**9, project_requests_max=500, project_bytes_max=10**9)
        )
        for tenant, rate_per_s in rates_per_s.items():
            self._push(self._rngs[tenant].expovariate(rate_per_s), tenant, None)
        while self._events:
            self._step()

    def _push(self, at_s: float, tenant: str, ends: tuple[Stream, int] | None) -> None:
        self._number += 1
        heappush(self._events, (at_s, self._number, tenant, ends))

    def _step(self) -> None:
        now_s, _, tenant, ends = heappop(self._events)
        if ends is None:
            if now_s < self._seconds:
                self._arrive(now_s, tenant)
        elif ends[0].run == ends[1]:
            self._end(ends[0], now_s)
        while (due := self._room.peek("chat")) is not None:
            if len(self._running) >= SEATS and not (self._preempts and self._make_room(due, now_s)):
                return
            self._room.take("chat", due, now_s)
            self._send(due.item, now_s)

    def _arrive(self, now_s: float, tenant: str) -> None:
        rng = self._rngs[tenant]
        self._push(now_s + rng.expovariate(self._rates[tenant]), tenant, None)
        wanted = max(1, round(rng.expovariate(1 / OUTPUT_TOKENS_MEAN)))
        stream = Stream(tenant, now_s, wanted, can_go_on=not (self._opted_out and tenant == GREEDY))
        ticket = stream.ticket
        ticket.tenant = tenant if self._fair else "everybody"
        if len(self._running) < SEATS and not self._room.waits("chat"):
            self._room.pass_through("chat", "project", ticket)
            self._send(stream, now_s)
            return
        joined = self._room.join(PLACE, ticket, now_s=now_s, until_s=now_s + 180)
        if not isinstance(joined, Joined):
            self.refused[tenant] += 1
        elif joined.displaced is not None:
            displaced: Stream = joined.displaced.item
            assert not displaced.preemptions, "what has begun is not displaced"
            self.refused[displaced.tenant] += 1

    def _send(self, stream: Stream, now_s: float) -> None:
        self._running[stream] = None
        stream.run += 1
        stream.sent_s = now_s
        if not stream.made:
            stream.first_s = now_s + PREFILL_S
        stream.tokens_from_s = now_s + PREFILL_S  # also of one that goes on, as if nothing of it were cached
        if stream.preemptions:
            self.pauses_s.append(now_s - stream.gave_way_s)
        ends_s = stream.tokens_from_s + (stream.wanted - stream.made) * TOKEN_S
        self._push(ends_s, stream.tenant, (stream, stream.run))

    def _end(self, stream: Stream, now_s: float) -> None:
        del self._running[stream]
        if now_s < self._seconds:
            self.tokens[stream.tenant] += stream.wanted
        self.ttft_s[stream.tenant].append(stream.first_s - stream.came_s)
        alone_s = PREFILL_S + stream.wanted * TOKEN_S
        cost = INPUT_TOKENS + 2 * stream.wanted - stream.used
        self._room.settle("chat", stream.ticket, cost, alone_s, stream.wanted)

    # Taking seats back, as ``entry`` and ``preempting`` do

    def _make_room(self, due: "Ticket[Any]", now_s: float) -> bool:
        claim = self._room.claim("chat", due)
        assert claim is not None
        seat = seat_to_take_back(claim, self._held(now_s))
        if seat is None:
            return False
        stream = seat.item
        del self._running[stream]
        used, charged = stream.used_by(now_s), stream.used + stream.ticket.cost
        self._room.spend("chat", stream.ticket, used + seat.left - charged)
        stream.used, stream.ticket.cost = used, seat.left
        stream.made = stream.made_by(now_s)
        stream.run += 1
        stream.gave_way_s = now_s
        stream.ticket.had_seat = True
        stream.preemptions += 1
        self.preemptions += 1
        self.preemptions_of_one = max(self.preemptions_of_one, stream.preemptions)
        self._room.give_back(PLACE, stream.ticket, now_s)
        return True

    def _held(self, now_s: float) -> Iterator[Holding[Stream]]:
        by_tenant: dict[str, list[Seat[Stream]]] = defaultdict(list)
        for stream in self._running:
            if stream.can_go_on:
                seat = Seat(stream, stream.left(now_s), stream.preemptions, stream.sent_s)
                by_tenant[stream.ticket.tenant].append(seat)
        for tenant, seats in by_tenant.items():
            yield Holding(tenant, NORMAL, self._room.served("chat", tenant), seats)

    # What came of it

    def p99_s(self) -> float:
        """Time to first token of all tenants but the first one, who may be greedy."""
        return _p99(s for tenant, all_s in self.ttft_s.items() if tenant != GREEDY for s in all_s)

    def throughput(self) -> float:
        """Tokens made, of those that the seats could have made."""
        return sum(self.tokens.values()) / (self._seconds * CAPACITY_PER_S * OUTPUT_TOKENS_MEAN)


def _p99(values: Iterator[float]) -> float:
    seen = sorted(values)
    return seen[int(len(seen) * 0.99)] if seen else 0.0


def rates(load: float, greed: float = 1.0) -> dict[str, float]:
    """Every tenant at ``load`` of its share of the capacity, the first one at ``greed`` times that."""
    each = load * CAPACITY_PER_S / TENANTS
    return {f"t{number}": each * (greed if number == 0 else 1.0) for number in range(TENANTS)}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1200)
    given = parser.parse_args()
    ways: dict[str, dict[str, Any]] = {
        "order alone": {"preempts": False},
        "seats taken back": {},
        "the greedy one opted out": {"opted_out": True},
    }
    columns = (
        "load", "", "calm", "greedy", "moved", "others refused", "taken back a second: calm", "greedy",
        "tokens made, of what could be", "pause of one that gave way, P99 in s",
    )  # fmt: skip
    sys.stdout.write("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns) + "\n")
    for load in (0.9, 0.8, 0.7, 0.5):
        for name, options in ways.items():
            told = [_compared(load, seed, given.seconds, options) for seed in range(1, given.seeds + 1)]
            cells = [f"{min(each):.2f} ... {max(each):.2f}" for each in zip(*told, strict=True)]
            sys.stdout.write(f"| {load} | {name} | " + " | ".join(cells) + " |\n")
            sys.stdout.flush()


def _compared(load: float, seed: int, seconds: float, options: dict[str, Any]) -> tuple[float, ...]:
    calm = World(rates(load), seconds, seed=seed, **options)
    greedy = World(rates(load, greed=100), seconds, seed=seed, **options)
    return (
        calm.p99_s(),
        greedy.p99_s(),
        greedy.p99_s() / calm.p99_s() - 1,
        sum(count for tenant, count in greedy.refused.items() if tenant != GREEDY),
        calm.preemptions / seconds,
        greedy.preemptions / seconds,
        greedy.throughput(),
        _p99(iter(greedy.pauses_s)),
    )


if __name__ == "__main__":
    main()
