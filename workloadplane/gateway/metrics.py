"""``/metrics``: what this process did since it began, in Prometheus' text format.

Names follow OpenTelemetry's GenAI conventions (``gen_ai_server_*``) and the Gateway API's inference metrics
where they have a word for it. Labels are bounded: routes are a fixed list, deployments come from the signed
table and are named by their id, outcomes and rules are few. No name that a tenant chose is shown.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from workloadplane.gateway.usage import Histogram, TrafficBook
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

_HISTOGRAMS = (
    ("gen_ai_server_time_to_first_token_seconds", "From a request's arrival to its first token", "ttft"),
    ("gen_ai_server_time_per_output_token_seconds", "Between two tokens of a stream", "inter_token_latency"),
    ("gen_ai_server_request_duration_seconds", "From a request's arrival to its answer's end", "duration"),
    ("meridian_gateway_queue_seconds", "From a request's arrival to its being sent", "queue"),
)
_TOKENS = (("input", "input_tokens"), ("cached", "cached_tokens"), ("output", "output_tokens"))


class Counters:
    """Counts by label that belong to no revision."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()  # route, status, outcome
        self.picks: Counter[str] = Counter()  # replica | peer | wait | a refusal's rule
        self.retries: Counter[str] = Counter()  # connect | reset | status
        self.queue_refusals: Counter[str] = Counter()  # a bound or limit that was met
        self.ejections: Counter[str] = Counter()  # unreachable | broken | failed | stuck
        self.resumes: Counter[str] = Counter()  # begun | done | why not
        self.refused_tables: Counter[str] = Counter()


class _Collector:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def render(
    counters: Counters,
    traffic: TrafficBook,
    *,
    gauges: dict[str, tuple[str, float]],
) -> bytes:
    """The text. ``gauges``: name -> (help, value)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector([*_of_process(counters, gauges), *_of_traffic(traffic)]))
    return generate_latest(registry)


def _of_process(counters: Counters, gauges: dict[str, tuple[str, float]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "meridian_gateway_requests", "Finished requests", labels=["route", "status", "outcome"]
    )
    for (route, status, outcome), count in counters.requests.items():
        requests.add_metric([route, status, outcome], count)
    yield requests
    for name, text, label, counts in (
        ("meridian_gateway_picks", "Choices made", "choice", counters.picks),
        ("meridian_gateway_ejections", "Replicas and peers avoided for a while", "cause", counters.ejections),
        ("meridian_gateway_retries", "Requests sent again", "cause", counters.retries),
        ("meridian_gateway_queue_refusals", "Requests told to come again", "rule", counters.queue_refusals),
        ("meridian_gateway_resumes", "Broken streams by what became of them", "outcome", counters.resumes),
        ("meridian_gateway_tables_refused", "Tables not adopted", "rule", counters.refused_tables),
    ):
        family = CounterMetricFamily(name, text, labels=[label])
        for value, count in counts.items():
            family.add_metric([value], count)
        yield family
    for name, (text, level) in gauges.items():
        yield GaugeMetricFamily(name, text, value=level)


def _of_traffic(traffic: TrafficBook) -> Iterator[Metric]:
    labels = ["deployment_id", "revision_id"]
    revisions = [(t, [t.deployment_id, t.revision_id], t.total()) for t in traffic.revisions.values()]
    for name, text, attribute in (
        ("meridian_gateway_in_flight_requests", "Requests being answered", "in_flight"),
        ("meridian_gateway_waiting_requests", "Requests that wait for a replica", "waiting"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=labels)
        for each, values, _ in revisions:
            gauge.add_metric(values, getattr(each, attribute))
        yield gauge
    failed = CounterMetricFamily(
        "meridian_gateway_errors", "Requests that a fault of ours ended", labels=labels
    )
    for _, values, total in revisions:
        failed.add_metric(values, total.errors)
    yield failed
    tokens = CounterMetricFamily("gen_ai_server_tokens", "Tokens", labels=[*labels, "type"])
    for _, values, total in revisions:
        for kind, attribute in _TOKENS:
            tokens.add_metric([*values, kind], getattr(total, attribute))
    yield tokens
    for name, text, attribute in _HISTOGRAMS:
        family = HistogramMetricFamily(name, text, labels=labels)
        for _, values, total in revisions:
            histogram: Histogram = getattr(total, attribute)
            family.add_metric(values, buckets=_cumulative(histogram), sum_value=histogram.sum_s)
        yield family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    count = 0
    bounds = [*(str(bound) for bound in LATENCY_BUCKETS_S), "+Inf"]
    for bound, more in zip(bounds, histogram.counts, strict=True):
        count += more
        buckets.append((bound, float(count)))
    return buckets
