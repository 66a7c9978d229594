"""Writing to standard output and error without ever waiting for whoever reads them.

Whether a write waits is a property of what was opened, which other processes share: so a pipe or a terminal is opened
anew, a socket is asked for each write not to wait, and what can be had neither way is asked beforehand whether it has
room.
"""

import contextlib
import io
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import TextIO

#: As much fits into whatever says that it can be written to, and is taken whole or not at all (POSIX: PIPE_BUF).
_ROOM_BYTES = select.PIPE_BUF
_Bytes = bytes | bytearray


class Outlet:
    """One way out. ``close`` it; the stream that it was made of stays as it is."""

    __slots__ = ("_close", "_write")

    def __init__(self, write: Callable[[_Bytes], int], close: Callable[[], None]) -> None:
        self._write = write
        self._close = close

    def write(self, data: _Bytes) -> int:
        """How much of it was taken. Raises BlockingIOError when nothing is now, OSError when nobody reads any more."""
        return self._write(data)

    def close(self) -> None:
        self._close()


def outlet_of(stream: TextIO | None) -> Outlet:
    """A way out to where the stream goes; nowhere if it is closed."""
    try:
        descriptor = os.dup(stream.fileno()) if stream is not None else -1
    except (OSError, ValueError):
        descriptor = -1
    if descriptor < 0:
        return Outlet(len, lambda: None)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return _to_socket(socket.socket(fileno=descriptor))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            anew = os.open(f"/proc/self/fd/{descriptor}", flags)
            os.close(descriptor)
            return Outlet(_lines_whole(lambda data: os.write(anew, data)), lambda: os.close(anew))
    return Outlet(lambda data: _write_if_room(descriptor, data), lambda: os.close(descriptor))


def _to_socket(made: socket.socket) -> Outlet:
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    return Outlet(_lines_whole(lambda data: made.send(data, flags)), made.close)


def _lines_whole(write: Callable[[_Bytes], int]) -> Callable[[_Bytes], int]:
    """``write`` in pieces that are taken whole, so that no line of another process gets into the midst of one.

    A line longer than such a piece goes by itself, and may be cut.
    """

    def pieces(data: _Bytes) -> int:
        taken = 0
        while taken < len(data):
            end = (
                data.rfind(b"\n", taken, taken + _ROOM_BYTES) + 1 or data.find(b"\n", taken) + 1 or len(data)
            )
            try:
                written = write(data[taken:end])
            except BlockingIOError:
                if taken:
                    return taken
                raise
            taken += written
            if taken < end:
                return taken
        return taken

    return pieces


def _write_if_room(descriptor: int, data: _Bytes) -> int:
    asked = select.poll()
    asked.register(descriptor, select.POLLOUT)
    if not asked.poll(0):
        raise BlockingIOError
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.write(descriptor, data)
    return os.write(descriptor, data[:_ROOM_BYTES])


class Lines(io.TextIOBase):
    """Whole lines to an outlet; those for which there is no room are lost, and none is cut."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self._half = b""  # the rest of a line that has begun

    def write(self, text: str) -> int:
        """Take a line, or lose it."""
        line = text.encode()
        try:
            if self._half:
                self._half = self._half[self._outlet.write(self._half) :]
            if not self._half:
                self._half = line[self._outlet.write(line) :]
        except OSError:
            pass
        return len(text)
