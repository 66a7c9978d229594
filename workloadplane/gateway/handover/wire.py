"""Messages between processes of one gateway: length and MessagePack, file descriptors with the first byte.

Every process has a unix socket in the gateway's state directory, ``process-<index>.sock``, which only this user
may use. A conversation is short: a connection carries one request and what belongs to it.
"""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

VERSION = 1
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_PATH_BYTES_MAX = 100
_LENGTH_BYTES = 4


class TakeOver(msgspec.Struct, frozen=True, kw_only=True, tag="take_over"):
    """A successor asks for the listening socket."""

    pid: int
    version: int = VERSION


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag="listening"):
    """Its descriptor comes with this. Both serve until the successor says ``Serving``, or is gone."""

    pid: int


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag="ending"):
    """It was told to end and listens no more: listen anew. Until it has ended it passes on what it can."""

    pid: int


class Serving(msgspec.Struct, frozen=True, kw_only=True, tag="serving"):
    """The successor accepts: stop accepting, finish, end."""


class PassedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read but not begun."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    http_1_0: bool
    is_upgrade: bool
    keep_alive: bool
    head_only: bool


class Pass(msgspec.Struct, frozen=True, kw_only=True, tag="pass"):
    """A client's connection, whose descriptor comes with this; without a request it is idle."""

    request: PassedRequest | None


class Loads(msgspec.Struct, frozen=True, kw_only=True, tag="loads"):
    """What the process with this index has of every revision (``gateway.loads``). It is not answered."""

    index: int
    told: bytes


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The answer: ``refused`` says why not, empty if it was taken."""

    refused: str = ""


Message = TakeOver | Listening | Ending | Serving | Pass | Loads | Done
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """With its length in front."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


class Reader:
    """Gathers one message. ``fds``: what came with it; whoever does not use them closes them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.fds: list[int] = []

    def take(self) -> Message | None:
        """The message once it is whole. Raises ValueError for what is none."""
        if len(self.data) < _LENGTH_BYTES:
            return None
        end = _LENGTH_BYTES + int.from_bytes(self.data[:_LENGTH_BYTES], "big")
        if end > MESSAGE_BYTES_MAX:
            raise ValueError("message too long")
        if len(self.data) < end:
            return None
        message: Message = _decoder.decode(self.data[_LENGTH_BYTES:end])
        del self.data[:end]
        return message

    def take_fd(self) -> int:
        """The descriptor that came along. Raises ValueError if there is none."""
        if not self.fds:
            raise ValueError("no descriptor came along")
        return self.fds.pop(0)

    def close(self) -> None:
        """Close what nobody took."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def socket_path(state_dir: Path, index: int) -> Path:
    """Where the process with this index is asked."""
    return state_dir / f"process-{index}.sock"


def bind(path: Path) -> socket.socket:
    """Listen at ``path``, in the place of whoever did so before. Raises OSError.

    The socket gets its name only when it is complete, and only this user may connect.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as private:
        newborn = Path(private) / path.name
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(newborn) as address:
                listener.bind(address)
            newborn.chmod(0o600)
            listener.listen(1024)
            listener.setblocking(False)
            newborn.rename(path)
        except OSError:
            listener.close()
            raise
    return listener


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """A connection, or OSError. ``None``: a socket that never blocks (connecting to a unix socket does not)."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(0.0 if timeout_s is None else timeout_s)
        with _short(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path, or where it is too long for a unix socket a short name of it. Raises OSError without one."""
    text = str(path)
    if len(os.fsencode(text)) <= _PATH_BYTES_MAX or sys.platform != "linux":
        yield text
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
