"""What clients say and the keys they say it with are kept nowhere, and the log tells all the rest."""

import asyncio
import json
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import (
    SSE_HEAD,
    Received,
    agent_state,
    chunk,
    gateway,
    json_answer,
    run,
    upstream,
)
from tests.support.otlp import collecting
from tests.support.tables import api_key, endpoint, revision, route
from tests.support.waiting import eventually_async
from workloadplane.gateway.collector import Collector
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

CANARY, KEY = "canary-5b1f", "sk-canary-9d27"
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'


async def _engine(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Repeats the canary; of two streams the first breaks in the middle."""
    said = CANARY.encode()
    if b'"stream"' not in received.body:
        usage = b'"usage":{"prompt_tokens":3,"completion_tokens":2}'
        writer.write(json_answer(b'{"choices":[{"message":{"content":"%s"}}],%s}' % (said, usage)))
    elif b"continue_final_message" in received.body:
        writer.write(SSE_HEAD + chunk(EVENT % said) + chunk(b"data: [DONE]\n\n") + chunk(b""))
    else:
        writer.write(SSE_HEAD + chunk(EVENT % said))
        await writer.drain()
        writer.close()


def test_a_canary_is_kept_nowhere(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Prompt, answer and keys are in no access log, metric, usage record, explanation, span or file; the log has
    the request's class, adapter, known share, trace and whether it was resumed.
    """

    async def scenario() -> None:
        made = route(adapters=("law",), revisions=(revision(("c-eu",)),))
        async with upstream(_engine) as one, upstream(_engine) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port, routes=[made], keys=[api_key(KEY)])
            replicas = EndpointSet(
                endpoint_generation=1,
                endpoints=tuple(
                    endpoint(engine.port, replica_id=f"r{number}", adapters=("law",), adapter_slots=1)
                    for number, engine in enumerate((one, two))
                ),
            )
            write_state(state.directory / "endpoints.json", msgspec.json.encode(replicas))
            traced = {"otlp": Collector(collector.url), "trace_ratio": 1.0}
            async with (
                gateway(tmp_path / "gateway", state, tls=traced) as running,
                httpx.AsyncClient(
                    base_url=running.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20
                ) as client,
            ):
                chat = "/v1/chat/completions"
                asks = {"model": "chat", "messages": [{"role": "user", "content": f"{CANARY} " * 500}]}
                low = {"x-meridian-priority": "low"}
                first = await client.post(chat, json=asks, headers=low)
                again = await client.post(chat, json=asks, headers=low)
                stream = await client.post(chat, json={**asks, "stream": True})
                unknown = await client.post(chat, json={**asks, "model": CANARY})
                broken = await client.post(chat, content=b'{"model":"chat","messages":' + CANARY.encode())
                foreign = await client.post(chat, json=asks, headers={"authorization": f"Bearer {CANARY}"})
                away = await client.post(chat, json={**asks, "model": "chat:law"})
                answers = (first, again, stream, away, unknown, broken, foreign)
                assert [each.status_code for each in answers] == [200, 200, 200, 200, 404, 400, 401]
                assert b": resumed" in stream.content
                pages = [(await client.get("/metrics")).content]
                for answer in answers[:4]:
                    page = await client.get(f"/debug/explain/{answer.headers['x-request-id']}")
                    assert page.status_code == 200
                    pages.append(page.content)
                await running.usage_of(4)
                await eventually_async(lambda: len(collector.spans()) >= 4, what="spans")
        logged = capfdbinary.readouterr()
        files = [path.read_bytes() for path in (tmp_path / "gateway").rglob("*") if path.is_file()]
        assert any(b"input_tokens" in each for each in files)
        kept = [*pages, *collector.bodies, *files, logged.out, logged.err]
        for secret in (CANARY, KEY, "engine-secret"):
            assert not [each for each in kept if secret.encode() in each]

        lines = [json.loads(line) for line in logged.out.splitlines() if line.startswith(b'{"time"')]
        by_id = {line["request_id"]: line for line in lines}
        low_line = by_id[again.headers["x-request-id"]]
        assert low_line["priority"] == "low"
        assert low_line["known_share"] > 0.9
        assert len(low_line["trace_id"]) == 32
        assert by_id[stream.headers["x-request-id"]]["resumed"] is True
        assert by_id[away.headers["x-request-id"]]["adapter"] == "law"

    with collecting() as collector:
        run(scenario())
