"""One request's life, seen by its client and by the engine, on real sockets."""

import asyncio
import contextlib
import json
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    SSE_HEAD,
    Received,
    agent_state,
    chunk,
    gateway,
    json_answer,
    post,
    raw,
    run,
    sends,
    upstream,
)
from tests.support.tables import api_key, revision, route
from tests.support.waiting import eventually_async
from workloadplane.protocol.usage import REQUEST_ID_CHARS_MAX

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
ANSWER = json.dumps(
    {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
).encode()


def token(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_an_answer_passes_unchanged_and_is_accounted_for(tmp_path: Path) -> None:
    """Body and status reach the client as they were; the key does not reach the engine; usage is written."""

    async def scenario() -> None:
        body = b'{ "model":"chat", "temperature": 1.0e-3, "messages":[] }'
        headers = {
            **AUTHORIZED,
            "x-meridian-evil": "1",
            "cookie": "c=1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        }
        async with upstream(sends(json_answer(ANSWER, headers="x-meridian-inner: 1\r\n"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions?x=1", content=body, headers=headers
                )
                assert response.status_code == 200
                assert response.content == ANSWER
                assert response.headers["x-meridian-served-region"] == "eu-west"
                assert response.headers["x-meridian-replica"] == "replica-1"
                assert "x-meridian-inner" not in response.headers
                (seen,) = engine.received
                assert seen.line == "POST /v1/chat/completions HTTP/1.1"
                assert seen.body == body
                assert seen.headers["authorization"] == "Bearer engine-secret"
                assert (
                    seen.headers["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
                )
                assert not {"cookie", "x-meridian-evil"} & set(seen.headers)
                (record,) = await running.usage_of(1)
                assert (record.input_tokens, record.output_tokens) == (3, 2)
                assert (record.outcome, record.status, record.route) == ("ok", 200, "chat")
                assert (record.replica_id, record.revision_id) == ("replica-1", "chat-1")
                assert (record.origin, record.served_cluster_id) == ("eu-west", "c-eu")
                assert record.request_id == response.headers["x-request-id"]
                assert record.ttft_s is not None
                assert 0 < record.ttft_s <= record.duration_s

    run(scenario())


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_passes_byte_for_byte_with_usage_only_for_who_asked(tmp_path: Path, asked: bool) -> None:
    """The gateway asks for usage itself and takes it out again; every other byte is the engine's."""

    async def scenario() -> None:
        events = [token("Ä"), b": k\n", token("\r\n"), USAGE, DONE]
        async with upstream(sends(SSE_HEAD, *(chunk(event) for event in events), chunk(b""))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                options = {"stream_options": {"include_usage": True}} if asked else {}
                response = await client.post(
                    running.url + "/v1/chat/completions", json={**STREAM, **options}, headers=AUTHORIZED
                )
                wanted = events if asked else [event for event in events if event != USAGE]
                assert response.content == b"".join(wanted)
                assert json.loads(engine.received[0].body)["stream_options"] == {"include_usage": True}
                (record,) = await running.usage_of(1)
                assert (record.input_tokens, record.output_tokens) == (3, 2)

    run(scenario())


def test_events_are_passed_on_as_they_come(tmp_path: Path) -> None:
    """The first event is with the client before the engine has made the second."""

    async def scenario() -> None:
        first_seen = asyncio.Event()

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(token("a")))
            await first_seen.wait()
            writer.write(chunk(token("b")) + chunk(DONE) + chunk(b""))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(post(json.dumps(STREAM).encode()))
                await reader.readuntil(token("a"))
                first_seen.set()
                assert (await reader.read()).count(b"data:") == 2
                writer.close()

    run(scenario())


def test_a_client_that_leaves_cancels_upstream(tmp_path: Path) -> None:
    """The engine's connection closes when the client's does, streaming or still waiting; it is written down."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if b'"stream"' in received.body:
                writer.write(SSE_HEAD + chunk(token("a")))
            await reader.readexactly(1)

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for body in (STREAM, CHAT):
                    before = engine.hung_up
                    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    writer.write(post(json.dumps(body).encode()))
                    if body is STREAM:
                        await reader.readuntil(token("a"))
                    await eventually_async(lambda: len(engine.received) > before)  # noqa: B023
                    writer.close()
                    await eventually_async(lambda: engine.hung_up > before, what="the engine hears")  # noqa: B023
                records = await running.usage_of(2)
                assert [record.outcome for record in records] == ["client_gone"] * 2
                assert records[0].output_tokens == 1

    run(scenario())


def test_a_dead_replica_is_passed_over_and_avoided(tmp_path: Path) -> None:
    """A refused connection costs the client nothing, and the next requests do not try that replica."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine:
            async with upstream(sends()) as gone:
                dead_port = gone.port
            state = agent_state(tmp_path / "agent", dead_port, engine.port)
            async with (
                gateway(tmp_path / "gateway", state, ejection_s=30) as running,
                httpx.AsyncClient() as client,
            ):
                for _ in range(20):
                    response = await client.post(
                        running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                    )
                    assert response.status_code == 200
                    assert response.headers["x-meridian-replica"] == "replica-2"
                metrics = (await client.get(running.url + "/metrics")).text
                assert 'ejections_total{cause="unreachable",deployment_id="project-1-chat"} 1.0' in metrics

    run(scenario())


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        json_answer(b"busy", "503 Service Unavailable"),
        json_answer(b"its core died", "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"junk\r\n\r\n",
    ],
)
def test_one_retry_on_another_replica_before_the_first_byte(tmp_path: Path, bad: bytes) -> None:
    """A replica that resets, answers 503 or 500 or talks nonsense is replaced once, unseen by the client."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(bad)
            await writer.drain()
            writer.close()

        async with upstream(script) as broken, upstream(sends(json_answer(ANSWER))) as sound:
            state = agent_state(tmp_path / "agent", broken.port, sound.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                for _ in range(12):
                    response = await client.post(
                        running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                    )
                    assert (response.status_code, response.content) == (200, ANSWER)
                assert len(sound.received) == 12
                assert broken.received, "it was tried"

    run(scenario())


def test_a_request_is_sent_to_four_replicas_at_most(tmp_path: Path) -> None:
    """Where each of them resets, the client hears of it: a request that kills replicas does not kill all."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.close()

        async with contextlib.AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(script)) for _ in range(6)]
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                )
                assert response.status_code == 502
                assert response.json()["error"]["code"] == "upstream_unreachable"
                assert sorted(len(engine.received) for engine in engines) == [0, 0, 1, 1, 1, 1]

    run(scenario())


def test_an_error_that_two_replicas_make_of_a_request_is_its_answer(tmp_path: Path) -> None:
    """What the first says may be its own fault; what the next one says too is not asked of all the others."""

    async def scenario() -> None:
        failed = sends(json_answer(b'{"error":"no"}', "500 Internal Server Error"))
        async with upstream(failed) as one, upstream(failed) as two, upstream(failed) as three:
            engines = (one, two, three)
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                )
                assert (response.status_code, response.content) == (500, b'{"error":"no"}')
                assert sorted(len(engine.received) for engine in engines) == [0, 1, 1]

    run(scenario())


def test_a_sole_replicas_503_is_passed_on(tmp_path: Path) -> None:
    """Where no other replica can be asked, the engine's own answer is the honest one."""

    async def scenario() -> None:
        busy = json_answer(b'{"error":"busy"}', "503 Service Unavailable", "retry-after: 7\r\n")
        async with upstream(sends(busy)) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                )
                assert response.status_code == 503
                assert response.headers["retry-after"] == "7"
                assert response.content == b'{"error":"busy"}'

    run(scenario())


def test_a_pooled_connection_that_the_replica_closed_costs_nothing(tmp_path: Path) -> None:
    """A connection that the replica closes under a request is replaced by a fresh one to the same replica."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if engine.connections == 1 and len(engine.received) == 2:
                writer.close()
            else:
                writer.write(json_answer(ANSWER))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                for _ in range(3):
                    response = await client.post(
                        running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                    )
                    assert response.status_code == 200
                assert (engine.connections, len(engine.received)) == (2, 4)
                assert "ejections_total{" not in (await client.get(running.url + "/metrics")).text

    run(scenario())


def test_a_broken_stream_ends_with_an_error_event(tmp_path: Path) -> None:
    """Half an event is not passed on, an error event is, ``[DONE]`` is not, and the connection stays usable."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(token("a")) + chunk(token("b")[:10]))
            await writer.drain()
            writer.close()

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions",
                    json=STREAM,
                    headers={**AUTHORIZED, "x-meridian-resume": "off"},
                )
                first, error, rest = response.content.split(b"\n\n")
                assert first + b"\n\n" == token("a")
                assert rest == b""
                name, data = error.split(b"\n")
                assert name == b"event: error"
                assert json.loads(data[6:])["error"]["code"] == "stream_broken"
                assert (await client.get(running.url + "/livez")).status_code == 200
                (record,) = await running.usage_of(1)
                assert (record.outcome, record.output_tokens) == ("upstream_error", 1)

    run(scenario())


def test_a_stalled_stream_ends_with_an_error_event_and_comments_do_not_hide_it(tmp_path: Path) -> None:
    """Events count as life, comments do not."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(token("a")))
            while not reader.at_eof():
                writer.write(chunk(b": k\n"))
                await writer.drain()
                await asyncio.sleep(0.05)

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state, stream_idle_timeout_s=0.3) as running,
                httpx.AsyncClient() as client,
            ):
                response = await client.post(
                    running.url + "/v1/chat/completions", json=STREAM, headers=AUTHORIZED
                )
                assert response.content.startswith(token("a"))
                assert b'"code":"upstream_timeout"' in response.content.rpartition(b"event: error")[2]
                await eventually_async(lambda: engine.hung_up, what="the engine is cancelled")

    run(scenario())


def test_an_answer_that_breaks_off_is_not_made_to_look_whole(tmp_path: Path) -> None:
    """A large body that is no stream and ends early ends the client's connection early."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(json_answer(b'"' + 300_000 * b"x" + b'"')[:-5])
            await writer.drain()
            writer.close()

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED)

    run(scenario())


@pytest.mark.parametrize("delimited", [True, False])
def test_an_answer_that_breaks_off_is_asked_for_elsewhere(tmp_path: Path, delimited: bool) -> None:
    """Nothing of a small answer is told before all of it is there, so a second replica can give it."""

    async def scenario() -> None:
        whole = json_answer(ANSWER)
        if not delimited:
            whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + ANSWER
        asked = 0

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            nonlocal asked
            asked += 1
            writer.write(whole[:-5] if asked == 1 else whole)
            await writer.drain()
            writer.close()

        async with upstream(script) as one, upstream(script) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                )
                assert (response.status_code, response.content, asked) == (200, ANSWER, 2)

    run(scenario())


def test_an_engine_that_never_answers_is_a_504(tmp_path: Path) -> None:
    """The first byte has its own time limit."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read()

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state, first_byte_timeout_s=0.2) as running,
                httpx.AsyncClient() as client,
            ):
                response = await client.post(
                    running.url + "/v1/chat/completions", json=CHAT, headers=AUTHORIZED
                )
                assert response.status_code == 504
                assert response.json()["error"]["type"] == "server_error"

    run(scenario())


def test_a_slow_client_does_not_fill_the_gateway(tmp_path: Path) -> None:
    """What the client does not read, the engine can't send: memory at hand stays under a bound."""

    async def scenario() -> None:
        sent = 0

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            nonlocal sent
            writer.write(SSE_HEAD)
            event = chunk(token("x" * 10_000))
            for _ in range(10_000):
                writer.write(event)
                await writer.drain()
                sent += len(event)
            writer.write(chunk(DONE) + chunk(b""))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
                writer.write(post(json.dumps(STREAM).encode()))
                await reader.readline()
                last = -1
                while sent != last:
                    last = sent
                    await asyncio.sleep(0.3)
                assert sent < 32 * 1024 * 1024, "the kernel's buffers and ours, not the whole stream"
                total = 0
                while block := await reader.read(1024 * 1024):
                    total += len(block)
                assert total > 10_000 * 10_000
                writer.close()

    run(scenario())


def test_embeddings_of_many_inputs_are_counted(tmp_path: Path) -> None:
    """An answer of several megabytes passes unchanged, and the usage at its end is found."""

    async def scenario() -> None:
        data = [{"embedding": [0.123456789] * 1000, "index": index} for index in range(200)]
        answer = json.dumps({"data": data, "usage": {"prompt_tokens": 41, "total_tokens": 41}}).encode()
        assert len(answer) > 2 * 1024 * 1024
        async with upstream(sends(json_answer(answer))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                response = await client.post(
                    running.url + "/v1/embeddings", json={"model": "chat", "input": []}, headers=AUTHORIZED
                )
                assert response.content == answer
                (record,) = await running.usage_of(1)
                assert (record.route, record.input_tokens, record.output_tokens) == ("embeddings", 41, 0)

    run(scenario())


def test_who_may_not_is_told_in_openais_words(tmp_path: Path) -> None:
    """Unknown, expired and weak keys; other tenants' and absent models alike; routes that do not exist."""

    async def scenario() -> None:
        keys = [
            api_key(SECRET),
            api_key("sk-old", api_key_id="old", expires_at=1.0),
            api_key("sk-weak", api_key_id="weak", scopes=("read",)),
            api_key("sk-other", api_key_id="other", project_id="project-2"),
        ]
        async with upstream(sends(json_answer(ANSWER))) as engine:
            routes = [route(revisions=(revision(("c-eu",)),)), route("theirs", project_id="project-2")]
            state = agent_state(tmp_path / "agent", engine.port, keys=keys, routes=routes)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:

                async def asked(key: str, model: str, path: str = "/v1/chat/completions") -> tuple[int, str]:
                    response = await client.post(
                        running.url + path,
                        json={"model": model},
                        headers={"authorization": f"Bearer {key}"},
                    )
                    return response.status_code, response.json()["error"]["code"]

                assert await asked("x", "chat") == (401, "invalid_api_key")
                assert await asked("sk-wrong", "chat") == (401, "invalid_api_key")
                assert await asked("sk-old", "chat") == (401, "invalid_api_key")
                assert await asked("sk-weak", "chat") == (403, "insufficient_scope")
                assert await asked(SECRET, "absent") == (404, "model_not_found")
                assert await asked(SECRET, "theirs") == (404, "model_not_found")
                assert await asked("sk-other", "chat") == (404, "model_not_found")
                for path in ("/sleep", "/v1/load_lora_adapter", "/metrics", "/v1/models", "/server_info",
                             "/v1//chat/completions", "/v1/chat/completions/../../sleep"):  # fmt: skip
                    status, _ = await asked(SECRET, "chat", path)
                    assert status in {404, 405}, path
                models = await client.get(running.url + "/v1/models", headers=AUTHORIZED)
                assert [model["id"] for model in models.json()["data"]] == ["chat"]
                assert engine.received == []

    run(scenario())


def test_what_a_client_says_is_written_nowhere(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Neither prompt, answer nor keys are in the access log, the spool or the metrics."""

    async def scenario() -> None:
        answer = msgspec.json.encode({"choices": [{"message": {"content": "canary-answer"}}]})
        async with upstream(sends(json_answer(answer))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                body = {"model": "chat", "messages": [{"role": "user", "content": "canary-prompt"}]}
                await client.post(running.url + "/v1/chat/completions", json=body, headers=AUTHORIZED)
                await client.post(
                    running.url + "/v1/chat/completions",
                    json={**body, "model": "canary-model"},
                    headers=AUTHORIZED,
                )
                await running.usage_of(1)
                metrics = (await client.get(running.url + "/metrics")).content
                assert b"canary" not in metrics
        written = b"".join(path.read_bytes() for path in (tmp_path / "gateway").rglob("*.jsonl"))
        logged = capfdbinary.readouterr()
        assert b'"request_id"' in logged.out
        for kept in (written, logged.out, logged.err):
            assert b"canary" not in kept
            assert SECRET.encode() not in kept
            assert b"engine-secret" not in kept

    run(scenario())


def test_a_model_name_can_not_inject_headers(tmp_path: Path) -> None:
    """What a client chose is answered inside JSON, and request ids of its own are taken only if harmless."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                body = json.dumps({"model": "a\r\nset-cookie: x=1"}).encode()
                head = (await raw(running.port, post(body))).partition(b"\r\n\r\n")[0]
                assert head.startswith(b"HTTP/1.1 404")
                assert b"set-cookie" not in head
                chat = json.dumps(CHAT).encode()
                good = await raw(running.port, post(chat, headers="x-request-id: mine-1\r\n"))
                assert b"x-request-id: mine-1\r\n" in good
                bad = await raw(running.port, post(chat, headers="x-request-id: <script>\r\n"))
                assert b"script" not in bad
                await raw(running.port, post(chat, headers=f"x-request-id: {'x' * 65}\r\n"))
                records = await running.usage_of(3)
                assert all(len(record.request_id) <= REQUEST_ID_CHARS_MAX for record in records)

    run(scenario())
