"""WebSocket for a simulated engine: the server's half of RFC 6455, without extensions. No I/O.

Bytes in through ``feed``, bytes out through the ``write`` it was given; messages go to its ``Peer``.
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Protocol

MAX_MESSAGE_BYTES = 1024 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Peer(Protocol):
    """Who speaks over the socket."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""

    def on_message(self, message: bytes) -> None:
        """A whole message came."""

    def on_gone(self) -> None:
        """The other side has closed, or is lost."""


class WebSocket:
    """One socket. ``end`` closes the connection once what was written has gone out."""

    def __init__(self, write: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._write = write
        self._end = end
        self._data = bytearray()
        self._message = bytearray()
        self._fragmented = False
        self._closed = False
        self.peer: Peer | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered on it."""
        return self.peer is None or self.peer.is_idle

    def send(self, text: bytes) -> None:
        """Send a text message."""
        if not self._closed:
            self._write(_frame(_TEXT, text))

    def close(self, code: int, reason: str = "") -> None:
        """Say why and end."""
        if not self._closed:
            self._closed = True
            self._write(_frame(_CLOSE, code.to_bytes(2, "big") + reason.encode()[:123]))
            self._end()

    def gone(self) -> None:
        """The connection is lost."""
        self._closed = True
        if self.peer is not None:
            self.peer.on_gone()

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._data += data
        while not self._closed:
            frame = self._next_frame()
            if frame is None:
                return
            self._take(*frame)

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        length, at = data[1] & 0x7F, 2
        extended = {126: 2, 127: 8}.get(length, 0)
        if len(data) < at + extended:
            return None
        if extended:
            length = int.from_bytes(data[at : at + extended], "big")
            at += extended
        if not data[1] & 0x80 or data[0] & 0x70:
            self.close(1002, "frames of clients are masked and have no reserved bits")
            return None
        if length + len(self._message) > MAX_MESSAGE_BYTES:
            self.close(1009, f"more than {MAX_MESSAGE_BYTES} bytes")
            return None
        end = at + 4 + length
        if len(data) < end:
            return None
        first, key, payload = data[0], bytes(data[at : at + 4]), bytes(data[at + 4 : end])
        del data[:end]
        return first, _unmasked(payload, key)

    def _take(self, first: int, payload: bytes) -> None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if opcode == _PING:
            self._write(_frame(_PONG, payload))
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1000
            self.close(code)
        elif opcode in (_TEXT, _BINARY, _CONTINUATION):
            if (opcode == _CONTINUATION) != self._fragmented:
                self.close(1002, "message in the wrong order")
                return
            self._message += payload
            self._fragmented = not final
            if final and self.peer is not None:
                message, self._message = bytes(self._message), bytearray()
                self.peer.on_message(message)
        elif opcode != _PONG:
            self.close(1002, "unknown opcode")


def accept(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a client's key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, length))
    elif length < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big")
    return head + payload


def _unmasked(payload: bytes, key: bytes) -> bytes:
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")
