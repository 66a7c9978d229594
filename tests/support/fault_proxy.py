"""A TCP proxy in front of one server, and what may go wrong on the way: silence, refusals, errors, by who calls.

A way that is cut is silent, as where packets are dropped: bytes wait, connections stay open, and when the way is whole
again what waited arrives. "One way" means the calls of one caller: what A opens to B hangs, what B opens to A goes on.
A caller is known by its process: the kernel says whose the calling socket is.

A server that is dead refuses connections, and so must a proxy in front of it: whoever kills one says so
(``goes_down``), and the proxy listens again once the server does.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LOOK_EVERY_S = 0.05


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that its other end can't take it for a proper end."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


#: Of Linux' sock_diag(7): one socket by its addresses. The table in /proc has all of them, and takes too long.
_SOCK_DIAG_BY_FAMILY, _REQUEST, _ALL_STATES, _ANY = 20, 1, 0xFFFFFFFF, 0xFFFFFFFF
_INODE_AT = 16 + 4 + 48 + 12 + 4


class Sockets:
    """The sockets of some processes, as the kernel has them now."""

    def __init__(self, pids: frozenset[int]) -> None:
        self._inodes = {inode for pid in pids for inode in _inodes(pid)}

    def own(self, port: int, to_port: int) -> bool:
        """Whether one of theirs goes from this port of ours to that one."""
        return bool(self._inodes) and str(_inode(port, to_port)) in self._inodes


def _inode(port: int, to_port: int) -> int:
    """Of the socket that goes from this port to that one, both of this machine; 0 if there is none."""
    here = socket.inet_aton("127.0.0.1") + bytes(12)
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    wanted += struct.pack("!HH", port, to_port) + here + here + struct.pack("=III", 0, _ANY, _ANY)
    head = struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(head + wanted)
        told = kernel.recv(4096)
    if struct.unpack_from("=H", told, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return 0
    return int(struct.unpack_from("=I", told, _INODE_AT)[0])


def _inodes(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(entry.readlink())
                if name.startswith("socket:["):
                    found.append(name[8:-1])
    return found


class _Half(asyncio.Protocol):
    """What it reads, the other half writes; while the way is cut it waits."""

    def __init__(self, way: "_Way", *, calls: bool) -> None:
        self.way, self.calls = way, calls
        self.transport: asyncio.Transport | None = None
        self.waiting = bytearray()
        self.ended: str = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.way.made(self)

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        if self.calls and not self.way.cut and (late_s := self.way.proxy.late_s()):
            self.way.hesitate(late_s)
        self.way.move(self)

    def eof_received(self) -> bool:
        self.ended = self.ended or "end"
        self.way.move(self)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.ended = "reset" if error else self.ended or "end"
        self.way.move(self)


class _Way:
    """One connection: the caller's half, and the server's."""

    def __init__(self, proxy: "FaultProxy") -> None:
        self.proxy = proxy
        self.near, self.far = _Half(self, calls=True), _Half(self, calls=False)
        self.cut = False
        self.joined = False

    def made(self, half: _Half) -> None:
        if not half.calls:
            self.joined = True
            self.move(self.near)
            return
        assert half.transport is not None
        self.proxy.ways.add(self)
        port = half.transport.get_extra_info("peername")[1]
        self.cut = self.proxy.cuts(port)
        self.proxy.run(self._join())

    async def _join(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, *self.proxy.target)
        except OSError:
            if self.near.transport is not None:
                reset(self.near.transport)

    def move(self, half: _Half) -> None:
        """Pass on what has come, unless the way is cut."""
        other = self.far if half.calls else self.near
        if self.near.transport is None and self.near.ended and not self.cut:
            self.proxy.ways.discard(self)
        if self.cut or not self.joined:
            return
        if half.calls and half.waiting and self.proxy.answers_errors and half.transport is not None:
            half.transport.write(_ERROR)
            half.transport.close()
            half.waiting.clear()
            return
        if other.transport is None or other.transport.is_closing():
            half.waiting.clear()
            if half.transport is not None and other.ended:
                half.transport.close()
            return
        if half.waiting:
            other.transport.write(bytes(half.waiting))
            half.waiting.clear()
        if half.ended == "reset":
            reset(other.transport)
        elif half.ended and half.transport is None:
            other.transport.close()
        elif half.ended and other.ended:
            for each in (half, other):
                if each.transport is not None:
                    each.transport.close()
        elif half.ended and other.transport.can_write_eof():
            other.transport.write_eof()

    def hesitate(self, late_s: float) -> None:
        """What was just sent arrives so much later."""
        self.cut = True
        asyncio.get_running_loop().call_later(late_s, self.mend)

    def mend(self) -> None:
        self.cut = False
        self.move(self.near)
        self.move(self.far)


class FaultProxy:
    """In front of ``target``.

    answers_errors: each request is answered 500 by the proxy
    hesitates:      asked of all that a caller sends: by how many seconds it is late; 0 for not at all
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.ways: set[_Way] = set()
        self.answers_errors = False
        self.hesitates: Callable[[], float] | None = None
        self._cut_for: frozenset[int] | None = frozenset()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """On a free port at first, later on the same one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Way(self).near, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def goes_down(self) -> None:
        """The server dies now: refuse until it listens again."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.run(self._listen_when_it_does())

    async def _listen_when_it_does(self) -> None:
        await asyncio.sleep(_LOOK_EVERY_S)  # in which the kernel gives its port up
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*self.target)
                writer.close()
                await self.listen()
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def cut(self, callers: frozenset[int] | None) -> None:
        """Silence for calls of these processes; ``None``: for all."""
        self._cut_for = callers
        sockets = Sockets(callers or frozenset())
        for way in self.ways:
            if way.near.transport is not None:
                port = way.near.transport.get_extra_info("peername")[1]
                way.cut = callers is None or sockets.own(port, self.port)

    def mend(self) -> None:
        """All is well again on the way."""
        self._cut_for, self.answers_errors = frozenset(), False
        for way in list(self.ways):
            way.mend()

    def cuts(self, port: int) -> bool:
        """Whether the caller at this port of ours gets silence."""
        if not self._cut_for:
            return self._cut_for is None
        return Sockets(self._cut_for).own(port, self.port)

    def late_s(self) -> float:
        return self.hesitates() if self.hesitates is not None else 0.0

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for way in list(self.ways):
            for half in (way.near, way.far):
                if half.transport is not None:
                    half.transport.abort()


@contextlib.asynccontextmanager
async def fault_proxy(port: int) -> AsyncIterator[FaultProxy]:
    """A proxy to ``port`` of this machine while the block runs."""
    made = FaultProxy(("127.0.0.1", port))
    await made.listen()
    try:
        yield made
    finally:
        made.close()
