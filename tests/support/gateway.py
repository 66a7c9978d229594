"""Gateways, upstreams and agents on real sockets, for tests that look at a gateway from outside."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tests.support.tables import AgentState, Signer, api_key, endpoint, header, revision, route
from tests.support.waiting import eventually_async
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.process import GatewayProcess, Options
from workloadplane.protocol.local import (
    MAX_LINE_BYTES,
    Acknowledgement,
    EndpointSet,
    FromGateway,
    Hello,
    LoadReport,
)
from workloadplane.protocol.routing import ApiKeyEntry, Peer, Route
from workloadplane.protocol.spool import SpoolReader
from workloadplane.protocol.usage import UsageRecord

SECRET = "sk-test"
AUTHORIZED = {"authorization": f"Bearer {SECRET}"}


def run(scenario: Coroutine[Any, Any, None], within_s: float = 60) -> None:
    """A scenario on the loop that production uses, with a bound on its time."""

    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await scenario

    uvloop.run(bounded())


@dataclass
class Received:
    """A request as an upstream saw it."""

    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Received, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """A scripted engine: raw sockets, no HTTP library, so that it can misbehave."""

    script: Script
    port: int = 0
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    hung_up: int = 0
    server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                received = Received(head[0], headers, body)
                self.received.append(received)
                await self.script(received, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            # The last one is uvloop's, where a script writes to a connection that has just closed.
            self.hung_up += 1
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def upstream(
    script: Script, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A scripted engine while the block runs."""
    made = Upstream(script)
    made.server = await asyncio.start_server(made.serve, "127.0.0.1", port, ssl=tls)
    made.port = made.server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.server.close()


def json_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def sends(*answers: bytes) -> Script:
    """An engine that answers each request with these bytes, one write each."""

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()

    return script


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass
class Running:
    """A gateway that serves."""

    process: GatewayProcess
    state: AgentState
    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> list[UsageRecord]:
        return list(SpoolReader(self.directory / "spool").pending(10_000).usage)

    async def usage_of(self, count: int) -> list[UsageRecord]:
        """The spooled records, once there are ``count`` of them."""
        await eventually_async(lambda: len(self.usage()) >= count, what=f"{count} usage records")
        return self.usage()


@contextlib.asynccontextmanager
async def gateway(
    directory: Path, state: AgentState, *, tls: Any = None, **limits: Any
) -> AsyncIterator[Running]:
    """A gateway in this process, on a real port, until the block ends. ``tls``: its options of that name."""
    process = GatewayProcess(
        Options(
            agent_state_dir=state.directory,
            state_dir=directory,
            host="127.0.0.1",
            port=0,
            share_port=False,
            operator_networks=(ipaddress.ip_network("127.0.0.0/8"),),
            limits=Limits(**{"drain_timeout_s": 0.5, **limits}),
            **(tls or {}),
        )
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(process.serve(stop))
    try:
        await eventually_async(lambda: process.address is not None or serving.done())
        if process.address is None:
            await serving
        assert process.address is not None
        yield Running(process, state, directory, process.address[1])
    finally:
        stop.set()
        await serving


def agent_state(
    directory: Path,
    *ports: int,
    cluster_id: str = "c-eu",
    region: str = "eu-west",
    jurisdiction: str = "eu",
    signer: Signer | None = None,
    routes: list[Route] | None = None,
    keys: list[ApiKeyEntry] | None = None,
    peers: tuple[Peer, ...] = (),
) -> AgentState:
    """The state of an agent whose cluster runs one replica of ``chat`` at each port."""
    state = AgentState(directory, cluster_id, signer or Signer())
    rewrite(state, *ports, region=region, jurisdiction=jurisdiction, routes=routes, keys=keys, peers=peers)
    return state


def rewrite(
    state: AgentState,
    *ports: int,
    region: str = "eu-west",
    jurisdiction: str = "eu",
    routes: list[Route] | None = None,
    keys: list[ApiKeyEntry] | None = None,
    peers: tuple[Peer, ...] = (),
) -> None:
    """Write an agent's state anew, before its gateway starts."""
    cluster = state.cluster_id
    if routes is None:
        routes = [route(revisions=(revision((cluster,)),))]
    state.write(
        routing=state.signer.routing(
            header(cluster, region=region, jurisdiction=jurisdiction, peers=peers), routes, audience=cluster
        ),
        keyset=state.signer.keyset(keys or [api_key(SECRET)], audience=cluster),
        endpoints=endpoints(1, *ports),
    )


def endpoints(generation: int, *ports: int) -> EndpointSet:
    """One ready replica of ``chat`` at each port."""
    return EndpointSet(
        endpoint_generation=generation,
        endpoints=tuple(
            endpoint(port, replica_id=f"replica-{number}") for number, port in enumerate(ports, start=1)
        ),
    )


@dataclass
class Agent:
    """The agent's side of the socket."""

    heard: list[Hello | Acknowledgement | LoadReport] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def push(self, message: msgspec.Struct) -> None:
        for writer in self.writers:
            writer.write(msgspec.json.encode(message) + b"\n")

    async def hears(self, wanted: Callable[[Any], bool], what: str) -> Any:
        """The first message, already heard or yet to come, that is wanted."""
        return await eventually_async(lambda: next(filter(wanted, self.heard), None), what=what)


@contextlib.asynccontextmanager
async def agent(state_directory: Path) -> AsyncIterator[Agent]:
    """An agent's socket while the block runs."""
    made = Agent()
    decoder = msgspec.json.Decoder(FromGateway)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.writers.append(writer)
        with contextlib.suppress(ConnectionError):  # a gateway was killed
            while line := await reader.readline():
                made.heard.append(decoder.decode(line))
        made.writers.remove(writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, state_directory / "agent.sock", limit=MAX_LINE_BYTES)
    try:
        yield made
    finally:
        server.close()
        for writer in made.writers:
            writer.close()


async def raw(port: int, *sent: bytes, half_close: bool = False) -> bytes:
    """What comes back on one connection for these writes until the gateway closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        if half_close:
            writer.write_eof()
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def post(body: bytes, path: str = "/v1/chat/completions", headers: str = "", *, close: bool = True) -> bytes:
    """An authorised request in bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {SECRET}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
        f"{'connection: close' + chr(13) + chr(10) if close else ''}\r\n"
    ).encode() + body
