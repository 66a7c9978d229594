"""How much token work arrives for a revision, and how much of it waits.

What a token costs is learned from the replicas' engines: tokens against the share of their concurrency target that was
in use. What a request brings is the mean of those that gateways have finished lately. Requests that arrived are those
that finished and those by which there are more at hand: so a burst counts when it comes, not when it is over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from workloadplane.agent.gateways import Finished
from workloadplane.agent.record import ReplicaRecord
from workloadplane.autoscaling import Arriving, TokenWork, WorkSeen, work_seen

#: The learned costs count from so many intervals on; before them the requests at hand do.
_INTERVALS_MIN = 10
_INTERVAL_S = 5.0
#: The mean of requests goes back over about so many.
_REQUESTS_MEAN = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkMemory:
    """What was learned: the cost of tokens, and replica-seconds of one request; None before any was finished."""

    tokens: TokenWork = field(default_factory=TokenWork)
    request_s: float | None = None


@dataclass(slots=True)
class _Engine:
    """One replica's counters when last read, and what has come together since the last lesson."""

    since: float
    prompt_tokens: int
    generation_tokens: int
    running: int
    prefilled: float = 0.0
    generated: float = 0.0
    busy_s: float = 0.0
    over_s: float = 0.0


@dataclass(slots=True)
class _Before:
    """What gateways had told at the last step."""

    now: float
    requests: int
    input_tokens: int
    output_tokens: int
    at_hand: float


class WorkMeter:
    """One revision's. ``now``: of the clock by which scaling decides."""

    def __init__(self, remembered: WorkMemory) -> None:
        self.memory = remembered
        self._engines: dict[str, _Engine] = {}
        self._before: _Before | None = None
        self._arriving = Arriving()

    def learn(self, records: Iterable[ReplicaRecord], *, concurrency_target: float) -> None:
        """Take what the engines of this revision's replicas tell by now."""
        engines: dict[str, _Engine] = {}
        for record in records:
            if record.metrics is not None and record.state == "ready":
                before = self._engines.get(record.replica_id)
                engines[record.replica_id] = self._read(record, before, concurrency_target)
        self._engines = engines

    def _read(self, record: ReplicaRecord, before: _Engine | None, target: float) -> _Engine:
        metrics = record.metrics
        assert metrics is not None  # noqa: S101  (asked by ``learn``)
        if before is not None and before.since == record.metrics_since:
            return before
        now = _Engine(
            record.metrics_since,
            metrics.prompt_tokens_total or 0,
            metrics.generation_tokens_total or 0,
            metrics.running or 0,
        )
        if before is None or now.prompt_tokens < before.prompt_tokens:
            return now
        span_s = now.since - before.since
        in_use = min(1.0, (before.running + now.running) / 2 / target)
        now.prefilled = before.prefilled + now.prompt_tokens - before.prompt_tokens
        now.generated = before.generated + max(0, now.generation_tokens - before.generation_tokens)
        now.busy_s, now.over_s = before.busy_s + in_use * span_s, before.over_s + span_s
        if now.over_s < _INTERVAL_S or now.busy_s <= 0:
            return now  # short requests fall between two readings: what they made counts with the next that are seen
        tokens = work_seen(
            self.memory.tokens,
            prefill_tokens=now.prefilled,
            decode_tokens=now.generated,
            busy_s=now.busy_s,
        )
        self.memory = WorkMemory(tokens=tokens, request_s=self.memory.request_s)
        now.prefilled = now.generated = now.busy_s = now.over_s = 0.0
        return now

    def step(
        self, finished: Finished, *, in_flight: float, waiting: float, concurrency_target: float, now: float
    ) -> WorkSeen | None:
        """The work since the last step; None while too little was learned to tell."""
        before, at_hand = self._before, in_flight + waiting
        self._before = _Before(now, finished.requests, finished.input_tokens, finished.output_tokens, at_hand)
        if before is None or now <= before.now:
            return None
        self._mean(finished, before)
        request_s = self.memory.request_s
        if request_s is None or self.memory.tokens.observations < _INTERVALS_MIN:
            return None
        over_s = now - before.now
        arrived = max(0.0, finished.requests - before.requests + at_hand - before.at_hand)
        demand = self._arriving.demand(
            arrived * request_s,
            over_s,
            request_s=request_s * concurrency_target,
            busy=in_flight / concurrency_target,
            waits=waiting > 0,
            now=now,
        )
        return WorkSeen(arrived_s=demand * over_s, over_s=over_s, waiting_s=waiting * request_s)

    def _mean(self, finished: Finished, before: _Before) -> None:
        requests = finished.requests - before.requests
        if requests <= 0:
            return
        work_s = self.memory.tokens.of(
            prefill_tokens=max(0, finished.input_tokens - before.input_tokens),
            decode_tokens=max(0, finished.output_tokens - before.output_tokens),
        )
        was = self.memory.request_s
        weight = 1.0 if was is None else min(1.0, requests / _REQUESTS_MEAN)
        mean = work_s / requests if was is None else was + weight * (work_s / requests - was)
        self.memory = WorkMemory(tokens=self.memory.tokens, request_s=mean)
