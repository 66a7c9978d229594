"""The fluid mode: load as a liquid, in bins, against the scaler that runs in production.

What arrives in a bin joins one queue, in order; the ready replicas drain it, each a replica-second in a second. A
launch is paid for from its beginning and serves when its cold start is over. The scaler sees what an agent would:
the requests at hand, the work that arrived and waits, who missed the SLO, and the learned cold start. How long
each request waited is worked out afterwards, exactly for a liquid: the time at which as much was served as had
arrived before it.

Two weeks of five-second bins take a scaler's own time and some two seconds.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from controlplane.simulation.serving.series import FloatArray, LoadSeries
from workloadplane.autoscaling import Seen, SloSeen, WorkSeen

#: Where in a bin requests are taken to arrive; each of these points stands for an equal share of them.
ARRIVAL_POINTS = (0.125, 0.375, 0.625, 0.875)


class Counted(Protocol):
    """An answer with a count of replicas, those that are starting among them."""

    @property
    def replicas(self) -> int: ...


class Scaler(Protocol):
    """What decides: ``workloadplane.autoscaling.PolicyScaler``, or another policy to compare it with."""

    def step(self, seen: Seen) -> Counted: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a part of a run comes to."""

    replica_hours: float
    within_slo: float
    launches: int
    hours: float

    @property
    def launches_per_day(self) -> float:
        return self.launches / self.hours * 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FluidOutcome:
    """A run, bin by bin: replicas ready and starting, the count wanted, the load in replicas, who was late."""

    series: LoadSeries
    ready: FloatArray
    starting: FloatArray
    wanted: FloatArray
    launched: FloatArray
    late: FloatArray

    @property
    def demand(self) -> FloatArray:
        """The load that arrived, in replicas."""
        return self.series.work_s / self.series.bin_s

    @property
    def replica_hours(self) -> float:
        return self.figures().replica_hours

    @property
    def within_slo(self) -> float:
        """The share of requests that waited no longer than the SLO; 1 if there were none."""
        return self.figures().within_slo

    @property
    def launches(self) -> int:
        return self.figures().launches

    def figures(self, *spans_s: tuple[float, float]) -> Figures:
        """The run's figures within spans of time (begin, end); of all of it if none are given."""
        bin_s = self.series.bin_s
        inside = np.full(self.ready.size, not spans_s)
        for begin_s, end_s in spans_s:
            inside[round(begin_s / bin_s) : round(end_s / bin_s)] = True
        requests = float(self.series.requests[inside].sum())
        return Figures(
            replica_hours=float((self.ready[inside] + self.starting[inside]).sum()) * bin_s / 3600.0,
            within_slo=1.0 - float(self.late[inside].sum()) / requests if requests else 1.0,
            launches=int(self.launched[inside].sum()),
            hours=int(inside.sum()) * bin_s / 3600.0,
        )


class Stock(Protocol):
    """The replicas. ``next_s``: before it they stay as they are unless they are turned."""

    ready: int
    starting: int
    next_s: float

    def advance(self, now_s: float) -> None:
        """It is so late: who is ready or gone by now."""
        ...

    def turn_to(self, wanted: int, now_s: float) -> int:
        """Launch or end so that ``wanted`` are there. How many were launched."""
        ...


class Launched:
    """A stock that has whatever is wanted, a cold start later; what was launched last goes first."""

    def __init__(self, ready: int, cold_start_s: Callable[[], float]) -> None:
        """``cold_start_s``: draws one."""
        self.ready, self.starting, self.next_s = ready, 0, math.inf
        self._cold_start_s = cold_start_s
        self._due: list[float] = []

    def advance(self, now_s: float) -> None:
        while self._due and self._due[0] <= now_s:
            heapq.heappop(self._due)
            self.ready += 1
        self._count()

    def turn_to(self, wanted: int, now_s: float) -> int:
        lacking = wanted - self.ready - len(self._due)
        for _ in range(lacking):
            heapq.heappush(self._due, now_s + self._cold_start_s())
        for _ in range(-lacking):
            if self._due:
                self._due.remove(max(self._due))
            elif self.ready:
                self.ready -= 1
        heapq.heapify(self._due)
        self._count()
        return max(0, lacking)

    def _count(self) -> None:
        self.starting, self.next_s = len(self._due), self._due[0] if self._due else math.inf


def play(
    series: LoadSeries,
    scaler: Scaler,
    *,
    cold_start_s: float | Callable[[], float],
    wait_slo_s: float,
    decide_every_s: float,
    first_replicas: int,
    concurrency_target: float = 1.0,
    service_s: float = 10.0,
    told_every_s: float | None = None,
    by_seats: bool = False,
    learned_cold_start_s: float | None = None,
    disturbed: Callable[[Seen], Seen] | None = None,
    stock: Stock | None = None,
) -> FluidOutcome:
    """Play ``series`` against ``scaler``.

    cold_start_s:         seconds of each launch, or a draw of them
    wait_slo_s:           how long a request may wait for a replica
    decide_every_s:       rounded to whole bins, at least one
    first_replicas:       ready at the beginning
    service_s:            how long a request takes at the concurrency target: what the requests at hand are of
    told_every_s:         so often the scaler decides while a request waits, in whole bins; None: no oftener than else
    by_seats:             a request's work takes ``service_s``, as on its seat; else it is done at once if there is room
    learned_cold_start_s: what the scaler is told; ``cold_start_s`` where that is a number
    stock:                other replicas than those that are there a cold start after they are wanted
    disturbed:            what is left of what the scaler sees: metrics that are missing or noisy
    """
    bin_s, count = series.bin_s, series.work_s.size
    every = bins_of(decide_every_s, bin_s)
    soon = every if told_every_s is None else bins_of(told_every_s, bin_s)
    draw, known_s = _cold_starts(cold_start_s)
    agent = Agent(
        cold_start_s=known_s if learned_cold_start_s is None else learned_cold_start_s,
        concurrency_target=concurrency_target,
    )
    stock = Launched(first_replicas, draw) if stock is None else stock
    run = _Run(
        series,
        spread(series, service_s) if by_seats else series.work_s,
        wait_slo_s=wait_slo_s,
        service_s=service_s,
        request_work_s=service_s / concurrency_target,
    )
    told, goal, begin = agent.told_first(first_replicas), first_replicas, 0
    while begin < count:
        if begin:
            goal = scaler.step(disturbed(told) if disturbed else told).replicas
        run.launched[begin] = stock.turn_to(goal, begin * bin_s)
        span = run.flow(stock, goal, begin, min(begin + every, count), soon)
        told, begin = agent.told(stock, span, waiting_s=run.queue_s, bin_s=bin_s), span.end
    return run.outcome()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bins from ``begin`` up to ``end``. ``at_hand``: requests in the mean, for a concurrency target of 1."""

    begin: int
    end: int
    arrived_s: float
    at_hand: float
    requests: float
    outside: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What an agent knows besides what happens: how long a launch takes (None: not learned), and the target."""

    cold_start_s: float | None
    concurrency_target: float

    def told_first(self, ready: int) -> Seen:
        """What the scaler sees before anything has happened."""
        return Seen(now=0.0, ready=ready, cold_start_s=self.cold_start_s)

    def told(self, stock: Stock, span: Span, *, waiting_s: float, bin_s: float) -> Seen:
        """What the scaler sees after a span."""
        over_s = (span.end - span.begin) * bin_s
        return Seen(
            now=span.end * bin_s,
            ready=stock.ready,
            starting=stock.starting,
            concurrency=self.concurrency_target * span.at_hand,
            work=WorkSeen(arrived_s=span.arrived_s, over_s=over_s, waiting_s=waiting_s),
            slo=SloSeen(inside=span.requests - span.outside, outside=span.outside),
            cold_start_s=self.cold_start_s,
        )


class _Run:
    """The bins as they are played, one after the other.

    flows_s:        replica-seconds of work that could be done in each bin, if there were room
    request_work_s: replica-seconds of a request
    """

    def __init__(
        self,
        series: LoadSeries,
        flows_s: FloatArray,
        *,
        wait_slo_s: float,
        service_s: float,
        request_work_s: float,
    ) -> None:
        self.series, self.flows, self.wait_slo_s, self.service_s = series, flows_s, wait_slo_s, service_s
        self.request_work_s = request_work_s
        self.queue_s = 0.0
        self.work_s, self.flows_s, self.requests = (
            array.tolist() for array in (series.work_s, flows_s, series.requests)
        )
        bins = series.work_s.size
        self.ready, self.starting, self.wanted, self.launched, self.served_s = (
            [0.0] * bins for _ in range(5)
        )

    def flow(self, stock: Stock, goal: int, begin: int, end: int, soon: int) -> Span:
        """The bins from ``begin`` up to ``end``, with as many replicas as are there and become ready.

        No further than to the first of every ``soon`` at whose end a request waits.
        """
        bin_s, flows_s, requests = self.series.bin_s, self.flows_s, self.requests
        arrived_s = outside = at_hand = 0.0
        for i in range(begin, end):
            if stock.next_s <= i * bin_s:
                stock.advance(i * bin_s)
            ready = stock.ready
            before_s = self.queue_s
            done_s = min(before_s + flows_s[i], ready * bin_s)
            after_s = self.queue_s = before_s + flows_s[i] - done_s
            self.ready[i], self.starting[i], self.wanted[i] = ready, stock.starting, goal
            self.served_s[i] = done_s
            arrived_s += self.work_s[i]
            at_hand += done_s / bin_s + after_s / self.service_s
            outside += requests[i] * share_above(before_s, after_s, self.wait_slo_s * ready)
            if after_s >= self.request_work_s and (i + 1 - begin) % soon == 0:
                end = i + 1
                break
        return Span(
            begin=begin,
            end=end,
            arrived_s=arrived_s,
            at_hand=at_hand / (end - begin),
            requests=sum(requests[begin:end]),
            outside=outside,
        )

    def outcome(self) -> FluidOutcome:
        return FluidOutcome(
            series=self.series,
            ready=np.array(self.ready),
            starting=np.array(self.starting),
            wanted=np.array(self.wanted),
            launched=np.array(self.launched),
            late=self.series.requests
            * late_shares(
                self.flows, np.array(self.served_s), bin_s=self.series.bin_s, wait_slo_s=self.wait_slo_s
            ),
        )


def bins_of(seconds: float, bin_s: float) -> int:
    """Whole bins, at least one."""
    return max(1, round(seconds / bin_s))


def _cold_starts(cold_start_s: float | Callable[[], float]) -> tuple[Callable[[], float], float | None]:
    """What draws one, and how long each takes where they are all the same."""
    return (cold_start_s, None) if callable(cold_start_s) else (lambda: cold_start_s, cold_start_s)


def share_above(begin: float, end: float, bound: float) -> float:
    """The share of a bin in which a queue that goes straight from ``begin`` to ``end`` is above ``bound``."""
    if begin <= bound and end <= bound:
        return 0.0
    if begin > bound and end > bound:
        return 1.0
    return (max(begin, end) - bound) / abs(end - begin)


def spread(series: LoadSeries, over_s: float) -> FloatArray:
    """The work of each bin, done evenly over so many seconds from then on."""
    bins = bins_of(over_s, series.bin_s)
    arrived = np.concatenate((np.zeros(bins), np.cumsum(series.work_s)))
    return np.maximum(0.0, (arrived[bins:] - arrived[:-bins]) / bins)


def late_shares(flows_s: FloatArray, served_s: FloatArray, *, bin_s: float, wait_slo_s: float) -> FloatArray:
    """The share of each bin's requests that waited longer than the SLO."""
    edges = np.arange(flows_s.size + 1) * bin_s
    arrived = np.concatenate(([0.0], np.cumsum(flows_s)))
    served = np.concatenate(([0.0], np.cumsum(served_s)))
    queued = np.flatnonzero((arrived - served)[:-1] + (arrived - served)[1:] > 1e-6)
    late = np.zeros(flows_s.size)
    for point in ARRIVAL_POINTS:
        level = arrived[queued] + point * flows_s[queued]
        deadline = edges[queued] + point * bin_s + wait_slo_s
        done = np.interp(deadline, edges, served)
        beyond = deadline > edges[-1]  # the end of the series judges nobody
        late[queued] += (done < level - 1e-6) & ~beyond
    return late / len(ARRIVAL_POINTS)
