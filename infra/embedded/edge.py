"""The edge: one address in front of the regions' gateways, as anycast or a cloud's load balancer would be.

    python -m infra.embedded.edge --listen HOST:PORT --backend HOST:PORT [--backend HOST:PORT ...]

Plain TCP: it reads nothing of what it carries. Backends are given nearest first; a new connection goes to
the first that is healthy (``GET /readyz`` answers 200), the next one if connecting fails, and any at all if
none is healthy, since a check may be wrong and a refused client is lost for sure. What a connection was
given it keeps: a broken stream is the gateways' business, and the client sees it broken, not ended.

How fast it notices a dead region is stated: a refused connect moves clients at once. A gateway that takes
connections and answers nothing is left after two checks, at most 2 s; what it holds is cut `_CUT_AFTER_S` after
its last answer, so that clients send it again elsewhere instead of waiting for ever: at most 3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import struct
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

_log = logging.getLogger("edge")

_CHECK_EVERY_S = 0.25
_CHECK_WITHIN_S = 0.75  # longer than any pause that a sound process takes
_FAILURES_TO_LEAVE = 2
_CUT_AFTER_S = 2.25
_CONNECT_WITHIN_S = 1.0
_MOST_CONNECTIONS = 8192
_HIGH_WATER_BYTES = 256 * 1024
_DRAIN_WITHIN_S = 20.0
_DRAIN_IDLE_S = 2.0


@dataclass
class Backend:
    """One gateway, as its checks see it."""

    host: str
    port: int
    healthy: bool = False
    failures: int = 0
    answered_at: float = field(default_factory=time.monotonic)

    def note(self, succeeded: bool) -> None:
        """Take in one check: one success is enough to come, two failures in a row to leave."""
        self.failures = 0 if succeeded else self.failures + 1
        healthy = succeeded or (self.healthy and self.failures < _FAILURES_TO_LEAVE)
        if healthy != self.healthy:
            _log.info("%s:%d is %s", self.host, self.port, "healthy" if healthy else "unhealthy")
        self.healthy = healthy

    def note_refused(self) -> None:
        """A client's connect failed: no need to wait for the next check."""
        self.failures = _FAILURES_TO_LEAVE - 1
        self.note(succeeded=False)


class _Side(asyncio.Protocol):
    """One half of a carried connection: what it reads, the other half writes, no faster than that half's
    socket takes it; an end of what it reads ends only what the other half writes.
    """

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.has_ended = False
        self.moved_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        self.moved_at = time.monotonic()
        if other := self._open_other():
            other.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        other = self._open_other()
        if other is None:
            return False
        if self.other and self.other.has_ended:
            other.close()
            return False
        other.write_eof()
        return True

    def pause_writing(self) -> None:
        if other := self._open_other():
            other.pause_reading()

    def resume_writing(self) -> None:
        if other := self._open_other():
            other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        other, self.other = self.other, None
        if other and other.transport:
            # A reset must arrive as a reset: a truncated answer must not look like an ended one.
            if error is None:
                other.transport.close()
            else:
                _reset(other.transport)

    def _open_other(self) -> asyncio.Transport | None:
        transport = self.other.transport if self.other else None
        return None if transport is None or transport.is_closing() else transport


class _Client(_Side):
    """The half towards the client. What it reads before it has a backend waits here, one read at most:
    pausing in `connection_made` would do nothing, as uvloop begins to read after it.
    """

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self.early = b""
        self.backend: Backend | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is None or len(self.edge.clients) >= _MOST_CONNECTIONS:
            transport.close()
            return
        self.edge.clients.add(self)
        self.edge.run(self.edge.carry(self))

    def data_received(self, data: bytes) -> None:
        if self.other or self.transport is None:
            super().data_received(data)
            return
        self.early += data
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.other:
            return super().eof_received()
        self.has_ended = True
        return True

    def join(self, side: _Side) -> None:
        """From now on carry to and from this backend."""
        self.other = side
        if self.transport is None or side.transport is None:
            return
        if self.early:
            side.transport.write(self.early)
            self.early = b""
        if self.has_ended:
            side.transport.write_eof()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.edge.clients.discard(self)
        super().connection_lost(error)


@dataclass
class Edge:
    """A listening edge and its backends, nearest first."""

    backends: list[Backend]
    clients: set[_Client] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Check every backend once, listen, and go on checking until `drain`."""
        await asyncio.gather(*(self._check(backend) for backend in self.backends))
        for backend in self.backends:
            self.run(self._check_for_ever(backend))
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Client(self), host, port, backlog=1024)

    async def drain(self) -> None:
        """Wait until every connection has ended or is idle, at most `_DRAIN_WITHIN_S`; then end them."""
        deadline = time.monotonic() + _DRAIN_WITHIN_S
        while self.clients and time.monotonic() < deadline:
            idle_since = time.monotonic() - _DRAIN_IDLE_S
            for client in list(self.clients):
                sides = (client, client.other or client)
                if client.transport and max(side.moved_at for side in sides) < idle_since:
                    client.transport.close()
            await asyncio.sleep(0.05)
        for task in self._tasks:
            task.cancel()

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run something beside; kept, so that it isn't collected half-way."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def carry(self, client: _Client) -> None:
        """Join a client with the first backend that takes it."""
        loop = asyncio.get_running_loop()
        for backend in sorted(self.backends, key=lambda backend: not backend.healthy):
            side = _Side(self)
            side.other = client  # from its first byte on, which may come before we are told it is connected
            try:
                async with asyncio.timeout(_CONNECT_WITHIN_S):
                    await loop.create_connection(partial(_same, side), backend.host, backend.port)
            except OSError:
                backend.note_refused()
                continue
            if client.transport is None or side.transport is None:
                if side.transport:
                    side.transport.abort()
                return
            client.backend = backend
            client.join(side)
            return
        if client.transport:
            client.transport.abort()

    async def _check_for_ever(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await self._check(backend)

    async def _check(self, backend: Backend) -> None:
        try:
            async with asyncio.timeout(_CHECK_WITHIN_S):
                is_ready = await _is_ready(backend)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            backend.note(succeeded=False)
            self._cut_if_silent(backend)
        else:
            backend.answered_at = time.monotonic()
            backend.note(is_ready)

    def _cut_if_silent(self, backend: Backend) -> None:
        """End what a silent backend holds, if there is a healthy one to go to; one that is unready finishes it."""
        silent_s = time.monotonic() - backend.answered_at
        if silent_s < _CUT_AFTER_S or not any(other.healthy for other in self.backends):
            return
        held = [client for client in self.clients if client.backend is backend and client.transport]
        if held:
            _log.info("%s:%d is silent: %d connections cut", backend.host, backend.port, len(held))
        for client in held:
            if client.transport:
                _reset(client.transport)


async def _is_ready(backend: Backend) -> bool:
    reader, writer = await asyncio.open_connection(backend.host, backend.port, limit=8192)
    try:
        host = f"{backend.host}:{backend.port}"
        writer.write(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status_line = await reader.readuntil(b"\r\n")
    finally:
        writer.close()
    return status_line.split(b" ")[1:2] == [b"200"]


def _same(side: _Side) -> _Side:
    return side


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _run(listen: tuple[str, int], backends: list[Backend]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    edge = Edge(backends)
    server = await edge.serve(*listen)
    await ended.wait()
    server.close()
    await edge.drain()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write HOST:PORT")
    return host, int(port)


def main() -> None:
    """Run an edge from the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.edge", description="TCP edge")
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--backend", type=_address, required=True, action="append", metavar="HOST:PORT")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        uvloop.run(_run(options.listen, [Backend(host, port) for host, port in options.backend]))
    except OSError as error:
        sys.exit(f"edge: can't listen on {options.listen[0]}:{options.listen[1]}: {error.strerror or error}")


if __name__ == "__main__":
    main()
