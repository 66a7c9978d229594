"""The gateway's own code alone: a whole process but for its sockets, which do nothing.

Requests are handed to client connections and answers to upstream connections as a busy loop would do it, some in
each turn, so what is measured is the gateway and not the kernel, the loop or what else the machine does.
"""

import asyncio
import contextlib
import cProfile
import io
import json
import os
import pstats
import tempfile
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from time import process_time
from typing import Any, cast

import uvloop

from tests.benchmarks.gateway import profile, upstream
from tests.support.gateway import SECRET, agent_state
from workloadplane.gateway import limits
from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.process import GatewayProcess, Options
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.upstream import Target, UpstreamConnection

_REPLICAS = 4
_CLIENTS = 32
_EVENTS = 100
_ROUNDS = 60
_TURN = 12  # requests, or answers, that a busy loop reads before it writes


@dataclass(frozen=True)
class Kind:
    """What is asked: so many bytes of prompt, so often a round, as a stream or not."""

    name: str
    prompt_bytes: int
    requests: int
    streams: bool = False


KINDS = (
    Kind("small POST (1 KB prompt)", 1024, 200),
    Kind("100 KB prompt", 100 * 1024, 50),
    Kind(f"stream of {_EVENTS} events, one a read", 1024, 20, streams=True),
)


class _Socket:
    """A transport that takes everything and sends nothing."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._closed = False
        self.written = b""
        protocol.connection_made(cast(asyncio.Transport, self))

    def write(self, data: bytes) -> None:
        self.written = data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written = parts[-1]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._protocol.connection_lost(None)

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass


class _Pool(UpstreamPool):
    """Connections that are always there. ``taken``: in this order, since it was emptied."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__(connect_timeout_s=1, idle_timeout_s=60, idle_connections_max=_CLIENTS, cohort=cohort)
        self.taken: list[UpstreamConnection] = []

    def take(self, target: Target) -> UpstreamConnection:
        connection = super().take(target)
        if connection is None:
            connection = UpstreamConnection(self, target)
            _Socket(connection)
        self.taken.append(connection)
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        super().release(connection)
        connection.idle_since_s = float("inf")  # it need not be looked at


def table() -> str:
    """CPU a request of each kind, and where it goes."""
    lines = ["| request | CPU µs |", "|---|---:|"]
    tables = ""
    with tempfile.TemporaryDirectory(prefix="bench-alone-") as directory:
        for kind in KINDS:
            with contextlib.redirect_stdout(io.TextIOWrapper(Path(os.devnull).open("wb"))):
                used_s, profiled = uvloop.run(_measured(kind, Path(directory) / str(kind.prompt_bytes)))
            lines.append(f"| {kind.name} | {used_s * 1e6:.1f} |")
            tables += f"\n### {kind.name}\n" + profile.table(profiled)
    return "\n".join(lines) + "\n" + tables


async def _measured(kind: Kind, directory: Path) -> tuple[float, cProfile.Profile]:
    """Seconds of processor time a request, in the best of the rounds, and the profile of the best of as many."""
    async with _running(directory) as running:
        play = _player(kind, *running)
        play()
        used_s = []
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
            began_s = process_time()
            play()
            used_s.append(process_time() - began_s)
        profiles = [_profile_of(play) for _ in range(_ROUNDS)]
    undisturbed = min(profiles, key=lambda each: pstats.Stats(each).total_tt)  # type: ignore[attr-defined]
    return min(used_s) / kind.requests, undisturbed


def _profile_of(play: Callable[[], None]) -> cProfile.Profile:
    with cProfile.Profile() as profiled:
        play()
    return profiled


@contextlib.asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[tuple[Any, _Pool]]:
    state = agent_state(directory / "agent", *range(1, _REPLICAS + 1))
    parser = ArgumentParser()
    limits.add_arguments(parser)
    process = GatewayProcess(
        Options(
            agent_state_dir=state.directory,
            state_dir=directory / "gateway",
            host="127.0.0.1",
            port=0,
            share_port=False,
            operator_networks=(ip_network("127.0.0.0/8"),),
            limits=limits.from_arguments(parser.parse_args([])),
        )
    )
    gateway: Any = process._gateway
    pool = process._context.pool = _Pool(process._context.cohort)
    stop = asyncio.Event()
    serving = asyncio.create_task(process.serve(stop))
    while process.address is None:  # noqa: ASYNC110  no event tells it
        await asyncio.sleep(0.01)
    yield gateway, pool
    stop.set()
    await serving


def _player(kind: Kind, gateway: Any, pool: _Pool) -> Callable[[], None]:
    clients = [ClientConnection(gateway) for _ in range(_CLIENTS)]
    sockets = [_Socket(client) for client in clients]
    requests = [_request(kind, number) for number in range(kind.requests)]
    answer = [upstream.SMALL_ANSWER]
    if kind.streams:
        answer = [upstream.STREAM_HEAD, *(upstream.event() for _ in range(_EVENTS)), upstream.STREAM_END]

    cohort, ledger = pool.cohort, gateway._context.ledger

    def end_turn() -> None:
        """As the loop would: what was gathered is handled, then what has become due is put down."""
        if cohort._answers or cohort._requests:
            cohort.handle()
        if ledger._is_due:
            ledger.write()

    def turn(begin: int) -> None:
        asked = range(begin, min(begin + _TURN, kind.requests))
        pool.taken.clear()
        for number in asked:
            clients[number % _CLIENTS].data_received(requests[number])
        end_turn()
        for data in answer:
            for replica in pool.taken:
                replica.data_received(data)
            end_turn()
        for number in asked:
            told = sockets[number % _CLIENTS].written
            assert told.startswith(b"HTTP/1.1 200 ") or kind.streams, told

    def play() -> None:
        for begin in range(0, kind.requests, _TURN):
            turn(begin)
        ledger.write()

    return play


def _request(kind: Kind, number: int) -> bytes:
    text = f"{number:05d} " + "word " * (kind.prompt_bytes // 5)
    asked = {"model": "chat", "max_tokens": 16, "stream": kind.streams}
    body = json.dumps({**asked, "messages": [{"role": "user", "content": text}]}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"user-agent: bench\r\nauthorization: Bearer {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
