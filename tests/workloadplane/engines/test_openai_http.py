"""What an engine is asked over HTTP, against simulators that misbehave and sockets that talk nonsense."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.simulators import simulator
from workloadplane.engines.base import EngineEndpoint, EngineMetrics, Readiness
from workloadplane.engines.openai_http import probe_for_token, read_vllm_metrics, scrape_vllm_metrics
from workloadplane.protocol.refusal import Refusal


def probe(endpoint: EngineEndpoint, *, timeout_s: float = 5.0) -> Readiness:
    async def ask() -> Readiness:
        async with httpx.AsyncClient() as client:
            return await probe_for_token(client, endpoint, timeout_s=timeout_s)

    return asyncio.run(ask())


def scrape(endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
    async def ask() -> EngineMetrics | Refusal:
        async with httpx.AsyncClient() as client:
            return await scrape_vllm_metrics(client, endpoint)

    return asyncio.run(ask())


def ask_a_server_that_says(answer: bytes, *, pause_s: float = 0.0, timeout_s: float = 5.0) -> Readiness:
    """Probe a socket that gives these bytes, one each ``pause_s``, and closes."""

    async def ask() -> Readiness:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            for byte in answer if pause_s else ():
                writer.write(bytes([byte]))
                await asyncio.sleep(pause_s)
                if writer.is_closing() or reader.at_eof():
                    break
            writer.write(b"" if pause_s else answer)
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        endpoint = EngineEndpoint(host="127.0.0.1", port=port, served_model="chat", engine_key="k")
        async with server, httpx.AsyncClient() as client:
            return await probe_for_token(client, endpoint, timeout_s=timeout_s)

    return asyncio.run(ask())


def test_a_generated_token_is_readiness() -> None:
    """A working engine is ready, and the probe's token is in its counters."""
    with simulator("--decode-step-s=0.001") as running:
        assert probe(running.endpoint).ready
        metrics = scrape(running.endpoint)
    assert isinstance(metrics, EngineMetrics)
    assert metrics.generation_tokens_total == 1
    assert (metrics.running, metrics.waiting, metrics.kv_cache_usage) == (0, 0, 0.0)
    assert metrics.kv_capacity_tokens == 131072
    assert metrics.ttft_count == 1


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ('{"unavailable_share": 1.0}', "http_status"),
        ('{"hang": true}', "timeout"),
        ('{"crash_after_tokens": 1, "slow_factor": 1.0, "cut_stream_after_tokens": null}', "connection_lost"),
    ],
)
def test_an_engine_that_gives_no_token_is_not_ready(faults: str, reason: str) -> None:
    """Whatever its health page says; the reason tells what was seen."""
    with simulator("--decode-step-s=0.02", f"--faults={faults}") as running:
        body: dict[str, Any] = {"model": "chat", "prompt": "Hi", "max_tokens": 2}
        if reason == "connection_lost":
            with pytest.raises(httpx.HTTPError):
                httpx.post(f"{running.url}/v1/completions", json=body, headers=running.headers)
            assert probe(running.endpoint).reason == "connection_refused"
        else:
            seen = probe(running.endpoint, timeout_s=0.3)
            assert (seen.ready, seen.reason) == (False, reason)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b"not json", b'{"usage": {"completion_tokens": 0}}', b'{"usage": null}']
)
def test_an_answer_without_a_token_is_not_readiness(body: bytes) -> None:
    """200 alone proves nothing."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert ask_a_server_that_says(head + body).reason == "no_token"


def test_a_connection_that_breaks_is_told_from_one_that_is_refused() -> None:
    """An engine that dies at its first request is there, and not ready."""
    assert ask_a_server_that_says(b"").reason == "connection_lost"
    assert (
        ask_a_server_that_says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").reason == "connection_lost"
    )


def test_the_time_limit_is_for_the_whole_probe() -> None:
    """An engine that drips bytes does not hold the probe longer than it was told."""
    seen = ask_a_server_that_says(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100, pause_s=0.1, timeout_s=0.5)
    assert seen.reason == "timeout"
    assert seen.elapsed_s < 8.0, "the whole answer takes ten seconds"


def test_what_the_engine_does_not_tell_is_none_and_never_zero() -> None:
    """Absent, NaN and unreadable values are unknown; shares are kept inside [0, 1]; labels are summed."""
    metrics = read_vllm_metrics(
        'vllm:num_requests_running{engine="0"} 2.0\n'
        'vllm:num_requests_running{engine="1"} 3.0\n'
        'vllm:num_requests_waiting{engine="0"} NaN\n'
        'vllm:kv_cache_usage_perc{engine="0"} 1.25\n'
        'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n'
        "vllm:prompt_tokens_total{} gibberish\n"
        'vllm:request_success_total{finished_reason="stop"} 5.0\n'
        'vllm:request_success_total{finished_reason="abort"} 2.0\n'
        "another_metric 7\n"
    )
    assert metrics == EngineMetrics(
        running=5, kv_cache_usage=1.0, requests_finished_total=5, requests_aborted_total=2
    )


def test_an_unreachable_metrics_page_is_a_refusal() -> None:
    """Missing metrics are no metrics of an idle engine."""
    with simulator() as running:
        endpoint = running.endpoint
    assert isinstance(scrape(endpoint), Refusal)
