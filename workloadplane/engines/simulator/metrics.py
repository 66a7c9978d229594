"""The engine's metrics, under vLLM's names and in Prometheus' text format.

Written out by hand rather than with prometheus_client: that would cost each of a hundred processes some megabytes.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Iterable

from workloadplane.engines.simulator.batching import ContinuousBatch

_SECONDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
_LONG_SECONDS = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
)
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)


class Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """The text format, without its TYPE line."""
        below = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{le="{bound}",{labels}}} {float(below)}'
        yield f"{name}_count{{{labels}}} {float(below)}"
        yield f"{name}_sum{{{labels}}} {self.total}"


class EngineMetrics:
    """What the batch cannot count by itself: requests and their times."""

    def __init__(self, served_model: str) -> None:
        self._labels = f'engine="0",model_name="{_escaped(served_model)}"'
        self._started_at = time.time()
        self.adapter_loads = 0
        self.finished = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        self.ttft_s = Histogram(_SECONDS)
        self.inter_token_latency_s = Histogram(_SECONDS)
        self.e2e_s = Histogram(_LONG_SECONDS)
        self.queue_s = Histogram(_LONG_SECONDS)
        self.prompt_tokens = Histogram(_TOKENS)
        self.generation_tokens = Histogram(_TOKENS)

    def render(self, batch: ContinuousBatch) -> bytes:
        """The whole page."""
        counters, model, labels = batch.counters, batch.model, self._labels
        lines: list[str] = []
        for name, kind, value in (
            ("vllm:num_requests_running", "gauge", batch.running),
            ("vllm:num_requests_waiting", "gauge", batch.waiting),
            ("vllm:kv_cache_usage_perc", "gauge", batch.kv_cache_usage),
            ("vllm:prompt_tokens_total", "counter", counters.prompt_tokens),
            ("vllm:prompt_tokens_cached_total", "counter", counters.prompt_tokens_cached),
            ("vllm:generation_tokens_total", "counter", counters.generation_tokens),
            ("vllm:prefix_cache_queries_total", "counter", counters.prefix_cache_queries),
            ("vllm:prefix_cache_hits_total", "counter", counters.prefix_cache_hits),
            ("vllm:num_preemptions_total", "counter", counters.preemptions),
            ("simulator:adapter_loads_total", "counter", self.adapter_loads),
        ):
            lines += (f"# TYPE {name} {kind}", f"{name}{{{labels}}} {float(value)}")
        blocks = max(1, model.kv_capacity_tokens // model.block_tokens)
        lines.append("# TYPE vllm:cache_config_info gauge")
        lines.append(
            f'vllm:cache_config_info{{block_size="{model.block_tokens}",enable_prefix_caching="True",'
            f'engine="0",num_gpu_blocks="{blocks}"}} 1.0'
        )
        lines.append("# TYPE vllm:request_success_total counter")
        lines += (
            f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {float(count)}'
            for reason, count in self.finished.items()
        )
        for name, histogram in (
            ("vllm:time_to_first_token_seconds", self.ttft_s),
            ("vllm:inter_token_latency_seconds", self.inter_token_latency_s),
            ("vllm:e2e_request_latency_seconds", self.e2e_s),
            ("vllm:request_queue_time_seconds", self.queue_s),
            ("vllm:request_prompt_tokens", self.prompt_tokens),
            ("vllm:request_generation_tokens", self.generation_tokens),
        ):
            lines.append(f"# TYPE {name} histogram")
            lines += histogram.lines(name, labels)
        lines.append("# TYPE process_start_time_seconds gauge")
        lines.append(f"process_start_time_seconds {self._started_at}")
        lines.append("# TYPE process_cpu_seconds_total counter")
        lines.append(f"process_cpu_seconds_total {sum(os.times()[:2])}")
        return ("\n".join(lines) + "\n").encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
