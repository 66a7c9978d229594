"""``/metrics``: what this process did since it began, in Prometheus' text format.

Names follow OpenTelemetry's GenAI conventions (``gen_ai_server_*``) and the Gateway API's inference metrics
where they have a word for it. Labels are bounded: routes are a fixed list, deployments come from the signed
table and are named by their id, outcomes and rules are few. No name that a tenant chose is shown.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from workloadplane.gateway.registry import Registry
from workloadplane.gateway.usage import Histogram, TrafficBook
from workloadplane.gateway.vantage import PeerView
from workloadplane.health.domain import DOMAIN_STATES
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.usage import LATENCY_BUCKETS_S
from workloadplane.routing import Choice, ToReplica

_HISTOGRAMS = (
    ("gen_ai_server_time_to_first_token_seconds", "From a request's arrival to its first token", "ttft"),
    ("gen_ai_server_time_per_output_token_seconds", "Between two tokens of a stream", "inter_token_latency"),
    ("gen_ai_server_request_duration_seconds", "From a request's arrival to its answer's end", "duration"),
    ("meridian_gateway_queue_seconds", "From a request's arrival to its being sent", "queue"),
)
_TOKENS = (("input", "input_tokens"), ("cached", "cached_tokens"), ("output", "output_tokens"))


_BY_DEPLOYMENT = (
    (
        "meridian_gateway_requests",
        "Finished requests",
        ("route", "priority", "status", "outcome"),
        "requests",
    ),
    ("meridian_gateway_picks", "Choices made", ("choice", "reason"), "picks"),
    ("meridian_gateway_ejections", "Replicas avoided for a while", ("cause",), "ejections"),
    ("meridian_gateway_retries", "Requests sent again", ("cause",), "retries"),
    ("meridian_gateway_resumes", "Broken streams by what became of them", ("outcome",), "resumes"),
    ("meridian_gateway_standby_probes", "Tests of replicas that stand by", ("outcome",), "standby_probes"),
    ("meridian_gateway_preemptions", "Streams that gave their seat to another tenant", (), "preemptions"),
    ("meridian_gateway_queue_refusals", "Requests that could not wait", ("rule",), "queue_refusals"),
    ("meridian_gateway_rate_limit_refusals", "Requests beyond a limit", ("rule",), "rate_limit_refusals"),
    ("meridian_gateway_prompt_bytes", "Of prompts sent to replicas here", (), "prompt_bytes"),
    ("meridian_gateway_prefix_known_bytes", "Of those, believed to be cached there", (), "known_bytes"),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A deployment's replicas in this cluster. ``ejected``: of the ready ones, avoided for now."""

    ready: int
    ejected: int


def standing(registry: Registry) -> dict[str, Standing]:
    """How the replicas of every deployment that this cluster knows stand, by deployment."""
    ready: Counter[str] = Counter(dict.fromkeys(registry.deployments, 0))
    ejected: Counter[str] = Counter()
    out = registry.ejections.ejected(registry.endpoints)
    for endpoint in registry.endpoints.values():
        if endpoint.state == "ready":
            ready[endpoint.deployment_id] += 1
            ejected[endpoint.deployment_id] += endpoint.replica_id in out
    return {name: Standing(count, ejected[name]) for name, count in ready.items()}


class Counters:
    """Counts by label. All but the last three begin with the deployment's id; it is empty where a request
    named none that exists.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, ...]] = Counter()  # route, priority, status, outcome
        self.picks: Counter[tuple[str, ...]] = Counter()  # replica | peer | wait | a refusal's rule; why
        # connect | reset | cut | status | stuck | handed_over
        self.retries: Counter[tuple[str, ...]] = Counter()
        self.queue_refusals: Counter[tuple[str, ...]] = Counter()  # queue_full | deadline | displaced
        self.rate_limit_refusals: Counter[tuple[str, ...]] = Counter()  # requests | tokens | concurrency
        self.ejections: Counter[tuple[str, ...]] = Counter()  # unreachable | broken | failed | stuck
        self.resumes: Counter[tuple[str, ...]] = Counter()  # begun | done | why not
        self.preemptions: Counter[tuple[str, ...]] = Counter()
        self.prompt_bytes: Counter[tuple[str, ...]] = Counter()
        self.known_bytes: Counter[tuple[str, ...]] = Counter()
        self.standby_probes: Counter[tuple[str, ...]] = (
            Counter()
        )  # answered | unreachable | broken | failed | stuck
        self.refused_tables: Counter[str] = Counter()
        self.refused_answers: Counter[str] = Counter()  # by cluster id
        self.region_changes: Counter[tuple[str, str]] = Counter()  # cluster id, new state

    def picked(self, deployment_id: str, kind: str, choice: Choice) -> None:
        """Count a choice. The second of its reasons, if there is one, tells most; it is one of few constants."""
        if isinstance(choice, Refusal):
            self.picks[deployment_id, choice.rule, ""] += 1
        else:
            reasons = choice.reasons
            self.picks[deployment_id, kind, str(reasons[len(reasons) > 1])] += 1

    def to_replica(self, deployment_id: str, choice: ToReplica, prompt_bytes: int) -> None:
        """Count a choice of a replica here, and the prompt that goes there."""
        reasons = choice.reasons
        self.picks[deployment_id, "replica", str(reasons[len(reasons) > 1])] += 1
        if prompt_bytes:
            key = (deployment_id,)
            self.prompt_bytes[key] += prompt_bytes
            self.known_bytes[key] += choice.known_bytes

    def keep_only(self, deployments: Container[str]) -> None:
        """Forget deployments that are no more."""
        for *_, attribute in _BY_DEPLOYMENT:
            counts: Counter[tuple[str, ...]] = getattr(self, attribute)
            for key in [key for key in counts if key[0] and key[0] not in deployments]:
                del counts[key]


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
    standing: Mapping[str, Standing],
    peers: Iterable[PeerView] = (),
) -> bytes:
    """The text. ``gauges``: name -> (help, value); ``standing``: by deployment."""
    registry = CollectorRegistry(auto_describe=False)
    of_peers = _of_peers(list(peers), counters)
    told = [*_of_process(counters, gauges), *_of_replicas(standing), *of_peers, *_of_traffic(traffic)]
    registry.register(_Collector(told))
    return generate_latest(registry)


def _of_process(counters: Counters, gauges: dict[str, tuple[str, float]]) -> Iterator[Metric]:
    for name, text, labels, attribute in _BY_DEPLOYMENT:
        counts: Counter[tuple[str, ...]] = getattr(counters, attribute)
        family = CounterMetricFamily(name, text, labels=["deployment_id", *labels])
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family
    refused = CounterMetricFamily("meridian_gateway_tables_refused", "Tables not adopted", labels=["rule"])
    for rule, count in counters.refused_tables.items():
        refused.add_metric([rule], count)
    yield refused
    unproven = CounterMetricFamily(
        "meridian_gateway_peer_answers_refused",
        "Words of peers not believed",
        labels=["cluster_id"],
    )
    for cluster_id, count in counters.refused_answers.items():
        unproven.add_metric([cluster_id], count)
    yield unproven
    for name, (text, level) in gauges.items():
        yield GaugeMetricFamily(name, text, value=level)


def _of_replicas(standing: Mapping[str, Standing]) -> Iterator[Metric]:
    for name, text, attribute in (
        ("meridian_gateway_ready_replicas", "Replicas of this cluster that are ready", "ready"),
        ("meridian_gateway_ejected_replicas", "Of those, avoided for now", "ejected"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=["deployment_id"])
        for deployment_id, each in standing.items():
            gauge.add_metric([deployment_id], getattr(each, attribute))
        yield gauge


def _of_peers(peers: Sequence[PeerView], counters: Counters) -> Iterator[Metric]:
    labels = ["cluster_id", "region"]
    state = GaugeMetricFamily(
        "meridian_gateway_region_state",
        "1 for the state in which it is seen from here",
        labels=[*labels, "state"],
    )
    for peer in peers:
        for each in DOMAIN_STATES:
            state.add_metric([peer.cluster_id, peer.region, each], float(peer.state == each))
    yield state
    for name, text, attribute in (
        ("meridian_gateway_region_silence_seconds", "Since it was heard here", "silent_s"),
        ("meridian_gateway_region_lost_to_observers", "Observers that have lost it", "lost_to"),
        ("meridian_gateway_region_observers", "Observers that watch it", "observers"),
        ("meridian_gateway_region_share", "Of the requests that would go there, how many may", "share"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=labels)
        for peer in peers:
            gauge.add_metric([peer.cluster_id, peer.region], getattr(peer, attribute))
        yield gauge
    changed = CounterMetricFamily(
        "meridian_gateway_region_changes", "Changes of state, by the new one", labels=["cluster_id", "state"]
    )
    for values, count in counters.region_changes.items():
        changed.add_metric(values, count)
    yield changed


def _of_traffic(traffic: TrafficBook) -> Iterator[Metric]:
    labels = ["deployment_id", "revision_id"]
    revisions = [(each, [each.deployment_id, each.revision_id]) for each in traffic.revisions.values()]
    for name, text, attribute in (
        ("meridian_gateway_in_flight_requests", "Requests being answered", "in_flight"),
        ("meridian_gateway_waiting_requests", "Requests that wait for a replica", "waiting"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=labels)
        for each, values in revisions:
            gauge.add_metric(values, getattr(each, attribute))
        yield gauge
    labels = [*labels, "priority"]
    totals = [
        ([*values, priority], total)
        for each, values in revisions
        for priority, total in each.totals().items()
    ]
    failed = CounterMetricFamily(
        "meridian_gateway_errors", "Requests that a fault of ours ended", labels=labels
    )
    for values, total in totals:
        failed.add_metric(values, total.errors)
    yield failed
    tokens = CounterMetricFamily("gen_ai_server_tokens", "Tokens", labels=[*labels, "type"])
    for values, total in totals:
        for kind, attribute in _TOKENS:
            tokens.add_metric([*values, kind], getattr(total, attribute))
    yield tokens
    for name, text, attribute in _HISTOGRAMS:
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, total in totals:
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
