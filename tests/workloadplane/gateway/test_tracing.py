"""Trace context goes on through the gateway, and sampled requests reach a collector as spans without a prompt."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.otlp import Collector, collecting
from tests.support.waiting import eventually_async
from workloadplane.gateway.tracing import EndedSpan, Span, Tracer, parse_traceparent

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
BODY = {"model": "chat", "messages": [{"role": "user", "content": "canary-prompt"}]}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def test_a_sampled_request_is_a_span_between_client_and_engine(tmp_path: Path, collector: Collector) -> None:
    """The engine's parent is our span, ours is the client's; the collector gets facts and no word of the prompt."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, httpx.AsyncClient() as client:
            state = agent_state(tmp_path / "agent", engine.port)
            traced = {"otlp_endpoint": collector.url, "trace_ratio": 0.0}
            async with gateway(tmp_path / "gateway", state, tls=traced) as running:
                url = running.url + "/v1/chat/completions"
                sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
                await client.post(url, json=BODY, headers=AUTHORIZED | sampled)
                passed_over = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
                await client.post(url, json=BODY, headers=AUTHORIZED | passed_over)
                forged = {"traceparent": "00-nonsense", "tracestate": "a=b"}
                await client.post(url, json=BODY, headers=AUTHORIZED | forged)
                await eventually_async(collector.spans, what="a span")
        (span,) = collector.spans()
        first, second, third = (received.headers for received in engine.received)
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == PARENT
        assert first["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert first["tracestate"] == span.trace_state == "a=b"
        assert second["traceparent"] == passed_over["traceparent"]
        assert not {"traceparent", "tracestate"} & third.keys()
        told = {each.key: each.value for each in span.attributes}
        assert span.name == "chat chat"
        assert told["gen_ai.request.model"].string_value == "chat"
        assert told["gen_ai.usage.input_tokens"].int_value == 3
        assert told["gen_ai.usage.output_tokens"].int_value == 2
        assert told["server.address"].string_value == "replica-1"
        assert span.start_time_unix_nano < span.end_time_unix_nano
        assert collector.paths == ["/v1/traces"]
        assert b"canary-prompt" not in b"".join(collector.bodies)
        assert b"sk-test" not in b"".join(collector.bodies)

    run(scenario())


def test_a_collector_that_is_away_costs_spans_only() -> None:
    """What waits is bounded, what can't be sent is counted, and ``flush`` comes back at once."""

    async def scenario() -> None:
        tracer = Tracer("http://127.0.0.1:9", ratio=1.0, rng=Random(1), instance="i", spans_max=10)
        span = Span(TRACE, PARENT, "", "")
        for _ in range(15):
            tracer.end(EndedSpan(span, "chat", 1.0, 2.0, False, ()))
        assert tracer.lost_spans == 5
        tracer.flush()
        await asyncio.wait_for(tracer.close(5.0), 10)
        assert (tracer.lost_spans, tracer.sent_spans) == (15, 0)

    run(scenario())


@given(st.binary(max_size=60))
def test_what_is_no_trace_context_is_refused(value: bytes) -> None:
    """Anything may come in the header; only the standard's form is taken."""
    parent = parse_traceparent(value)
    assert parent is None or (len(parent.trace_id), len(parent.span_id)) == (32, 16)


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-02", False),
        (f"cc-{TRACE}-{PARENT}-01-more", True),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
    ],
)
def test_the_standards_cases(value: str, sampled: bool | None) -> None:
    """Versions to come are read as far as they are known; zeros, capitals and ``ff`` are not valid."""
    parent = parse_traceparent(value.encode())
    assert (None if parent is None else parent.sampled) is sampled
