"""What engines may say that is odd, rude or broken, and what their client then gets."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    Received,
    Script,
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

CHAT = {"model": "chat", "messages": []}
BODY = json.dumps(CHAT).encode()
URL = "/v1/chat/completions"
OK = json_answer(b"{}")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"


async def ask(tmp_path: Path, script: Script, count: int = 1) -> tuple[list[httpx.Response], int]:
    """What a client that keeps its connection gets for ``count`` requests, and the engine's connections."""
    async with upstream(script) as engine:
        state = agent_state(tmp_path / "agent", engine.port)
        async with (
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, limits=httpx.Limits(max_connections=1)) as client,
        ):
            answers = [await client.post(URL, json=CHAT, headers=AUTHORIZED) for _ in range(count)]
        return answers, engine.connections


@pytest.mark.parametrize(
    ("status", "headers"),
    [(204, b""), (204, b"content-length: 5\r\n"), (304, b"content-length: 5\r\n"), (304, b"etag: x\r\n")],
)
def test_answers_without_content_stay_without(tmp_path: Path, status: int, headers: bytes) -> None:
    """204 and 304 pass without a length that promises a body, and both connections go on."""

    async def scenario() -> None:
        odd = b"HTTP/1.1 %d X\r\n%s\r\n" % (status, headers)
        answers, connections = await ask(tmp_path, sends(odd), count=3)
        for answer in answers:
            assert (answer.status_code, answer.content) == (status, b"")
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        assert connections == 1

    run(scenario())


def test_interim_answers_are_skipped(tmp_path: Path) -> None:
    """100, 102 and 103 from an engine, in pieces too, are no answer; the one after them is."""

    async def scenario() -> None:
        interim = (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n",
            b"\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
        )
        answers, connections = await ask(tmp_path, sends(*interim), count=2)
        assert [answer.content for answer in answers] == [b"{}", b"{}"]
        assert all("link" not in answer.headers for answer in answers)
        assert connections == 1

    run(scenario())


BROKEN = {
    "a switch of protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "both lengths": CHUNKED + b"content-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a signed length": b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
    "a bare line feed": b"HTTP/1.1 200 OK\nx: a\n\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "null in a header": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
    "carriage return in a header": b"HTTP/1.1 200 OK\r\nx: a\rx-evil: b\r\ncontent-length: 0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 300_000,
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    "more than one answer": OK + OK,
    "the first letter of another": OK + b"H",
    "a status that means nothing": b"HTTP/1.1 888 X\r\ncontent-length: 0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "two codings": CHUNKED + b"transfer-encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "a chunk that is none": CHUNKED + b"\r\nzz\r\n",
    "a chunk after one that is": CHUNKED + b"\r\n5\r\n12345\r\nnonsense",
    "a chunk length over all bounds": CHUNKED + b"\r\nffffffffffffffffff\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_answers_are_not_passed_on(tmp_path: Path, case: str) -> None:
    """What is not HTTP as we take it becomes a 502 of our own, and its connection is not used again."""

    async def scenario() -> None:
        (answer,), connections = await ask(tmp_path, sends(BROKEN[case]))
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_invalid"
        assert "x-evil" not in answer.headers
        assert connections == 2  # it was asked once more, on a new one

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345",
        CHUNKED + b"\r\n5\r\n12345\r\n",
        CHUNKED + b"\r\na\r\n12345",
    ],
)
def test_an_answer_that_ends_early_does_not_look_whole(tmp_path: Path, answer: bytes) -> None:
    """In whichever framing it breaks off: nothing of it has been told, so the client gets an error instead."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(answer)
            await writer.drain()
            writer.close()

        (response,), _ = await ask(tmp_path, script)
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_unreachable"

    run(scenario())


def test_a_connection_that_the_engine_closes_is_not_used_again(tmp_path: Path) -> None:
    """``Connection: close``, HTTP/1.0 and an answer without a length each end their connection; the client's stays."""

    async def scenario() -> None:
        for number, head in enumerate(
            (
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n",
                b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
                b"HTTP/1.0 200 OK\r\n\r\n",
            )
        ):
            ends = head + b"12345"

            async def script(
                received: Received,
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                ends: bytes = ends,
            ) -> None:
                writer.write(ends)
                await writer.drain()
                writer.close()

            answers, connections = await ask(tmp_path / str(number), script, count=3)
            assert [answer.content for answer in answers] == [b"12345"] * 3
            assert all(answer.headers.get("connection") != "close" for answer in answers)
            assert connections == 3

    run(scenario())


def test_headers_for_one_hop_end_here(tmp_path: Path) -> None:
    """What ``Connection`` names, hop-by-hop headers, cookies and trailers do not reach the client."""

    async def scenario() -> None:
        answer = (
            CHUNKED
            + b"connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nset-cookie: a=b\r\n"
            b"trailer: x-late\r\nvary: a\r\n\r\n2;ext=1\r\n{}\r\n0\r\nx-late: 1\r\n\r\n"
        )
        (got,), _ = await ask(tmp_path, sends(answer))
        assert got.content == b"{}"
        assert got.headers["vary"] == "a"
        assert not {"x-hop", "keep-alive", "set-cookie", "trailer", "x-late"} & set(got.headers)

    run(scenario())


def test_a_kept_connection_is_left_when_the_engine_would_leave_it(tmp_path: Path) -> None:
    """``Keep-Alive: timeout`` is obeyed: with a second or less of it, the connection is not used again."""

    async def scenario() -> None:
        for timeout_s, connections in ((1, 3), (60, 1)):
            answer = json_answer(b"{}", headers=f"keep-alive: timeout={timeout_s}, max=100\r\n")
            directory = tmp_path / str(timeout_s)
            assert (await ask(directory, sends(answer), count=3))[1] == connections

    run(scenario())


def test_unused_connections_are_closed_in_time(tmp_path: Path) -> None:
    """An idle connection to an engine is closed after its time, and the next request gets a new one."""

    async def scenario() -> None:
        async with upstream(sends(OK)) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state, upstream_idle_timeout_s=0.2) as running:
                assert (await raw(running.port, post(BODY))).startswith(b"HTTP/1.1 200")
                assert (await raw(running.port, post(BODY))).startswith(b"HTTP/1.1 200")
                assert engine.connections == 1
                await eventually_async(lambda: engine.hung_up == 1, what="the idle connection is closed")
                assert (await raw(running.port, post(BODY))).startswith(b"HTTP/1.1 200")
                assert engine.connections == 2

    run(scenario())


def test_bytes_that_nobody_asked_for_spoil_a_connection(tmp_path: Path) -> None:
    """An answer sent ahead of its request is never given to the next client."""

    async def scenario() -> None:
        sent: list[asyncio.StreamWriter] = []

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            sent.append(writer)
            writer.write(OK)

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                await raw(running.port, post(BODY))
                sent[0].write(json_answer(b'{"of":"another"}'))
                await sent[0].drain()
                answer = await raw(running.port, post(BODY))
                assert answer.endswith(b"\r\n\r\n{}")
                assert engine.connections == 2

    run(scenario())


def test_an_answer_before_the_request_was_read_is_passed_on(tmp_path: Path) -> None:
    """An engine that refuses a large body unread: its client gets the refusal, the connection is not used again."""

    async def scenario() -> None:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(json_answer(b'{"error":"too large"}', status="413 X"))
            await writer.drain()
            await asyncio.sleep(0.3)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        state = agent_state(tmp_path / "agent", server.sockets[0].getsockname()[1])
        async with gateway(tmp_path / "gateway", state) as running:
            large = post(b'{"model":"chat","x":"' + b"x" * 20_000_000 + b'"}')
            for _ in range(2):
                answer = await raw(running.port, large)
                assert answer.startswith(b"HTTP/1.1 413 ")
                assert answer.endswith(b'{"error":"too large"}')
            assert len(heads) == 2
        server.close()

    run(scenario())


async def _closes_late(
    received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()


def test_answers_for_old_clients_end_with_their_connection(tmp_path: Path) -> None:
    """HTTP/1.0 gets no chunks: a chunked answer goes out bare, and the close is its end."""

    async def scenario() -> None:
        async with upstream(sends(CHUNKED + b"\r\n" + chunk(b"12") + chunk(b"3") + chunk(b""))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                old = post(BODY, headers="x: y\r\n", close=False).replace(b"HTTP/1.1", b"HTTP/1.0")
                head, _, body = (await raw(running.port, old)).partition(b"\r\n\r\n")
                assert body == b"123"
                assert b"transfer-encoding" not in head
                assert SECRET.encode() not in head
        # An engine that ends its answer by closing may do so in a read of its own.
        async with upstream(_closes_late) as engine:
            state = agent_state(tmp_path / "other-agent", engine.port)
            async with gateway(tmp_path / "other-gateway", state) as running:
                assert (await raw(running.port, old)).endswith(b"\r\n\r\n{}")

    run(scenario())
