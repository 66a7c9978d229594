"""Ends that mean harm: nothing wrong gets through, nothing grows beyond its bound, nobody else notices."""

import asyncio
import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.support.gateway import Running, agent_state, endpoints, gateway, raw, run, upstream
from tests.support.waiting import eventually_async
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Engine,
    close_code,
    connect,
    frame,
    handshake,
    next_frame,
)

MASK = b"mask"
MIB = 1024 * 1024
#: What the two sockets of a session may hold at most: each its high-water mark and one read beyond it.
HELD_BYTES_MAX = 2 * (256 * 1024 + 256 * 1024)


def headed(first: int, length: bytes, *, masked: bool) -> bytes:
    """A header with a length as given (its first byte without the mask bit), and the beginning of a payload."""
    bit = 0x80 if masked else 0
    return bytes([first, length[0] | bit]) + length[1:] + (MASK if masked else b"") + b"payload"


WRONG: list[tuple[Callable[[bool], bytes], int]] = [
    (lambda masked: headed(0x82, b"\x7f" + ((1 << 63) - 1).to_bytes(8, "big"), masked=masked), 1009),
    (lambda masked: headed(0x82, b"\x7f" + (33 * MIB).to_bytes(8, "big"), masked=masked), 1009),
    (lambda masked: headed(0x82, b"\x7f" + (1 << 63).to_bytes(8, "big"), masked=masked), 1002),
    (lambda masked: headed(0x82, b"\x7f" + b"\xff" * 8, masked=masked), 1002),
    (lambda masked: headed(0x82, b"\x7f" + (0xFFFF).to_bytes(8, "big"), masked=masked), 1002),
    (lambda masked: headed(0x82, b"\x7e" + (125).to_bytes(2, "big"), masked=masked), 1002),
    (lambda masked: frame(TEXT, b"x", masked=not masked), 1002),
    (lambda masked: frame(TEXT, b"x", masked=masked, reserved=0x40), 1002),
    (lambda masked: frame(TEXT, b"x", masked=masked, reserved=0x20), 1002),
    (lambda masked: frame(PING, b"x", masked=masked, reserved=0x10), 1002),
    (lambda masked: frame(0x3, b"x", masked=masked), 1002),
    (lambda masked: frame(0x7, b"x", masked=masked), 1002),
    (lambda masked: frame(0xF, b"x", masked=masked), 1002),
    (lambda masked: frame(PING, b"x" * 126, masked=masked), 1002),
    (lambda masked: frame(PONG, b"x", masked=masked, final=False), 1002),
    (lambda masked: frame(CLOSE, b"\x03\xe8" + b"x" * 124, masked=masked), 1002),
    (lambda masked: frame(CONTINUATION, b"x", masked=masked), 1002),
    (lambda masked: b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n", 1002),
]


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "engine"])
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_wrong_frame_ends_the_session_for_both(tmp_path: Path, number: int, by_client: bool) -> None:
    """Whoever sends it: what came before arrives, nothing of it does, and both ends are told the same code."""
    make, code = WRONG[number]
    good = frame(TEXT, b"good", masked=by_client)

    async def scenario() -> None:
        told: list[int] = []

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not by_client:
                writer.write(good + make(False))
            else:
                engine.got += await reader.readexactly(len(good))
            head = await reader.readexactly(6)
            payload = await reader.readexactly(head[1] & 0x7F)
            assert head[0] == 0x88 and head[2:] == bytes(4), head
            told.append(int.from_bytes(payload[:2], "big"))
            writer.write(frame(CLOSE, payload[:2], masked=False))

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                if by_client:
                    writer.write(good + make(True))
                else:
                    assert await next_frame(reader) == (TEXT, b"good")
                assert await close_code(reader) == code
                writer.write(frame(CLOSE, code.to_bytes(2, "big"), masked=True))
                assert await reader.read() == b"", "not a byte of the wrong frame"
                writer.close()
                await engine.ended.wait()
                assert told == [code]
                assert bytes(engine.got) == (good if by_client else b"")
                (record,) = await running.usage_of(1)
                assert record.outcome == ("refused" if by_client else "upstream_error")

    run(scenario())


def held_bytes(running: Running) -> int:
    """What the gateway keeps of its one session."""
    (session,) = running.process._context.websockets
    engine, connection = session._shaking.engine, session._connection
    assert engine is not None and engine._transport is not None and connection._transport is not None
    return engine._transport.get_write_buffer_size() + connection._transport.get_write_buffer_size()


class Flood:
    """Writes until nothing goes any more, and knows whether it has been held back for a while."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    async def into(self, writer: asyncio.StreamWriter) -> None:
        view = memoryview(self._data)
        while self.at < len(view):
            writer.write(view[self.at : self.at + 65_536])
            await writer.drain()
            self.at += 65_536

    async def is_held(self) -> bool:
        before = self.at
        await asyncio.sleep(0.2)
        return 0 < self.at == before < len(self._data)


@pytest.mark.parametrize("ends", ["read again", "drained", "gone"])
def test_frames_of_16_mib_are_never_kept_here(tmp_path: Path, ends: str) -> None:
    """Both ways at once between ends that do not read: what is kept stays within its bound, also when it must end.

    Once they read again every byte arrives. If the process ends instead nothing more is taken in.
    """
    up = frame(BINARY, bytes(range(256)) * (16 * MIB // 256), masked=True, key=MASK)
    down = frame(BINARY, bytes(range(255, -1, -1)) * (16 * MIB // 256), masked=False)

    async def scenario() -> None:
        flood_up, flood_down = Flood(up), Flood(down)
        may_read = asyncio.Event()
        digest = hashlib.sha256()

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            sending = asyncio.create_task(flood_down.into(writer))
            try:
                await may_read.wait()
                reader._transport.resume_reading()  # type: ignore[attr-defined]
                digest.update(await reader.readexactly(len(up)))
                await sending
            finally:
                sending.cancel()

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, drain_timeout_s=1.5) as running:
                _, reader, writer = await connect(running.port, handshake())
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                flooding = asyncio.create_task(flood_up.into(writer))
                await eventually_async(flood_up.is_held, what="the client held back")
                await eventually_async(flood_down.is_held, what="the engine held back")
                assert held_bytes(running) <= HELD_BYTES_MAX
                (session,) = running.process._context.websockets
                if ends == "read again":
                    may_read.set()
                    reader._transport.resume_reading()  # type: ignore[attr-defined]
                    assert await reader.readexactly(len(down)) == down
                    await engine.ended.wait()
                    assert digest.digest() == hashlib.sha256(up).digest()
                elif ends == "drained":
                    before = flood_up.at, flood_down.at
                    session.on_drain_over()
                    assert not await flood_up.is_held() or held_bytes(running) <= HELD_BYTES_MAX
                    assert (flood_up.at, flood_down.at) == before, "nothing more is taken in"
                    await eventually_async(lambda: not running.process._context.websockets)
                else:
                    writer.transport.abort()
                    await eventually_async(lambda: not running.process._context.websockets)
                    hung_up = asyncio.create_task(engine.ended.wait())
                    may_read.set()  # it finds the end within the bytes that were on their way
                    await hung_up
                flooding.cancel()
                writer.transport.abort()
                may_read.set()

    run(scenario())


def test_an_engine_that_never_reads_keeps_no_socket(tmp_path: Path) -> None:
    """A session whose engine stands still ends as lost, and what never goes out to it is given up soon after."""

    async def scenario() -> None:
        async def deaf(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()

        async with upstream(Engine(deaf).script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, client_stall_timeout_s=0.5) as running:
                _, reader, writer = await connect(running.port, handshake())
                flood = Flood(frame(BINARY, bytes(16 * MIB), masked=True, key=b"\0" * 4))
                flooding = asyncio.create_task(flood.into(writer))
                await eventually_async(flood.is_held, what="the client held back")
                (session,) = running.process._context.websockets
                engine = session._shaking.engine
                assert await close_code(reader) == 1011
                await eventually_async(lambda: not running.process._context.websockets)
                flooding.cancel()
                writer.transport.abort()
                assert engine is not None
                await eventually_async(lambda: engine._transport is None, what="the engine's socket closed")

    run(scenario())


def test_a_client_that_stops_both_ways_keeps_no_connection(tmp_path: Path) -> None:
    """It has said all and reads nothing: what waits for it is given up, too."""

    async def scenario() -> None:
        deaf = asyncio.Event()

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await deaf.wait()
            (connection,) = running.process._gateway.connections
            while not connection.unsent_bytes:  # more than the machine takes, less than holds the engine back
                writer.write(frame(BINARY, bytes(16_384), masked=False))
                await writer.drain()
                await asyncio.sleep(0.001)

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, client_stall_timeout_s=1.0) as running:
                _, reader, writer = await connect(running.port, handshake())
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                writer.write_eof()
                deaf.set()
                await engine.ended.wait()
                connections = running.process._gateway.connections
                await eventually_async(lambda: not connections, what="the connection closed")
                writer.transport.abort()

    run(scenario())


HARMLESS = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
KEYS = (
    "",
    "c2l4dGVlbiBieXRlcyBvaw",  # no padding
    "c2l4dGVlbiBieXRlcyBvawAA",  # 18 bytes
    "c2l4dGVlbiBieXRlcyBvaw==, c2l4dGVlbiBieXRlcyBvaw==",
    "c2l4dGVlbiBieXRlcyBva-==",
    "c2l4 dGVlbiBieXRlcyBvaw==",
    "\xff" * 24,
    "A" * 5000,
)
SHAKES = [
    *((handshake(key=key), 400) for key in KEYS),
    (handshake(headers="sec-websocket-key: c2l4dGVlbiBieXRlcyBvaw==\r\n"), 400),
    (handshake(headers="sec-websocket-version: 13\r\n"), 426),
    (handshake().replace(b"version: 13", b"version: 14"), 426),
    (handshake().replace(b"version: 13", b"version: 013"), 426),
    (handshake().replace(b"sec-websocket-version: 13\r\n", b""), 426),
    (handshake(headers="upgrade: h2c\r\n"), 400),
    (handshake(headers="host: other\r\n"), 400),
    (handshake(headers="content-length: 0\r\n"), 400),
    (handshake(headers="transfer-encoding: identity\r\n"), 400),
    (handshake(headers="sec-websocket-extensions: x\r\n y\r\n"), 400),
    (handshake(headers="sec-websocket-protocol: a\nx: b\r\n"), 400),
    (handshake("/v1/realtime?model=chat\x00"), 400),
    (handshake("/v1/realtime/chat/../../v1/models"), 400),
    (handshake("/v1/realtime?model=" + "c" * 300), 400),
    (handshake("/v1/realtime?model=chat&model=chat2"), 400),
    (handshake("http://other/v1/realtime?model=chat"), 400),
    (handshake().replace(b"GET ", b"CONNECT "), 405),
    (handshake().replace(b"GET ", b"HEAD "), 400),
    (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    (handshake().replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + handshake(), 400),
]


@pytest.mark.parametrize("number", range(len(SHAKES)))
def test_a_handshake_that_means_two_things_means_none(tmp_path: Path, number: int) -> None:
    """Refused in plain HTTP, once; what comes behind it is no request, and no engine hears of any of it."""
    request, status = SHAKES[number]

    async def scenario() -> None:
        engine = Engine(lambda engine, reader, writer: engine.gather(reader))
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for parts in ((request + HARMLESS,), (request, HARMLESS)):
                    answer = await raw(running.port, *parts)
                    assert not answer or answer.startswith(b"HTTP/1.1 %d " % status), answer
                    assert answer.count(b"HTTP/1.1 ") <= 1
                assert server.connections == 0

    run(scenario())


def test_a_request_behind_the_handshake_is_no_request(tmp_path: Path) -> None:
    """Sent before the 101 or after it, it is taken for a frame, which it is not; nothing of it reaches the engine."""

    async def scenario() -> None:
        async def switched_late(
            engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await engine.gather(reader)

        engine = Engine(switched_late)
        smuggled = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for parts in ((handshake() + smuggled,), (handshake(), smuggled)):
                    engine.got.clear()
                    answer = await raw(running.port, *parts)
                    head, _, rest = answer.partition(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 101 ")
                    assert rest[0] == 0x88 and rest[2:4] == (1002).to_bytes(2, "big")
                    assert b"HTTP/1.1" not in rest
                    assert b"POST" not in engine.got
                assert [got.line.split()[0] for got in server.received] == ["GET", "GET"]

    run(scenario())


def test_frames_ahead_of_the_101_arrive_in_their_order(tmp_path: Path) -> None:
    """A client that does not wait for the answer loses nothing, behind an earlier request on the connection too."""

    async def scenario() -> None:
        async def hello(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(TEXT, b"hello", masked=False))
            await engine.gather(reader)

        engine = Engine(hello)
        sent = b"".join(frame(BINARY, bytes([number]) * 3000, masked=True) for number in range(100))
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for ahead in (b"", HARMLESS):
                    engine.got.clear()
                    shake = handshake().replace(b"connection: Upgrade", b"connection: keep-alive, Upgrade")
                    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    writer.write(ahead + shake + sent)
                    if ahead:
                        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                        await reader.readexactly(len(b'{"status":"ok"}'))
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                    assert await next_frame(reader) == (TEXT, b"hello")
                    await eventually_async(lambda: bytes(engine.got) == sent, what="all frames")
                    writer.close()

    run(scenario())


@pytest.mark.parametrize(
    "first", [b"", frame(TEXT, b'{"model":"chat"}', masked=True)], ids=["query", "message"]
)
def test_what_comes_ahead_of_the_101_is_bounded(tmp_path: Path, first: bytes) -> None:
    """A client that floods while it waits for a replica is held back; all of it goes on once there is one."""

    async def scenario() -> None:
        engine = Engine(lambda engine, reader, writer: engine.gather(reader))
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent")
            async with gateway(tmp_path / "gateway", state) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(handshake("/v1/realtime" if first else "/v1/realtime/chat"))
                context = running.process._context
                flood = Flood(first + frame(BINARY, bytes(16 * MIB), masked=True))
                flooding = asyncio.create_task(flood.into(writer))
                await eventually_async(flood.is_held, what="held back")
                (session,) = context.websockets
                held = len(session._early) + len(session._connection._reader.upgraded or b"")
                assert 0 < held <= HELD_BYTES_MAX
                context.registry.adopt_endpoints(endpoints(2, server.port))
                context.turns.soon_for_all()
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                await flooding
                await eventually_async(lambda: bytes(engine.got) == flood._data, what="all of it")
                writer.close()

    run(scenario())


ANSWERS = [
    "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    "Sec-WebSocket-Protocol: other\r\n",
    "Sec-WebSocket-Protocol: realtime, realtime\r\n",
    "X: " + "y" * 100_000 + "\r\n",
    "Upgrade: h2c\r\n",
]


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=count())
def test_an_engine_that_agrees_to_what_nobody_offered_is_not_believed(tmp_path: Path, number: int) -> None:
    """Its answer is no answer: the client gets an honest 502 and never a tunnel that the ends read differently."""

    async def scenario() -> None:
        engine = Engine(lambda engine, reader, writer: engine.gather(reader), headers=ANSWERS[number])
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                answer = await raw(
                    running.port, handshake(headers="sec-websocket-protocol: realtime\r\n") + b"\x81"
                )
                assert answer.startswith(b"HTTP/1.1 502 "), answer[:200]
                assert running.process._context.registry.in_flight == {}

    run(scenario())
