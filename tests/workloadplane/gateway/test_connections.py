"""A client's connection from outside: order, limits of time and size, and honest ends."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.support.gateway import (
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
from tests.support.waiting import eventually_async

CHAT = json.dumps({"model": "chat", "messages": []}).encode()
LIVE = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"


def status(answer: bytes) -> int:
    return int(answer[9:12])


def test_requests_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    """Pipelined requests, relayed and local ones mixed, get their answers one by one in order."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(json_answer(received.body[-1:]))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                ahead = b"".join(post(CHAT + b" " * 1, close=False) + LIVE for _ in range(5))
                got = await raw(running.port, ahead + post(CHAT))
                assert got.count(b"HTTP/1.1 200 OK") == 11
                assert got.count(b'{"status":"ok"}') == 5
                kinds = [part[-1:] for part in got.split(b"HTTP/1.1 200 OK")[1:]]
                assert kinds == [b" ", b"}"] * 5 + [b"}"]

    run(scenario())


def test_a_body_comes_in_any_framing(tmp_path: Path) -> None:
    """Chunked, after ``100 Continue``, byte by byte: the engine sees the same body with its length."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                head = (
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
                    f"authorization: Bearer {SECRET}\r\n"
                ).encode()
                chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in CHAT) + b"0\r\n\r\n"
                assert (
                    status(await raw(running.port, head + b"transfer-encoding: chunked\r\n\r\n", chunks))
                    == 200
                )
                dribble = [bytes([byte]) for byte in post(CHAT)]
                assert status(await raw(running.port, *dribble)) == 200

                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(CHAT))
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(CHAT)
                assert status(await reader.read()) == 200
                writer.close()
                assert [each.body for each in engine.received] == [CHAT] * 3

    run(scenario())


def test_continue_is_said_when_its_turn_has_come(tmp_path: Path) -> None:
    """A request sent ahead that waits for ``100 Continue`` gets it after the answers before it, and once."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                waits = post(CHAT, headers="expect: 100-continue\r\n")
                writer.write(post(CHAT, close=False) + waits.removesuffix(CHAT))
                first = await reader.readuntil(b"{}")
                assert status(first) == 200
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(CHAT)
                second = await reader.read()
                assert status(second) == 200
                assert second.count(b"HTTP/1.1") == 1
                writer.close()

    run(scenario())


def test_a_client_that_only_listens_is_answered(tmp_path: Path) -> None:
    """Half-closed after one, or several, requests: all are answered in order, then the connection closes."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await asyncio.sleep(0.7)  # longer than a sweep
            if b'"stream"' in received.body:
                writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
                await asyncio.sleep(0.2)
                writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
            else:
                writer.write(json_answer(b'{"ok":1}'))

        def final(answer: bytes) -> list[bytes]:
            return answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"HTTP/1.1 ")[1:]

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                (answer,) = final(await raw(running.port, post(CHAT, close=False), half_close=True))
                assert answer.startswith(b"200 OK")
                assert b"connection: close\r\n" in answer
                assert answer.endswith(b'{"ok":1}')
                stream = b'{"model":"chat","stream":true}'
                one, two, three = final(
                    await raw(running.port, post(stream, close=False) + LIVE + LIVE, half_close=True)
                )
                assert one.replace(b"4\r\n: k\n\r\n", b"").endswith(
                    chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + chunk(b"")
                )
                assert two.endswith(b'{"status":"ok"}')
                assert three.endswith(b'{"status":"ok"}')
                # Half a request is none.
                assert await raw(running.port, post(CHAT)[:-1], half_close=True) == b""
                assert final(await raw(running.port, LIVE + post(CHAT)[:-1], half_close=True))[0].startswith(
                    b"200"
                )
                assert len(engine.received) == 2

    run(scenario())


def test_one_that_has_gone_is_told_from_one_that_listens(tmp_path: Path) -> None:
    """A whole close cancels the engine's work at once, before any of its answer has come."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.readexactly(1)

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for head in (post(CHAT), post(CHAT).replace(b"HTTP/1.1", b"HTTP/1.0")):
                    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    writer.write(head)
                    await eventually_async(lambda: len(engine.received) > engine.hung_up)
                    writer.close()
                    await eventually_async(
                        lambda: engine.hung_up == len(engine.received), what="the engine is cancelled"
                    )
                assert {record.outcome for record in await running.usage_of(2)} == {"client_gone"}

    run(scenario())


def test_head_is_answered_without_a_body(tmp_path: Path) -> None:
    """HEAD of what is answered here tells its length and no more; of what is relayed, that POST is meant."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", 1)
        async with gateway(tmp_path / "gateway", state) as running:
            head = LIVE.replace(b"GET", b"HEAD")
            got = await raw(
                running.port, head + head + LIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
            )
            first, second, third = got.split(b"HTTP/1.1 ")[1:]
            assert first == second
            assert first.startswith(b"200 OK")
            assert first.endswith(b"content-length: 15\r\n\r\n")
            assert third.endswith(b'{"status":"ok"}')
            async with httpx.AsyncClient(base_url=running.url) as client:
                refused = await client.head("/v1/chat/completions")
                assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
                assert (await client.delete("/livez")).headers["allow"] == "GET, HEAD"
                assert (await client.put("/livez")).headers["allow"] == "GET, HEAD, POST, DELETE"

    run(scenario())


def test_nothing_that_a_client_says_becomes_a_header(tmp_path: Path) -> None:
    """A model's name, a path, a request id: line ends in them reach neither the answer's head nor the engine's."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                evil = "x\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK\r\n"
                model = json.dumps({"model": evil, "user": evil}).encode()
                sent = [
                    post(model),
                    post(b'{"model": 1, "' + evil.encode() + b'": 1}'),
                    b"GET /v1/models/x%0d%0ax-evil:1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
                    b"authorization: Bearer " + SECRET.encode() + b"\r\n\r\n",
                    post(CHAT, path="/x%0d%0ax-evil:%201"),
                    post(CHAT, headers="x-request-id: a\tx-evil: 1\r\n"),
                    post(CHAT, headers="x-request-id: " + "a" * 1000 + "\r\n"),
                    post(CHAT, headers="traceparent: a\tb\xff\r\n".encode("latin-1").decode("latin-1")),
                ]
                for each in sent:
                    answer = await raw(running.port, each)
                    head, _, rest = answer.partition(b"\r\n\r\n")
                    assert b"x-evil" not in head
                    assert b"a" * 1000 not in head
                    assert b"\r\n\r\n" not in rest
                    assert answer.startswith(b"HTTP/1.1 ")
                assert all("x-evil" not in each.headers for each in engine.received)
                assert all(len(each.headers["x-request-id"]) < 100 for each in engine.received)

    run(scenario())


def test_a_body_nobody_wants_is_not_awaited(tmp_path: Path) -> None:
    """A wrong key or route is answered before a large body has come; a small body keeps the connection."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                large = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 30000000\r\n\r\n"
                assert status(await raw(running.port, large)) == 401
                waits = (
                    b"POST /sleep HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
                )
                answer = await raw(running.port, waits)
                assert status(answer) == 404
                assert b"connection: close" in answer
                small = b"POST /sleep HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(small)
                await asyncio.sleep(0)
                writer.write(b"12345" + LIVE)
                got = await reader.readuntil(b'{"status":"ok"}')
                assert got.startswith(b"HTTP/1.1 404")
                writer.close()

    run(scenario())


def test_slow_senders_are_cut_off(tmp_path: Path) -> None:
    """Headers and bodies have their time; silence between requests has its own and ends without a word."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", 1)
        async with gateway(
            tmp_path / "gateway", state, header_timeout_s=0.3, body_timeout_s=0.3, keep_alive_timeout_s=0.3
        ) as running:
            for sent in (b"GET /livez HTTP/1.1\r\nhost", post(CHAT)[:-3]):
                answer = await raw(running.port, sent)
                assert status(answer) == 408
                assert b'"code":"request_timeout"' in answer
            assert await raw(running.port) == b""
            assert (await raw(running.port, LIVE)).endswith(b'{"status":"ok"}')

    run(scenario())


def test_what_was_sent_ahead_has_its_time_too(tmp_path: Path) -> None:
    """Half a head, or half a body, behind a whole request is not given the time of an idle connection."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(
                tmp_path / "gateway", state, header_timeout_s=0.3, body_timeout_s=0.3, keep_alive_timeout_s=60
            ) as running:
                for begun in (b"GET /livez HTTP/1.1\r\nhost", post(CHAT)[:-3]):
                    answer = await raw(running.port, post(CHAT, close=False) + begun)
                    first, second = answer.split(b"HTTP/1.1 ")[1:]
                    assert (first[:3], second[:3]) == (b"200", b"408")

    run(scenario())


def test_a_client_that_drips_headers_is_cut_off_too(tmp_path: Path) -> None:
    """A byte now and then does not renew the time for a request's headers."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", 1)
        async with gateway(tmp_path / "gateway", state, header_timeout_s=0.5) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            answer = asyncio.create_task(reader.read())
            for byte in LIVE[:-2] * 10:
                if answer.done():
                    break
                writer.write(bytes([byte]) if byte not in b"\r\n" else b"")
                await asyncio.sleep(0.05)
            assert status(await answer) == 408
            writer.close()

    run(scenario())


def test_bounds_on_connections_and_bodies_at_hand(tmp_path: Path) -> None:
    """Past its bounds the gateway says 503 with Retry-After at once instead of growing."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await release.wait()
            writer.write(json_answer(b"{}"))

        release = asyncio.Event()
        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(
                tmp_path / "gateway", state, connections_max=3, body_bytes_total_max=1500
            ) as running:
                big = post(CHAT + b" " * 1000)
                first = asyncio.create_task(raw(running.port, big))
                await eventually_async(lambda: engine.received)
                second = await raw(running.port, big)
                assert status(second) == 503
                assert b"retry-after: 2\r\n" in second
                others = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]

                async def refused() -> bool:
                    return b'"code":"too_many_connections"' in await raw(running.port, LIVE)

                await eventually_async(refused, what="one connection too many is refused")
                release.set()
                assert status(await first) == 200
                for _, writer in others:
                    writer.close()

                async def served() -> bool:
                    return status(await raw(running.port, big)) == 200

                await eventually_async(served, what="what was at hand is let go")

    run(scenario())


def test_a_body_that_comes_in_parts_counts_once(tmp_path: Path) -> None:
    """However many such come one after the other, nothing stays counted as at hand."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state, body_bytes_total_max=1500) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                whole = post(CHAT + b" " * 1000, close=False)
                gateway_state = running.process._gateway
                for _ in range(4):
                    writer.write(whole[:-100])
                    await eventually_async(lambda: gateway_state.body_bytes, what="a part has come")
                    writer.write(whole[-100:])
                    assert status(await reader.readuntil(b"{}")) == 200
                    assert gateway_state.body_bytes == 0
                writer.close()

    run(scenario())


def test_a_client_that_never_reads_is_dropped(tmp_path: Path) -> None:
    """Back-pressure has an end: a stream left unread for too long is cancelled at both sides."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state, client_stall_timeout_s=0.5) as running:
                _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
                writer.write(post(CHAT))
                await eventually_async(lambda: engine.hung_up, what="the engine is cancelled")
                (record,) = await running.usage_of(1)
                assert record.outcome == "client_gone"
                writer.close()

    run(scenario())


def test_ordinary_clients_keep_their_connection(tmp_path: Path) -> None:
    """Errors with a readable end do not cost the client its connection."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                limits = httpx.Limits(max_connections=1)
                async with httpx.AsyncClient(base_url=running.url, limits=limits) as client:
                    key = {"authorization": f"Bearer {SECRET}"}
                    url = "/v1/chat/completions"
                    assert (await client.post(url, json={"model": "chat"}, headers=key)).status_code == 200
                    assert (await client.post(url, json={"model": "x"}, headers=key)).status_code == 404
                    assert (await client.post(url, json={"model": "chat"})).status_code == 401
                    assert (await client.post(url, content=b"{", headers=key)).status_code == 400
                    assert (await client.get("/livez")).status_code == 200
                    metrics = (await client.get("/metrics")).text
                    assert "meridian_gateway_connections 1.0" in metrics
                assert engine.connections == 1

    run(scenario())
