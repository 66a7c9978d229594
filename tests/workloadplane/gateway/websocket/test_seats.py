"""What a session costs its replica: a seat while a response is made, and one of the sessions that it may have."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tests.support.gateway import (
    Received,
    Running,
    agent_state,
    gateway,
    json_answer,
    post,
    raw,
    run,
    upstream,
)
from tests.support.tables import endpoint
from tests.support.waiting import eventually_async
from tests.support.websocket import CLOSE, TEXT, Engine, close_code, connect, frame, handshake, next_frame
from workloadplane.protocol.local import EndpointSet

ASK = post(b'{"model":"chat","messages":[]}')
DONE = {
    "type": "response.done",
    "response": {
        "usage": {"input_tokens": 30, "output_tokens": 5, "input_token_details": {"cached_tokens": 20}}
    },
}


def event(told: Mapping[str, object]) -> bytes:
    return frame(TEXT, json.dumps(told).encode(), masked=False)


class Talker:
    """An engine that answers requests at once and begins and ends a response when the test says so."""

    def __init__(self) -> None:
        self.begin, self.end = asyncio.Event(), asyncio.Event()
        self.engine = Engine(self._talk)

    async def _talk(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(event({"type": "session.created"}))
        await self.begin.wait()
        writer.write(event({"type": "response.created"}))
        await self.end.wait()
        writer.write(event(DONE))
        await engine.gather(reader)

    async def script(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if "sec-websocket-key" in received.headers:
            await self.engine.script(received, reader, writer)
        else:
            writer.write(json_answer(b"{}"))


def adopt(running: Running, *ports: int, state: str = "ready", generation: int = 2) -> None:
    """Replicas that compute one request at a time."""
    told = tuple(
        msgspec.structs.replace(endpoint(port, replica_id=f"replica-{number}"), state=state, max_in_flight=1)
        for number, port in enumerate(ports, 1)
    )
    registry = running.process._context.registry
    registry.adopt_endpoints(EndpointSet(endpoint_generation=generation, endpoints=told))


def test_only_a_response_takes_a_seat(tmp_path: Path) -> None:
    """Beside an open session the replica's one seat is free; a response holds it to its end, and its tokens count."""

    async def scenario() -> None:
        talker = Talker()
        async with upstream(talker.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                adopt(running, server.port)
                in_flight = running.process._context.registry.in_flight
                _, reader, writer = await connect(running.port, handshake())
                await next_frame(reader)
                assert in_flight == {}
                assert (await raw(running.port, ASK)).startswith(b"HTTP/1.1 200 ")
                talker.begin.set()
                assert b"response.created" in (await next_frame(reader))[1]
                assert in_flight == {"replica-1": 1}
                waiting = asyncio.create_task(raw(running.port, ASK))
                room = running.process._context.room
                await eventually_async(
                    lambda: room.waits("project-1-chat"), what="a request waits for the seat"
                )
                talker.end.set()
                assert b"response.done" in (await next_frame(reader))[1]
                assert (await waiting).startswith(b"HTTP/1.1 200 ")
                writer.close()
                records = await running.usage_of(3)
                (session,) = [each for each in records if each.route == "realtime"]
                assert (session.input_tokens, session.cached_tokens, session.output_tokens) == (30, 20, 5)
                assert in_flight == {} and not running.process._context.sessions_at

    run(scenario())


def test_sessions_of_a_replica_are_bounded(tmp_path: Path) -> None:
    """One more than a replica may have goes to another one, or waits until one has ended."""

    async def scenario() -> None:
        first, second = Talker(), Talker()
        async with upstream(first.script) as one, upstream(second.script) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state, websockets_per_replica_max=2) as running:
                opened = [await connect(running.port, handshake()) for _ in range(4)]
                assert sorted(running.process._context.sessions_at.values()) == [2, 2]
                waiting = asyncio.create_task(connect(running.port, handshake()))
                room = running.process._context.room
                await eventually_async(lambda: room.waits("project-1-chat"), what="the fifth waits")
                opened[0][2].close()
                head, _, writer = await waiting
                assert head.startswith(b"HTTP/1.1 101 ")
                for each in (*(each[2] for each in opened), writer):
                    each.close()

    run(scenario())


@pytest.mark.parametrize("gone", [False, True])
def test_a_replica_that_leaves_lets_its_sessions_finish(tmp_path: Path, gone: bool) -> None:
    """When its replica is being stopped a session ends with 1012, but never in the midst of a response."""

    async def scenario() -> None:
        talker = Talker()
        async with upstream(talker.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                await next_frame(reader)
                talker.begin.set()
                await next_frame(reader)
                adopt(running, *(() if gone else (server.port,)), state="draining")
                closing = asyncio.create_task(next_frame(reader))
                done, _ = await asyncio.wait([closing], timeout=2.5)
                assert not done, "the response is silent, but not over"
                talker.end.set()
                assert b"response.done" in (await closing)[1]
                assert await close_code(reader) == 1012
                writer.write(frame(CLOSE, b"\x03\xf4", masked=True))
                assert await reader.read() == b""
                writer.close()

    run(scenario())
