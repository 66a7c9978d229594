"""Usage: what a request consumed, and the latency histograms of a window of requests.

A gateway appends records to its spool; the agent delivers them at least once; the control plane stores each once,
by (gateway_instance, sequence).
"""

from typing import Literal

import msgspec

RequestClass = Literal["interactive", "deferred", "shadow", "probe"]

#: A request id of more characters cannot be stored, so a gateway takes none such from a client.
REQUEST_ID_CHARS_MAX = 64

#: Upper bounds, in seconds, of the latency histograms' buckets; the last bucket is open. Fixed, so that
#: histograms of any gateways and windows can be added. Powers of 2^(1/2) from 1 ms to about 524 s keep a
#: quantile read from them within 19 % of the true one.
LATENCY_BUCKETS_S: tuple[float, ...] = tuple(round(0.001 * 2 ** (i / 2), 6) for i in range(39))


class UsageRecord(msgspec.Struct, frozen=True):
    """One finished request, or one response of a realtime session.

    origin:           the region whose gateway met the client; it alone counts the request
    audio_input_s:    of speech that was transcribed, where the engine told; 0 = none, or not told
    input_characters: of text that was spoken
    """

    gateway_instance: str
    sequence: int
    request_id: str
    finished_at: float  # seconds since 1970
    project_id: str
    api_key_id: str
    deployment_id: str
    revision_id: str
    revision: int
    replica_id: str | None
    pool_id: str | None
    served_cluster_id: str | None
    origin: str
    request_class: RequestClass
    route: str
    status: int
    outcome: str  # ok | client_gone | upstream_error | refused
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    queue_s: float
    ttft_s: float | None
    duration_s: float
    inter_token_latency_s_mean: float | None
    inter_token_latency_s_max: float | None
    audio_input_s: float = 0.0
    input_characters: int = 0


class LatencyHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by bucket of ``LATENCY_BUCKETS_S`` plus the open one, and the sum of the observations in seconds."""

    counts: tuple[int, ...]
    sum_s: float


class MetricWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment revision's traffic through one gateway in one window; stored once by its first three fields."""

    gateway_instance: str
    sequence: int
    started_at: float
    ended_at: float
    deployment_id: str
    revision_id: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    in_flight_max: int
    waiting_max: int
    ttft: LatencyHistogram
    inter_token_latency: LatencyHistogram
    duration: LatencyHistogram
