"""Streams of Messages and Responses, whose events differ from chat's: passed on, counted, ended honestly."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import SECRET, SSE_HEAD, agent_state, chunk, gateway, run, sends, upstream

HEADERS = {"x-api-key": SECRET, "anthropic-version": "2023-06-01"}


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


MESSAGE = [
    event("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 0, "cache_read_input_tokens": 4}}),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("ping"),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "event: message_stop\n\n"}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "[DONE]"}),
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
    event("message_stop"),
]  # fmt: skip
RESPONSE = [
    event("response.created", sequence_number=0, response={"id": "resp_1", "usage": None}),
    event("response.output_text.delta", sequence_number=1, delta="event: response.completed"),
    event("response.output_text.delta", sequence_number=2, delta="b"),
    event(
        "response.completed",
        sequence_number=3,
        response={
            "id": "resp_1",
            "usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5},
        },
    ),
]  # fmt: skip
STREAMS = {"/v1/messages": MESSAGE, "/v1/responses": RESPONSE}


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_passes_and_a_truncated_one_ends_in_an_error_event(
    tmp_path: Path, path: str, whole: bool
) -> None:
    """Bytes are the engine's; without the API's own last event the stream ends in the API's own error."""

    async def scenario() -> None:
        events = STREAMS[path] if whole else STREAMS[path][:-1]
        async with upstream(sends(SSE_HEAD, *(chunk(each) for each in events), chunk(b""))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                body = {"model": "chat", "stream": True, "messages": [], "input": "x"}
                answer = await client.post(running.url + path, json=body, headers=HEADERS)
                assert answer.content.startswith(b"".join(events))
                rest = answer.content[len(b"".join(events)) :]
                (record,) = await running.usage_of(1)
                assert record.outcome == ("ok" if whole else "upstream_error")
                if whole:
                    assert rest == b""
                    assert (record.input_tokens, record.cached_tokens, record.output_tokens) == (7, 4, 5)
                    return
                told = json.loads(rest.removeprefix(b"event: error\ndata: "))
                assert told["type"] == "error"
                assert "lost in mid-stream" in told["error"]["message"]
                assert told.get("sequence_number") == (3 if path == "/v1/responses" else None)
                assert record.output_tokens == (5 if path == "/v1/messages" else 2)

    run(scenario())


def test_messages_are_authorised_and_relayed_in_anthropics_words(tmp_path: Path) -> None:
    """``x-api-key`` lets in and does not reach the engine, the version does; refusals have Anthropic's shape."""

    async def scenario() -> None:
        async with upstream(sends(SSE_HEAD, *(chunk(each) for each in MESSAGE), chunk(b""))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                url = running.url + "/v1/messages"
                answer = await client.post(url, json={"model": "chat"}, headers=HEADERS)
                assert answer.headers["request-id"] == answer.headers["x-request-id"]
                (seen,) = engine.received
                assert seen.headers["anthropic-version"] == "2023-06-01"
                assert seen.headers["authorization"] == "Bearer engine-secret"
                assert SECRET not in str(seen.headers)
                for headers, body, status, kind in (
                    ({"x-api-key": "wrong"}, b"{}", 401, "authentication_error"),
                    (HEADERS, b"{", 400, "invalid_request_error"),
                    (HEADERS, b'{"model":"absent"}', 404, "not_found_error"),
                ):
                    refused = await client.post(url, content=body, headers=headers)
                    assert (refused.status_code, refused.json()["type"]) == (status, "error")
                    assert refused.json()["error"]["type"] == kind
                    assert refused.headers["request-id"]

    run(scenario())
