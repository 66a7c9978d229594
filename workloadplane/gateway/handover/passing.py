"""A client's connection goes to another process: its descriptor, and the request that was read but not begun.

The sender stops reading first, so whatever the client sends next waits in the kernel for the receiver; it lets go
only when the receiver has it all. If the receiver does not answer, nothing has happened and the sender goes on.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from workloadplane.gateway.handover.wire import Done, Pass, PassedRequest, Reader, connect, encode
from workloadplane.gateway.reader import Request
from workloadplane.gateway.server import ClientConnection

_ANSWER_S = 2.0


class Passing:
    """One connection on its way. It is the connection's exchange meanwhile; nothing comes of a client that goes."""

    def __init__(self, connection: ClientConnection, request: Request | None, path: Path) -> None:
        self._connection = connection
        self._request = request
        self._path = path
        self._gone = False

    def start(self, loop: asyncio.AbstractEventLoop, otherwise: Callable[[], None]) -> "asyncio.Task[bool]":
        """Pass it on; ``otherwise`` if that fails and the client is still there. The task's result: passed."""
        self._connection.attach(self)
        self._connection.pause()
        return loop.create_task(self._run(loop, otherwise))

    async def _run(self, loop: asyncio.AbstractEventLoop, otherwise: Callable[[], None]) -> bool:
        passed = False
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                passed = await self._send(loop)
        if passed:
            self._connection.let_go()
        elif not self._gone:
            self._connection.keep()
            otherwise()
        return passed

    async def _send(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the receiver has it. A receiver that is too late finds the talk closed and takes nothing."""
        # A copy of the descriptor: the client may go while we wait, and the number be another's.
        copy = os.dup(self._connection.fileno())
        try:
            with connect(self._path, None) as other:
                told = encode(Pass(request=_packed(self._request)))
                sent = socket.send_fds(other, [told[:65536]], [copy])
                await loop.sock_sendall(other, told[sent:])
                reader = Reader()
                try:
                    while (answer := reader.take()) is None:
                        data = await loop.sock_recv(other, 4096)
                        if not data:
                            return False
                        reader.data += data
                except asyncio.CancelledError:
                    other.shutdown(socket.SHUT_RDWR)
                    with contextlib.suppress(BlockingIOError):
                        reader.data += other.recv(4096)  # said, but not heard yet
                    answer = reader.take()
                    if answer is None:
                        raise
                return isinstance(answer, Done) and not answer.refused
        finally:
            os.close(copy)

    def on_client_gone(self) -> None:
        self._gone = True

    def on_client_full(self) -> None:
        """Nothing is being sent."""

    def on_client_ready(self) -> None:
        """Nothing is being sent."""

    def on_client_eof(self) -> None:
        """The receiver will see it."""


def _packed(request: Request | None) -> PassedRequest | None:
    if request is None:
        return None
    return PassedRequest(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        body=request.body,
        http_1_0=request.http_1_0,
        is_upgrade=request.is_upgrade,
        keep_alive=request.keep_alive,
        head_only=request.head_only,
    )


def unpacked(passed: PassedRequest) -> Request:
    """The request as the receiver handles it: it is served there, wherever it belongs."""
    return Request(
        method=passed.method,
        path=passed.path,
        query=passed.query,
        headers=passed.headers,
        body=passed.body,
        http_1_0=passed.http_1_0,
        is_upgrade=passed.is_upgrade,
        keep_alive=passed.keep_alive,
        head_only=passed.head_only,
        was_passed=True,
    )
