"""The edge on real sockets, in front of stand-in backends."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvloop

from infra.embedded.edge import Backend, Edge
from tests.support.waiting import eventually_async

Condition = Callable[[], bool | Awaitable[bool]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class StandIn:
    """A gateway for the edge's eyes: answers readiness as told, and anything else with its name."""

    name: str
    is_ready: bool = True
    handler: Handler | None = None
    port: int = 0
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    frozen: asyncio.Event | None = None

    async def start(self) -> Backend:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return Backend("127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            first = await reader.readline()
            if self.frozen is not None and self.frozen.is_set():
                await reader.read()  # until the other side gives up
                return
            if first.startswith(b"GET /readyz "):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if self.is_ready else b"HTTP/1.1 503 No\r\n\r\n")
            elif self.handler:
                await self.handler(reader, writer)
            else:
                writer.write(self.name.encode())
            writer.close()


@contextlib.asynccontextmanager
async def edge_before(*stand_ins: StandIn) -> AsyncIterator[tuple[Edge, int]]:
    edge = Edge([await stand_in.start() for stand_in in stand_ins])
    server = await edge.serve("127.0.0.1", 0)
    try:
        yield edge, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in list(edge.clients):
            if client.transport:
                client.transport.abort()
        await edge.drain()
        for stand_in in stand_ins:
            await stand_in.stop()


async def ask(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    answer = await reader.read()
    writer.close()
    return answer.decode()


def test_clients_go_to_the_nearest_that_is_ready_and_come_back_when_it_is_again() -> None:
    """The first backend takes all; unready it is passed over within two checks, ready it takes all again."""

    async def scenario() -> None:
        near, far = StandIn("near"), StandIn("far")
        async with edge_before(near, far) as (_, port):
            assert {await ask(port) for _ in range(5)} == {"near"}
            near.is_ready = False

            await eventually_async(_answered_by(port, "far"))
            near.is_ready = True
            await eventually_async(_answered_by(port, "near"))

    uvloop.run(scenario())


def test_a_dead_backend_costs_no_client_its_connection() -> None:
    """Between two checks a gateway dies: the very next client is served by another."""

    async def scenario() -> None:
        near, far = StandIn("near"), StandIn("far")
        async with edge_before(near, far) as (edge, port):
            await near.stop()
            assert await ask(port) == "far"
            assert [backend.healthy for backend in edge.backends] == [False, True]

    uvloop.run(scenario())


def test_with_no_healthy_backend_one_that_takes_connections_is_still_tried() -> None:
    """A health check may be wrong; a client that is sent away is lost for sure."""

    async def scenario() -> None:
        async with edge_before(StandIn("unready", is_ready=False)) as (_, port):
            assert await ask(port) == "unready"

    uvloop.run(scenario())


def test_with_no_backend_at_all_the_client_is_cut_off_and_not_left_hanging() -> None:
    """The client learns at once that nobody is there."""

    async def scenario() -> None:
        alone = StandIn("alone")
        async with edge_before(alone) as (edge, port):
            await alone.stop()
            answer = ""
            async with asyncio.timeout(2):
                with contextlib.suppress(ConnectionError):
                    answer = await ask(port)
            assert answer == ""
            assert not edge.clients

    uvloop.run(scenario())


def test_one_direction_may_end_while_the_other_goes_on() -> None:
    """A client that has sent all its data, and says so, still gets the whole answer."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())

    async def scenario() -> None:
        async with edge_before(StandIn("counting", handler=count)) as (edge, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"begin\n" + b"x" * 1_000_000)
            writer.write_eof()
            assert await reader.read() == b"1000000"
            writer.close()
            await eventually_async(lambda: not edge.clients)

    uvloop.run(scenario())


def test_a_slow_reader_slows_the_sender_instead_of_filling_the_memory() -> None:
    """Only buffers of bounded size lie between a backend that floods and a client that doesn't read."""
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async def scenario() -> None:
        async with edge_before(StandIn("flooding", handler=flood)) as (_, port):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(b"begin\n")
            client.setblocking(False)
            before = -1

            async def is_stalled() -> bool:
                nonlocal before
                seen, before = before, sent
                await asyncio.sleep(0.2)
                return sent > 0 and seen == sent

            stalled: Condition = is_stalled
            await eventually_async(stalled)
            stalled_at = sent
            assert stalled_at < 32_000_000
            taken = 0
            while taken < stalled_at:
                taken += len(await asyncio.get_running_loop().sock_recv(client, 1 << 20))
            await eventually_async(lambda: sent > stalled_at, what="flowing again")
            client.close()

    uvloop.run(scenario())


def test_a_broken_stream_arrives_broken_and_not_ended() -> None:
    """When a gateway is killed in mid-answer, the client sees a reset, so it can't take half for the whole."""
    kill = asyncio.Event()

    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await writer.drain()
        await kill.wait()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def scenario() -> None:
        async with edge_before(StandIn("breaking", handler=break_off)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"begin\n")
            assert await reader.readexactly(4) == b"half"
            kill.set()
            with pytest.raises(ConnectionResetError):
                await reader.read()

    uvloop.run(scenario())


@pytest.mark.slow
def test_a_frozen_backend_is_left_and_what_it_holds_is_cut() -> None:
    """It still takes connections and answers nothing: new clients go elsewhere, what it holds is cut, not left."""
    frozen = asyncio.Event()

    async def scenario() -> None:
        near, far = StandIn("near"), StandIn("far")
        async with edge_before(near, far) as (_, port):
            near.frozen = frozen
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            frozen.set()
            writer.write(b"hello\n")
            held = asyncio.create_task(reader.read())
            await eventually_async(_answered_by(port, "far", within_s=0.3))
            with pytest.raises(ConnectionResetError):
                await held
            writer.close()
            near.frozen = None
            frozen.clear()
            await eventually_async(_answered_by(port, "near", within_s=0.3))

    uvloop.run(scenario())


@pytest.mark.slow
def test_draining_lets_a_stream_that_flows_end_by_itself() -> None:
    """A drain waits for what flows, and ends what is idle."""
    go_on = asyncio.Event()

    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _number in range(16):
            writer.write(b"token ")
            await writer.drain()
            await asyncio.sleep(0.15)
        go_on.set()

    async def scenario() -> None:
        async with edge_before(StandIn("streaming", handler=stream)) as (edge, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"begin\n")
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
            await eventually_async(lambda: len(edge.clients) == 2)
            answer, idle, _ = await asyncio.gather(reader.read(), idle_reader.read(), edge.drain())
            assert answer == b"token " * 16
            assert idle == b""
            assert not edge.clients
            writer.close()
            idle_writer.close()

    uvloop.run(scenario())


def _answered_by(port: int, name: str, within_s: float = 5.0) -> Condition:
    async def condition() -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await ask(port) == name
        except (TimeoutError, ConnectionError):
            return False

    return condition
