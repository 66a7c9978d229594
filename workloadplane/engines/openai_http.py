"""What all engines with OpenAI's HTTP interface and Prometheus metrics are asked in the same way."""

import asyncio
import math
import time
from collections.abc import Iterator

import httpx

from workloadplane.engines.base import EngineEndpoint, EngineMetrics, Readiness
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

SCRAPE_TIMEOUT_S = 1.0
_MAX_METRICS_BYTES = 8 * 1024 * 1024


async def probe_for_token(
    client: httpx.AsyncClient, endpoint: EngineEndpoint, *, timeout_s: float
) -> Readiness:
    """Ask ``/v1/completions`` for one token, within ``timeout_s`` altogether.

    Only the engine's own count of a generated token is believed: a health page may be fine where the first
    request kills the engine, and a token may have no visible text.
    """
    began_s = time.monotonic()

    def verdict(reason: str, message: str = "") -> Readiness:
        elapsed_s = time.monotonic() - began_s
        return Readiness(ready=reason == "ready", reason=reason, message=message, elapsed_s=elapsed_s)

    body = {"model": endpoint.served_model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    try:
        # The client's own time-outs count from byte to byte; an engine that drips would never reach them.
        async with asyncio.timeout(timeout_s):
            response = await client.post(
                f"{endpoint.base_url}/v1/completions",
                json=body,
                headers=_authorization(endpoint),
                timeout=timeout_s,
            )
    except httpx.ConnectError as error:
        return verdict("connection_refused", str(error))
    except (httpx.TimeoutException, TimeoutError):
        return verdict("timeout", f"no answer within {timeout_s:g} s")
    except httpx.HTTPError as error:
        return verdict("connection_lost", str(error))
    if response.status_code != httpx.codes.OK:
        return verdict("http_status", f"{response.status_code}: {response.text[:200]}")
    try:
        generated = int(response.json()["usage"]["completion_tokens"])
    except (ValueError, KeyError, TypeError):
        generated = 0
    if generated < 1:
        return verdict("no_token", "200 without a generated token")
    return verdict("ready")


async def scrape_vllm_metrics(client: httpx.AsyncClient, endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
    """Read ``/metrics`` under vLLM's names."""
    try:
        async with asyncio.timeout(SCRAPE_TIMEOUT_S):
            response = await client.get(
                f"{endpoint.base_url}/metrics", headers=_authorization(endpoint), timeout=SCRAPE_TIMEOUT_S
            )
    except (httpx.HTTPError, TimeoutError) as error:
        return _unreadable(endpoint, f"{type(error).__name__}: {error}")
    if response.status_code != httpx.codes.OK or len(response.content) > _MAX_METRICS_BYTES:
        return _unreadable(
            endpoint, f"status {response.status_code}, {counted(len(response.content), 'byte')}"
        )
    return read_vllm_metrics(response.text)


def read_vllm_metrics(page: str) -> EngineMetrics:
    """Sum each metric over its labels (data-parallel engines, models); what is absent or NaN stays
    ``None``.
    """
    sums: dict[str, float] = {}
    kv_capacity_tokens: int | None = None
    for name, labels, value in _samples(page):
        key = name
        if name == "vllm:cache_config_info":
            capacity = _cache_tokens(labels)
            if capacity is not None:
                kv_capacity_tokens = (kv_capacity_tokens or 0) + capacity
            continue
        if name == "vllm:request_success_total" and 'finished_reason="abort"' in labels:
            key = "aborted"
        sums[key] = sums.get(key, 0.0) + value

    def number(name: str) -> float | None:
        value = sums.get(name)
        return value if value is not None and math.isfinite(value) else None

    def count(name: str) -> int | None:
        value = number(name)
        return None if value is None else int(value)

    kv_cache_usage = number("vllm:kv_cache_usage_perc")
    return EngineMetrics(
        running=count("vllm:num_requests_running"),
        waiting=count("vllm:num_requests_waiting"),
        kv_cache_usage=None if kv_cache_usage is None else min(1.0, max(0.0, kv_cache_usage)),
        kv_capacity_tokens=kv_capacity_tokens,
        prompt_tokens_total=count("vllm:prompt_tokens_total"),
        generation_tokens_total=count("vllm:generation_tokens_total"),
        prefix_cache_queries_total=count("vllm:prefix_cache_queries_total"),
        prefix_cache_hits_total=count("vllm:prefix_cache_hits_total"),
        preemptions_total=count("vllm:num_preemptions_total"),
        requests_finished_total=count("vllm:request_success_total"),
        requests_aborted_total=count("aborted"),
        ttft_s_sum=number("vllm:time_to_first_token_seconds_sum"),
        ttft_count=count("vllm:time_to_first_token_seconds_count"),
        inter_token_latency_s_sum=number("vllm:inter_token_latency_seconds_sum"),
        inter_token_latency_count=count("vllm:inter_token_latency_seconds_count"),
    )


def _samples(page: str) -> Iterator[tuple[str, str, float]]:
    """Name, labels as written, value. Much quicker than a full parser, and only vLLM's own lines are looked at."""
    for line in page.splitlines():
        if not line.startswith("vllm:") or "_bucket{" in line:
            continue
        head, _, value = line.rpartition(" ")
        name, _, labels = head.partition("{")
        try:
            yield name, labels, float(value)
        except ValueError:
            continue


def _cache_tokens(labels: str) -> int | None:
    facts = dict(part.split("=", 1) for part in labels.rstrip("}").split(",") if "=" in part)
    try:
        return int(facts["block_size"].strip('"')) * int(facts["num_gpu_blocks"].strip('"'))
    except (KeyError, ValueError):
        return None


def _authorization(endpoint: EngineEndpoint) -> dict[str, str]:
    return {"authorization": f"Bearer {endpoint.engine_key}"} if endpoint.engine_key else {}


def _unreadable(endpoint: EngineEndpoint, value: str) -> Refusal:
    return Refusal(
        rule="engine_metrics_readable",
        subject=f"{endpoint.base_url}/metrics",
        value=value,
        remedy="the replica is starting, overloaded or gone; its next scrape tells",
    )
