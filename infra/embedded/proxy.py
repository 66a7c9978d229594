"""A TCP proxy in front of one server, and what may go wrong on the way: silence, delays, errors, as its rules say.

Bytes are passed on in their order, late by the delay that was in force when they came. A way that is cut is silent, as
where packets are dropped: bytes wait, connections stay open, and when the way is whole again what waited arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast

#: Held of one direction of one connection before no more is read from it.
_HELD_BYTES_MAX = 1024 * 1024


class Rules:
    """What is wrong on the ways of one proxy: nothing, unless a method says otherwise. Each is asked time and again."""

    def opened(self, way: Way) -> None:
        """Somebody calls."""

    def heard(self, way: Way, data: bytes) -> None:
        """The caller has said this."""

    def cuts(self, way: Way) -> bool:
        """Whether it gets silence, in both directions."""
        return False

    def delay_s(self, way: Way, *, calls: bool) -> float:
        """By how much bytes that come now are late; ``calls``: the caller's, else the server's."""
        return 0.0

    def answer(self, way: Way) -> bytes | None:
        """What is answered instead of the server, which is not asked."""
        return None


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that its other end can't take it for a proper end."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Half(asyncio.Protocol):
    """One end of a connection: what it reads, the other half writes.

    waiting: what was read and when it is due; ended: empty, ``end`` or ``reset``, due at ``end_at``
    is_full: it takes no more for now
    """

    def __init__(self, way: Way, *, calls: bool) -> None:
        self.way, self.calls = way, calls
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0
        self.ended, self.end_at = "", 0.0
        self.is_full = False
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.way.made(self)

    def data_received(self, data: bytes) -> None:
        if self.calls:
            self.way.proxy.rules.heard(self.way, data)
        self.waiting.append((self._due(), data))
        self.waiting_bytes += len(data)
        self.way.move(self)
        self.read_on()

    def eof_received(self) -> bool:
        self._ends("end")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._ends("reset" if error else self.ended or "end")

    def pause_writing(self) -> None:
        self.is_full = True
        self.way.other(self).read_on()

    def resume_writing(self) -> None:
        self.is_full = False
        self.way.other(self).read_on()

    def read_on(self) -> None:
        """Read from here, or no more until what was read is passed on."""
        if self.transport is None or self.transport.is_closing() or self.ended:
            return
        if self.waiting_bytes > _HELD_BYTES_MAX or self.way.other(self).is_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def taken(self, now: float) -> bytes:
        """All that is due."""
        due = []
        while self.waiting and self.waiting[0][0] <= now:
            due.append(self.waiting.popleft()[1])
        data = b"".join(due)
        self.waiting_bytes -= len(data)
        return data

    def drop(self) -> None:
        self.waiting.clear()
        self.waiting_bytes = 0

    def _due(self) -> float:
        delay_s = self.way.proxy.rules.delay_s(self.way, calls=self.calls)
        return asyncio.get_running_loop().time() + delay_s

    def _ends(self, how: str) -> None:
        if how != self.ended:
            self.ended, self.end_at = how, self._due()
        self.way.move(self)


class Way:
    """One connection: the caller's half, and the server's. ``caller``: who calls, as far as the rules know it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.near, self.far = _Half(self, calls=True), _Half(self, calls=False)
        self.caller = ""
        self._joined = False

    @property
    def caller_port(self) -> int:
        """Of this machine; 0 where the caller has gone."""
        transport = self.near.transport
        return int(transport.get_extra_info("peername")[1]) if transport is not None else 0

    @property
    def waits(self) -> bool:
        """Whether something has come that is not passed on yet."""
        return bool(self.near.waiting or self.far.waiting)

    def other(self, half: _Half) -> _Half:
        return self.far if half.calls else self.near

    def made(self, half: _Half) -> None:
        if half.calls:
            self.proxy.ways.add(self)
            self.proxy.rules.opened(self)
            self.proxy.run(self._join())
        else:
            self._joined = True
            self.move(self.near)

    async def _join(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, *self.proxy.target)
        except OSError:
            if self.near.transport is not None:
                reset(self.near.transport)

    def go_on(self) -> None:
        """What is wrong has changed."""
        self.move(self.near)
        self.move(self.far)

    def move(self, half: _Half) -> None:
        """Pass on what has come and is due, unless the way is cut."""
        is_cut = self.proxy.rules.cuts(self)
        if self.near.transport is None and self.near.ended and not is_cut:
            self.proxy.ways.discard(self)
        if is_cut or not self._joined or self._answered(half):
            return
        other = self.other(half)
        if other.transport is None or other.transport.is_closing():
            half.drop()
            if half.transport is not None and other.ended:
                half.transport.close()
            return
        now = asyncio.get_running_loop().time()
        if data := half.taken(now):
            other.transport.write(data)
            half.read_on()
        if half.waiting:
            self._look_again(half, half.waiting[0][0])
        elif half.ended and half.end_at > now:
            self._look_again(half, half.end_at)
        elif half.ended:
            self._end(half, other.transport)

    def _answered(self, half: _Half) -> bool:
        if not (half.calls and half.waiting and half.transport is not None):
            return False
        answer = self.proxy.rules.answer(self)
        if answer is None:
            return False
        half.transport.write(answer)
        half.transport.close()
        half.drop()
        return True

    def _look_again(self, half: _Half, at: float) -> None:
        def due() -> None:
            half.timer = None
            self.move(half)

        if half.timer is None:
            half.timer = asyncio.get_running_loop().call_at(at, due)

    def _end(self, half: _Half, to: asyncio.Transport) -> None:
        """Pass the end on as it came: a reset, an end of both, or of one direction."""
        if half.ended == "reset":
            reset(to)
        elif half.transport is None:
            to.close()
        elif self.other(half).ended:
            half.transport.close()
            to.close()
        elif to.can_write_eof():
            to.write_eof()


class Proxy:
    """In front of ``target``; ``port``: 0 lets the system choose one when it listens first."""

    def __init__(self, target: tuple[str, int], rules: Rules, port: int = 0) -> None:
        self.target, self.rules, self.port = target, rules, port
        self.ways: set[Way] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Way(self).near, self.target[0], self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def listens(self) -> bool:
        return self._server is not None

    def refuse(self) -> None:
        """Take no more connections; those that there are go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def changed(self) -> None:
        """The rules say something else now: whoever waited looks again."""
        for way in list(self.ways):
            way.go_on()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside the proxy, until that is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Break what is still carried."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        for way in list(self.ways):
            for half in (way.near, way.far):
                if half.timer is not None:
                    half.timer.cancel()
                if half.transport is not None:
                    half.transport.abort()
