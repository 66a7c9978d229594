"""A new process takes over from the one that serves: in two steps, so that a failed start changes nothing.

It asks for the listening socket and gets its descriptor: one socket with one accept queue, which both now hold, so
no connection is refused or lost whichever of them accepts it. When it accepts itself it says so; only then does
the old one stop. If it dies before, the old one has noticed nothing. One that was told to end has no socket left to
give; its heir listens anew and gets the connections that are idle.
"""

import os
import socket
from pathlib import Path

from workloadplane.gateway.handover.wire import (
    Done,
    Ending,
    Listening,
    Message,
    Reader,
    Serving,
    TakeOver,
    connect,
    encode,
    socket_path,
)

_ANSWER_S = 5.0


class Heir:
    """A succession under way.

    listener: the shared listening socket; ``None`` from one that listens no more
    old_pid:  whom it is from
    """

    def __init__(self, connection: socket.socket, listener: socket.socket | None, old_pid: int) -> None:
        self._connection = connection
        self.listener = listener
        self.old_pid = old_pid

    def confirm(self) -> None:
        """We accept: let the old one stop. Raises OSError when it is gone, which is as good."""
        try:
            self._connection.sendall(encode(Serving()))
            _receive(self._connection)
        finally:
            self._connection.close()

    def decline(self) -> None:
        """We shall not serve after all: the old one goes on as if nobody had asked."""
        self._connection.close()
        if self.listener is not None:
            self.listener.close()


def ask(state_dir: Path, index: int) -> Heir | None:
    """Ask the process that serves; ``None`` if there is none. Blocks a few seconds at most: it is called at start.

    Raises OSError or ValueError if there is one and it does not hand over.
    """
    try:
        connection = connect(socket_path(state_dir, index), _ANSWER_S)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    try:
        connection.sendall(encode(TakeOver(pid=os.getpid())))
        message, reader = _receive(connection)
    except (OSError, ValueError):
        connection.close()
        raise
    if isinstance(message, Ending):
        return Heir(connection, None, message.pid)
    if not isinstance(message, Listening) or not reader.fds:
        connection.close()
        raise OSError(f"the process that serves does not hand over: {message}")
    listener = socket.socket(fileno=reader.take_fd())
    listener.setblocking(False)
    return Heir(connection, listener, message.pid)


def _receive(connection: socket.socket) -> tuple[Message, Reader]:
    reader = Reader()
    while True:
        data, fds, _, _ = socket.recv_fds(connection, 65536, 1)
        reader.fds += fds
        if not data:
            return Done(refused="it ended"), reader
        reader.data += data
        message = reader.take()
        if message is not None:
            return message, reader
