"""A client's connection from outside: order, limits of time and size, and honest ends."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.support.gateway import (
    SECRET,
    Received,
    agent_state,
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
