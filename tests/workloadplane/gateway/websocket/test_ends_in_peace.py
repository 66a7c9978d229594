"""Ends that mean well, and a process that ends: pings go on, what is under way is finished, half-closes are heard."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.gateway import agent_state, gateway, run, upstream
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


def event(kind: str) -> bytes:
    return frame(TEXT, json.dumps({"type": kind}).encode(), masked=False)


async def client_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of a client's next frame, a short one."""
    head = await reader.readexactly(6)
    payload = await reader.readexactly(head[1] & 0x7F)
    return head[0] & 0x0F, bytes(byte ^ head[2 + at % 4] for at, byte in enumerate(payload))


def test_pings_are_answered_while_a_drain_waits_for_a_response(tmp_path: Path) -> None:
    """Either end's pings reach the other during a drain; the response is finished, and only then 1012 is said."""

    async def scenario() -> None:
        may_end = asyncio.Event()
        answered: list[bytes] = []

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(event("response.created") + frame(PING, b"are you there", masked=False))

            async def end() -> None:
                await may_end.wait()
                writer.write(event("response.done"))

            ending = asyncio.create_task(end())
            while True:
                opcode, payload = await client_frame(reader)
                if opcode == PING:
                    writer.write(frame(PONG, payload, masked=False))
                elif opcode == PONG:
                    answered.append(payload)
                elif opcode == CLOSE:
                    writer.write(frame(CLOSE, payload[:2], masked=False))
                    break
            await ending

        engine = Engine(talk)
        async with upstream(engine.script) as server, AsyncExitStack() as stack:
            state = agent_state(tmp_path / "agent", server.port)
            running = await stack.enter_async_context(
                gateway(tmp_path / "gateway", state, drain_timeout_s=20.0)
            )
            _, reader, writer = await connect(running.port, handshake())
            assert b"response.created" in (await next_frame(reader))[1]
            ending = asyncio.create_task(stack.aclose())
            await eventually_async(lambda: running.process._gateway.draining)
            assert await next_frame(reader) == (PING, b"are you there")
            writer.write(frame(PONG, b"are you there", masked=True))
            for number in range(5):  # beyond the moment for which a session must be quiet to be at rest
                writer.write(frame(PING, b"%d" % number, masked=True))
                assert await next_frame(reader) == (PONG, b"%d" % number)
                await asyncio.sleep(0.4)
            assert answered == [b"are you there"]
            may_end.set()
            assert b"response.done" in (await next_frame(reader))[1]
            assert await close_code(reader) == 1012
            writer.write(frame(CLOSE, b"\x03\xf4", masked=True))
            assert await reader.read() == b""
            writer.close()
            await ending

    run(scenario())


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "engine"])
def test_a_drain_waits_for_the_rest_of_a_message(tmp_path: Path, by_client: bool) -> None:
    """A message in parts, pings between, is whole at its receiver before either end hears 1012."""

    async def scenario() -> None:
        first = frame(BINARY, b"a" * 500, masked=by_client, final=False, key=b"mask")
        last = frame(CONTINUATION, b"b" * 500, masked=by_client, key=b"mask")
        ping = frame(PING, b"", masked=by_client, key=b"mask")
        arrived: list[bytes] = []
        goes_on = asyncio.Event()

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            await goes_on.wait()
            for _ in range(6):
                writer.write(ping)
                await asyncio.sleep(0.3)
            writer.write(last)

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not by_client:
                await send(writer)
            else:
                arrived.append(await reader.readexactly(len(first) + 6 * len(ping) + len(last)))
            assert (await client_frame(reader))[0] == CLOSE
            writer.write(frame(CLOSE, b"\x03\xf4", masked=False))

        engine = Engine(talk)
        async with upstream(engine.script) as server, AsyncExitStack() as stack:
            state = agent_state(tmp_path / "agent", server.port)
            running = await stack.enter_async_context(
                gateway(tmp_path / "gateway", state, drain_timeout_s=20.0)
            )
            _, reader, writer = await connect(running.port, handshake())
            sending = asyncio.create_task(send(writer)) if by_client else None
            (session,) = running.process._context.websockets
            tunnel = session._tunnel
            assert tunnel is not None
            way = tunnel.up if by_client else tunnel.down
            await eventually_async(lambda: way.payload_bytes == 500)
            ending = asyncio.create_task(stack.aclose())
            await eventually_async(lambda: running.process._gateway.draining)
            goes_on.set()
            if sending is not None:
                await sending
            else:
                arrived.append(await reader.readexactly(len(first) + 6 * len(ping) + len(last)))
            assert await close_code(reader) == 1012
            writer.write(frame(CLOSE, b"\x03\xf4", masked=True))
            await ending
            writer.close()
            assert arrived == [first + 6 * ping + last]

    run(scenario())


def test_a_fault_in_one_session_costs_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others keep their time limits and are told of the drain, which goes on to its end."""

    async def scenario() -> None:
        engine = Engine(lambda engine, reader, writer: engine.gather(reader))
        async with upstream(engine.script) as server, AsyncExitStack() as stack:
            state = agent_state(tmp_path / "agent", server.port)
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            _, broken, broken_writer = await connect(running.port, handshake())
            (session,) = running.process._context.websockets
            _, reader, writer = await connect(running.port, handshake())

            def fails(*_: object, **__: object) -> None:
                raise RuntimeError

            monkeypatch.setattr(session._tunnel, "on_sweep", fails)
            assert await broken.read() == b""
            await eventually_async(lambda: len(running.process._context.websockets) == 1)
            await stack.aclose()
            assert await close_code(reader) == 1012
            broken_writer.close()
            writer.close()

    run(scenario())


def test_an_engine_that_has_closed_and_gone_still_gets_the_clients_close(tmp_path: Path) -> None:
    """After its Close frame its half-close is passed on, and what the client says until its own Close arrives."""

    async def scenario() -> None:
        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(CLOSE, b"\x03\xe8", masked=False))
            writer.write_eof()
            await engine.gather(reader)

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                assert await close_code(reader) == 1000
                assert await reader.read() == b"", "the half-close is passed on"
                last = frame(TEXT, b"one word more", masked=True) + frame(CLOSE, b"\x03\xe8", masked=True)
                writer.write(last)
                writer.write_eof()
                await engine.ended.wait()
                assert bytes(engine.got) == last
                (record,) = await running.usage_of(1)
                assert record.outcome == "ok"
                writer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([frame(PING, b"", masked=True)] * 1000, 1008),
        ([bytes([byte]) for byte in frame(TEXT, b'{"model":"chat"' + b" " * 300, masked=True)], 1008),
        ([frame(TEXT, b'{"model":', masked=True, final=False)], 1008),
        ([frame(BINARY, b"\x00\x01\x02", masked=True)], 1002),
        ([frame(TEXT, b"", masked=True)], 1002),
        ([frame(TEXT, b'"chat"', masked=True)], 1002),
        ([frame(TEXT, b'{"model":7}', masked=True)], 1002),
        ([frame(TEXT, b'{"model":"chat\xff"}', masked=True)], 1002),
        ([frame(TEXT, b'{"model":"' + b"m" * 60_000 + b'"}', masked=True)], 1008),
        ([b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask"], 1009),
        ([frame(TEXT, b"{", masked=True, final=False)] + [frame(PING, b"x" * 125, masked=True)] * 600, 1009),
        ([frame(CLOSE, b"\x03\xe8", masked=True)], 1008),
        ([frame(TEXT, b'{"model":"chat"}', masked=True, reserved=0x40)], 1002),
    ],
    ids=[
        "pings alone", "byte for byte", "in parts", "binary", "empty", "a string", "a number", "no UTF-8",
        "a huge name", "a huge length", "parts without end", "closed", "compressed",
    ],
)  # fmt: skip
def test_a_first_message_that_names_nothing_in_time_ends_the_session(
    tmp_path: Path, pieces: list[bytes], code: int
) -> None:
    """However it is dragged out or blown up: the session ends by its first limit, and no replica hears of it."""

    async def scenario() -> None:
        engine = Engine(lambda engine, reader, writer: engine.gather(reader))
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, header_timeout_s=0.3) as running:
                head, reader, writer = await connect(running.port, handshake("/v1/realtime"))
                assert head.startswith(b"HTTP/1.1 101 ")

                async def drip() -> None:
                    for piece in pieces:
                        writer.write(piece)
                        await asyncio.sleep(0.01 if len(pieces) > 20 and len(piece) < 20 else 0)

                dripping = asyncio.create_task(drip())
                assert await close_code(reader) == code
                assert await reader.read() == b""
                dripping.cancel()
                writer.close()
                assert server.connections == 0 and not running.process._context.websockets

    run(scenario())


@pytest.mark.parametrize("named", ["by query", "by first message"])
def test_who_leaves_before_its_turn_frees_its_place(tmp_path: Path, named: str) -> None:
    """A session that waits is seen to leave at once, whatever it has sent ahead."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with gateway(tmp_path / "gateway", state) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(handshake("/v1/realtime" if named == "by first message" else "/v1/realtime/chat"))
            writer.write(frame(TEXT, b'{"model":"chat"}', masked=True))
            room = running.process._context.room
            await eventually_async(lambda: room.waits("project-1-chat"))
            writer.write(frame(TEXT, b"more", masked=True))
            writer.close()
            await eventually_async(lambda: not room.waits("project-1-chat"))
            (record,) = await running.usage_of(1)
            assert (record.status, record.outcome) == (499, "client_gone")

    run(scenario())
