"""A process's own unix socket, at which its successor and its siblings ask."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from workloadplane.gateway.handover.wire import (
    VERSION,
    Done,
    Ending,
    Listening,
    Loads,
    Message,
    Pass,
    Reader,
    Serving,
    TakeOver,
    bind,
    encode,
    socket_path,
)

_log = structlog.get_logger(__name__)
_PATIENCE_S = 60.0


class Desk:
    """Owns the socket.

    full:         whether no connection can be taken now
    adopt:        takes a passed connection
    on_succeeded: a successor serves
    on_loads:     takes what a sibling has
    """

    def __init__(
        self,
        state_dir: Path,
        index: int,
        *,
        full: Callable[[], bool],
        adopt: Callable[[Pass, socket.socket], None],
        on_succeeded: Callable[[], None],
        on_loads: Callable[[int, bytes], None],
    ) -> None:
        self._path = socket_path(state_dir, index)
        self._full = full
        self._adopt = adopt
        self._on_succeeded = on_succeeded
        self._on_loads = on_loads
        self._loop = asyncio.get_running_loop()
        self._own: socket.socket | None = None
        self._own_inode = 0
        self._listener: socket.socket | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._has_heir = False
        self._succeeded = False

    def open(self, listener: socket.socket) -> None:
        """Answer from now on; ``listener`` is what a successor gets. Raises OSError."""
        self._listener = listener
        self._own = own = bind(self._path)
        self._own_inode = self._path.stat().st_ino
        self._loop.add_reader(own.fileno(), self._accept, own)

    def on_listener_closed(self) -> None:
        """There is nothing to hand over any more."""
        self._listener = None

    def close(self) -> None:
        """Answer no more; the name stays if it is another process's by now."""
        own, self._own = self._own, None
        if own is not None:
            self._loop.remove_reader(own.fileno())
            own.close()
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._own_inode:
                    self._path.unlink()
        for talk in self._talks:
            talk.cancel()

    def _accept(self, own: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = own.accept()
            connection.setblocking(False)
            talk = self._loop.create_task(self._talk(connection))
            self._talks.add(talk)
            talk.add_done_callback(self._talks.discard)

    async def _talk(self, connection: socket.socket) -> None:
        reader = Reader()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                message = await self._receive(connection, reader)
                if isinstance(message, Pass):
                    await self._take(connection, reader, message)
                elif isinstance(message, Loads):
                    self._on_loads(message.index, message.told)
                elif isinstance(message, TakeOver):
                    await self._hand_over(connection, reader, message)
        except (OSError, ValueError, TimeoutError) as error:
            _log.warning("talk between processes broke off", reason=str(error)[:200])
        finally:
            reader.close()
            connection.close()

    async def _receive(self, connection: socket.socket, reader: Reader) -> Message:
        while (message := reader.take()) is None:
            await self._readable(connection)
            data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 1)
            reader.fds += fds
            if not data:
                raise ConnectionError("it ended in mid-sentence")
            reader.data += data
        return message

    async def _readable(self, connection: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(connection.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(connection.fileno())

    async def _take(self, connection: socket.socket, reader: Reader, message: Pass) -> None:
        taken = socket.socket(fileno=reader.take_fd())
        taken.setblocking(False)
        if self._full():
            taken.close()
            await self._loop.sock_sendall(connection, encode(Done(refused="it takes no more")))
            return
        try:
            # The answer comes first: a sender that waits no more has closed the talk, and still has the client.
            await self._loop.sock_sendall(connection, encode(Done()))
        except OSError:
            taken.close()
            raise
        self._adopt(message, taken)

    async def _hand_over(self, connection: socket.socket, reader: Reader, asked: TakeOver) -> None:
        """One heir at a time: two would both serve, and only one of them could be found by the next."""
        if self._has_heir or self._succeeded or asked.version != VERSION:
            told = encode(Done(refused="it is handing over already, or speaks another version"))
            await self._loop.sock_sendall(connection, told)
            return
        self._has_heir = True
        try:
            await self._offer(connection)
            message = await self._receive(connection, reader)
        finally:
            self._has_heir = False
        if isinstance(message, Serving):
            self._succeeded = True
            _log.info("a successor serves", successor_pid=asked.pid)
            await self._loop.sock_sendall(connection, encode(Done()))
            self._on_succeeded()

    async def _offer(self, connection: socket.socket) -> None:
        if self._listener is None:
            await self._loop.sock_sendall(connection, encode(Ending(pid=os.getpid())))
            return
        told = encode(Listening(pid=os.getpid()))
        sent = socket.send_fds(connection, [told], [self._listener.fileno()])
        await self._loop.sock_sendall(connection, told[sent:])
