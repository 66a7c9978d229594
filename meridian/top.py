"""What gateways do just now, from two readings of their ``/metrics``: rates, and quantiles of what lies between.

Pure: texts and times in, rows out. Quantiles are read from histograms' buckets, so they are as exact as those are
(within 19 %). A counter that fell means that its gateway began anew: what it shows then is what happened since.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isinf

from prometheus_client.parser import text_string_to_metric_families

_TTFT = "gen_ai_server_time_to_first_token_seconds"
_BETWEEN_TOKENS = "gen_ai_server_time_per_output_token_seconds"
_DURATION = "gen_ai_server_request_duration_seconds"
_TOKENS = "gen_ai_server_tokens_total"
_ERRORS = "meridian_gateway_errors_total"
_IN_FLIGHT = "meridian_gateway_in_flight_requests"
_WAITING = "meridian_gateway_waiting_requests"

#: (upper bound of a bucket, as seconds) -> observations up to it
Buckets = dict[float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """One gateway's metrics at one moment: (name, deployment id, kind or bucket) -> value, revisions added up.

    read_at_s: on the reader's monotonic clock
    """

    read_at_s: float
    values: Mapping[tuple[str, str, str], float]

    @classmethod
    def of(cls, text: str, read_at_s: float) -> "Reading":
        """Raises ValueError if the text is not in Prometheus' format."""
        values: dict[tuple[str, str, str], float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                deployment_id = sample.labels.get("deployment_id")
                if deployment_id:  # empty: of requests for none that exists
                    kind = sample.labels.get("le") or sample.labels.get("type") or ""
                    values[sample.name, deployment_id, kind] += sample.value
        return cls(read_at_s, dict(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One deployment at one gateway, between two readings; ``None`` where nothing was observed."""

    gateway: str
    deployment_id: str
    requests_per_s: float
    errors_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    cached_share: float | None
    ttft_s_p50: float | None
    ttft_s_p99: float | None
    inter_token_latency_s_p50: float | None
    inter_token_latency_s_p99: float | None
    in_flight: int
    waiting: int


def rows_between(gateway: str, before: Reading, after: Reading) -> list[Row]:
    """A row for every deployment that the later reading knows, in the order of their ids."""
    names = sorted({deployment_id for _, deployment_id, _ in after.values})
    span_s = max(after.read_at_s - before.read_at_s, 1e-9)
    return [_row(gateway, name, _Between(before.values, after.values, name), span_s) for name in names]


@dataclass(frozen=True, slots=True)
class _Between:
    """What was added for one deployment from one reading to the next."""

    before: Mapping[tuple[str, str, str], float]
    after: Mapping[tuple[str, str, str], float]
    deployment_id: str

    def now(self, name: str) -> int:
        return int(self.after.get((name, self.deployment_id, ""), 0.0))

    def added(self, name: str, kind: str = "") -> float:
        key = (name, self.deployment_id, kind)
        was, is_now = self.before.get(key, 0.0), self.after.get(key, 0.0)
        return is_now - was if is_now >= was else is_now

    def buckets(self, name: str) -> Buckets:
        bounds = [
            kind
            for each, owner, kind in self.after
            if each == f"{name}_bucket" and owner == self.deployment_id
        ]
        return {float(bound): self.added(f"{name}_bucket", bound) for bound in bounds}


def _row(gateway: str, deployment_id: str, between: _Between, span_s: float) -> Row:
    input_tokens = between.added(_TOKENS, "input")
    ttft, gaps = between.buckets(_TTFT), between.buckets(_BETWEEN_TOKENS)
    return Row(
        gateway=gateway,
        deployment_id=deployment_id,
        requests_per_s=between.added(f"{_DURATION}_count") / span_s,
        errors_per_s=between.added(_ERRORS) / span_s,
        input_tokens_per_s=input_tokens / span_s,
        output_tokens_per_s=between.added(_TOKENS, "output") / span_s,
        cached_share=between.added(_TOKENS, "cached") / input_tokens if input_tokens else None,
        ttft_s_p50=quantile(ttft, 0.5),
        ttft_s_p99=quantile(ttft, 0.99),
        inter_token_latency_s_p50=quantile(gaps, 0.5),
        inter_token_latency_s_p99=quantile(gaps, 0.99),
        in_flight=between.now(_IN_FLIGHT),
        waiting=between.now(_WAITING),
    )


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value, in seconds, that ``share`` of the observations do not exceed: linear inside its bucket.

    In the open bucket it is that bucket's lower bound. ``None`` without an observation.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = share * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            return lower if isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower if lower < inf else None


def by_load(rows: Iterable[Row]) -> list[Row]:
    """The busiest first."""
    return sorted(
        rows,
        key=lambda row: (-row.requests_per_s, -row.in_flight - row.waiting, row.gateway, row.deployment_id),
    )
