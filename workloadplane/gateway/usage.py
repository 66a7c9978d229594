"""What requests cost and how they fared: usage records, metric windows, and the load at hand.

One place counts; three readers: the spool (each finished request, and a window per revision every ten seconds),
the agent (load, by revision and by replica), and ``/metrics`` (totals since the process began).
"""

from bisect import bisect_left
from collections.abc import Container
from dataclasses import dataclass, field

from workloadplane.protocol.local import DeploymentLoad, LoadReport
from workloadplane.protocol.observed import PeerStanding
from workloadplane.protocol.spool import SpoolWriter
from workloadplane.protocol.usage import LATENCY_BUCKETS_S, LatencyHistogram, MetricWindow

WINDOW_S = 10.0


class Histogram:
    """Counts by bucket of ``LATENCY_BUCKETS_S`` and the open one."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float, times: int = 1) -> None:
        self.counts[bisect_left(LATENCY_BUCKETS_S, value_s)] += times
        self.sum_s += value_s * times

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def frozen(self) -> LatencyHistogram:
        return LatencyHistogram(counts=tuple(self.counts), sum_s=self.sum_s)


@dataclass(slots=True)
class Tally:
    """Sums over finished requests of one revision."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    ttft: Histogram = field(default_factory=Histogram)
    inter_token_latency: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)

    def add(self, other: "Tally") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.input_tokens += other.input_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens
        self.ttft.add(other.ttft)
        self.inter_token_latency.add(other.inter_token_latency)
        self.duration.add(other.duration)
        self.queue.add(other.queue)


@dataclass(slots=True)
class RevisionTraffic:
    """One revision of one deployment: what runs now, this window and all before it, by priority.

    turned_away: since the last report, as no replica would have been ready in time: whoever comes again will want one
    untold: something has finished since the agent was told
    """

    deployment_id: str
    revision_id: str
    in_flight: int = 0
    waiting: int = 0
    turned_away: int = 0
    in_flight_max: int = 0
    waiting_max: int = 0
    untold: bool = False
    window: dict[str, Tally] = field(default_factory=dict)
    before: dict[str, Tally] = field(default_factory=dict)

    def begin(self) -> None:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def end(self) -> None:
        self.in_flight -= 1

    def begin_waiting(self) -> None:
        self.waiting += 1
        self.waiting_max = max(self.waiting_max, self.waiting)

    def end_waiting(self) -> None:
        self.waiting -= 1

    def turn_away(self) -> None:
        self.turned_away += 1

    def load(self) -> DeploymentLoad | None:
        """What is at hand, was turned away since this was asked last, and has finished; ``None``: nothing new."""
        turned_away, self.turned_away = self.turned_away, 0
        if not (self.in_flight or self.waiting or turned_away or self.untold):
            return None
        self.untold = False
        parts = (*self.before.values(), *self.window.values())
        return DeploymentLoad(
            deployment_id=self.deployment_id,
            revision_id=self.revision_id,
            in_flight=self.in_flight,
            waiting=self.waiting + turned_away,
            requests_total=sum(part.requests for part in parts),
            input_tokens_total=sum(part.input_tokens for part in parts),
            output_tokens_total=sum(part.output_tokens for part in parts),
            ttft_counts=tuple(map(sum, zip(*(part.ttft.counts for part in parts), strict=True))),
        )

    def tally(self, priority: str) -> Tally:
        """This window's of requests of one priority, for one more."""
        self.untold = True
        tally = self.window.get(priority)
        if tally is None:
            tally = self.window[priority] = Tally()
        return tally

    def totals(self) -> dict[str, Tally]:
        """Everything since the process began, by priority."""
        totals: dict[str, Tally] = {}
        for part in (self.before, self.window):
            for priority, tally in part.items():
                totals.setdefault(priority, Tally()).add(tally)
        return totals

    def end_window(self) -> Tally:
        """All of this window, whatever its priority; the next begins."""
        ended = Tally()
        for priority, tally in self.window.items():
            ended.add(tally)
            self.before.setdefault(priority, Tally()).add(tally)
        self.window = {}
        return ended


class TrafficBook:
    """All revisions that this process has met, for as long as they are in a table or something runs."""

    def __init__(self, spool: SpoolWriter, *, started_at: float) -> None:
        self._spool = spool
        self._window_started_at = started_at
        self.revisions: dict[tuple[str, str], RevisionTraffic] = {}

    def of(self, deployment_id: str, revision_id: str) -> RevisionTraffic:
        key = (deployment_id, revision_id)
        traffic = self.revisions.get(key)
        if traffic is None:
            traffic = self.revisions[key] = RevisionTraffic(deployment_id, revision_id)
        return traffic

    def load_report(
        self,
        in_flight_by_replica: dict[str, int],
        ejected: dict[str, str],
        peers: tuple[PeerStanding, ...],
    ) -> LoadReport:
        """What runs and waits now, who is avoided and why, and how peers look, for the agent."""
        return LoadReport(
            gateway_instance=self._spool.gateway_instance,
            deployments=tuple(filter(None, (traffic.load() for traffic in self.revisions.values()))),
            in_flight_by_replica={name: count for name, count in in_flight_by_replica.items() if count},
            ejected=ejected,
            peers=peers,
        )

    def close_windows(self, now: float, *, deployments: Container[str]) -> None:
        """Spool a window for every revision with traffic and begin the next. ``now``: seconds since 1970.

        Revisions of others than ``deployments`` are forgotten once nothing of them runs.
        """
        for traffic in self.revisions.values():
            ended = traffic.end_window()
            if ended.requests or traffic.in_flight_max or traffic.waiting_max:
                self._spool.append_window(self._window(traffic, ended, now))
            traffic.in_flight_max = traffic.in_flight
            traffic.waiting_max = traffic.waiting
        self._window_started_at = now
        for key, traffic in list(self.revisions.items()):
            if traffic.deployment_id not in deployments and not traffic.in_flight and not traffic.waiting:
                del self.revisions[key]

    def _window(self, traffic: RevisionTraffic, ended: Tally, now: float) -> MetricWindow:
        return MetricWindow(
            gateway_instance=self._spool.gateway_instance,
            sequence=self._spool.next_window_sequence(),
            started_at=self._window_started_at,
            ended_at=now,
            deployment_id=traffic.deployment_id,
            revision_id=traffic.revision_id,
            requests=ended.requests,
            errors=ended.errors,
            input_tokens=ended.input_tokens,
            output_tokens=ended.output_tokens,
            in_flight_max=traffic.in_flight_max,
            waiting_max=traffic.waiting_max,
            ttft=ended.ttft.frozen(),
            inter_token_latency=ended.inter_token_latency.frozen(),
            duration=ended.duration.frozen(),
        )
