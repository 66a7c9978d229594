"""Trace context goes on through the gateway, and sampled requests reach a collector as spans without a prompt."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    agent_state,
    chunk,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)
from tests.support.otlp import Collector, collecting
from tests.support.waiting import eventually_async
from tests.support.websocket import CLOSE, TEXT, Engine, connect, frame, handshake, next_frame
from workloadplane.gateway.collector import collector as collector_of
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
            told_to = collector_of(collector.url, {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%2Cb"})
            traced = {"otlp": told_to, "trace_ratio": 0.0}
            async with gateway(tmp_path / "gateway", state, tls=traced) as running:
                url = running.url + "/v1/chat/completions"
                sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
                await client.post(url, json=BODY, headers=AUTHORIZED | sampled)
                passed_over = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
                await client.post(url, json=BODY, headers=AUTHORIZED | passed_over)
                forged = {"traceparent": "00-nonsense", "tracestate": "a=b"}
                await client.post(url, json=BODY, headers=AUTHORIZED | forged)
                await eventually_async(collector.spans, what="a span")
        attempt, span = collector.spans()
        first, second, third = (received.headers for received in engine.received)
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == PARENT
        assert (attempt.trace_id, attempt.parent_span_id) == (span.trace_id, span.span_id)
        assert (span.kind, attempt.kind) == (span.SPAN_KIND_SERVER, span.SPAN_KIND_CLIENT)
        assert first["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
        assert collector.headers[0]["api-key"] == "a,b"
        assert first["tracestate"] == span.trace_state == "a=b"
        assert second["traceparent"] == passed_over["traceparent"]
        assert not {"traceparent", "tracestate"} & third.keys()
        told = {each.key: each.value for each in span.attributes}
        assert span.name == "chat chat"
        assert told["gen_ai.request.model"].string_value == "chat"
        assert told["gen_ai.usage.input_tokens"].int_value == 3
        assert told["gen_ai.usage.output_tokens"].int_value == 2
        assert told["meridian.replica_id"].string_value == "replica-1"
        tried = {each.key: each.value for each in attempt.attributes}
        assert tried["server.port"].int_value == engine.port
        assert (tried["meridian.outcome"].string_value, "error.type" in tried) == ("ok", False)
        assert span.start_time_unix_nano < span.end_time_unix_nano
        assert collector.paths == ["/v1/traces"]
        assert b"canary-prompt" not in b"".join(collector.bodies)
        assert b"sk-test" not in b"".join(collector.bodies)

    run(scenario())


def test_each_attempt_is_a_span_with_its_first_token(tmp_path: Path, collector: Collector) -> None:
    """The one that failed says how, the one that answered when its first token came; both hang below the request's."""

    async def breaks(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scenario() -> None:
        events = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
        stream = SSE_HEAD + chunk(events) + b"0\r\n\r\n"
        async with upstream(breaks) as bad, upstream(sends(stream)) as good:
            state = agent_state(tmp_path / "agent", bad.port, good.port)
            traced = {"otlp": collector_of(collector.url, {}), "trace_ratio": 1.0}
            async with (
                gateway(tmp_path / "gateway", state, tls=traced) as running,
                httpx.AsyncClient() as client,
            ):
                url = running.url + "/v1/chat/completions"
                retried = AUTHORIZED | {"idempotency-key": "k"}
                for _ in range(20):
                    answer = await client.post(url, json={**BODY, "stream": True}, headers=retried)
                    assert answer.status_code == 200
                    if bad.received:
                        break
                assert bad.received
        spans = collector.spans()
        failed = next(each for each in spans if _told(each).get("meridian.outcome") == "reset")
        of_it = [each for each in spans if each.trace_id == failed.trace_id]
        (request,) = (each for each in of_it if not each.parent_span_id)
        assert {each.parent_span_id for each in of_it if each is not request} == {request.span_id}
        answered = next(each for each in of_it if _told(each).get("server.port") == good.port)
        assert failed.status.code == failed.status.STATUS_CODE_ERROR
        assert (_told(failed)["error.type"], list(failed.events)) == ("reset", [])
        (first,) = answered.events
        assert first.name == "meridian.first_token"
        assert answered.start_time_unix_nano <= first.time_unix_nano <= answered.end_time_unix_nano
        assert _told(request)["meridian.attempts"] == 2

    run(scenario())


def test_a_session_is_a_span_with_its_messages(tmp_path: Path, collector: Collector) -> None:
    """A WebSocket's span ends when it does; the engine is told it as its parent, and no frame's content is in it."""

    async def echo(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(TEXT, b"canary-answer", masked=False))
        await engine.gather(reader)

    async def scenario() -> None:
        async with upstream(Engine(echo).script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            traced = {"otlp": collector_of(collector.url, {}), "trace_ratio": 1.0}
            async with gateway(tmp_path / "gateway", state, tls=traced) as running:
                head, reader, writer = await connect(running.port, handshake())
                assert head.startswith(b"HTTP/1.1 101 ")
                await next_frame(reader)
                writer.write(frame(CLOSE, (1000).to_bytes(2, "big"), masked=True))
                writer.close()
                await eventually_async(collector.spans, what="a span")
            (received,) = server.received
        (span,) = collector.spans()
        assert received.headers["traceparent"].split("-")[1:3] == [span.trace_id.hex(), span.span_id.hex()]
        assert span.name == "realtime chat"
        told = _told(span)
        assert (told["meridian.replica_id"], told["meridian.messages_out"]) == ("replica-1", 1)
        assert b"canary" not in b"".join(collector.bodies)

    run(scenario())


def _told(span: Any) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_where_spans_go_is_said_by_argument_or_environment() -> None:
    """OpenTelemetry's names count, the one for spans before the general one, and what is no header ends the start."""
    general, own = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    keys, own_keys = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
    assert collector_of(None, {}).url is None
    assert collector_of("http://a/", {general: "http://b"}).url == "http://a/v1/traces"
    assert collector_of(None, {general: "http://b"}).url == "http://b/v1/traces"
    assert collector_of(None, {general: "http://b", own: "https://c/in"}).url == "https://c/in"
    both = {general: "http://b", keys: "a=1", own_keys: "Authorization=Basic%20x%3D%3D, b = 2,"}
    told = collector_of(None, both)
    assert told.headers == {"authorization": "Basic x==", "b": "2"}
    assert "Basic" not in repr(told)
    for wrong in ("secret", "=secret", "a b=secret", "a=secret%0D%0Ay: z"):
        with pytest.raises(ValueError, match="name=value") as caught:
            collector_of("http://a", {keys: wrong})
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="no http"):
        collector_of(None, {general: "grpc://b"})


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
