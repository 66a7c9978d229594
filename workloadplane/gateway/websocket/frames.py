"""Frame headers of one direction (RFC 6455, section 5), read as the bytes go by. Pure.

What ``feed`` returns may go on: whole headers and whatever of their payloads has come. A header that is cut is
held back until it is whole (14 bytes at most), so that what has gone on ends before a wrong frame, never inside
its header, and a Close frame of our own can follow it.
"""

from struct import Struct
from typing import Protocol

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
POLICY = 1008
TOO_BIG = 1009
INTERNAL = 1011
RESTART = 1012
TRY_LATER = 1013

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_DATA = frozenset({_CONTINUATION, _TEXT, _BINARY})
_CONTROL = frozenset({_CLOSE, _PING, _PONG})
_WHOLE_DATA = frozenset({0x80 | _TEXT, 0x80 | _BINARY})
_WHOLE_PINGS = frozenset({0x80 | _PING, 0x80 | _PONG})
_CONTROL_BYTES_MAX = 125
_REASON_BYTES_MAX = _CONTROL_BYTES_MAX - 2
_U16 = Struct(">H")
_U64 = Struct(">Q")


class FrameError(Exception):
    """A frame that may not go on. ``code``: of the Close frame that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Reader(Protocol):
    """Who reads messages as they pass. Payloads that are masked are given so."""

    def begin(self, first: int) -> None:
        """A message begins; ``first``: the first byte of its first frame."""

    def feed(self, piece: bytes) -> None:
        """Some of its payload."""

    def end(self) -> None:
        """It is whole."""


class FrameScanner:
    """One direction's. ``masked``: the client's; ``reserved_bits``: an extension that uses them was agreed on.

    boundary: where the last frame that ended in the bytes ``feed`` returned ended, -1 if none did
    active:   whether the last ``feed`` brought a part of a data frame; pings show that the ends live, not that
              they are in use
    closed:   a Close frame has begun
    error:    why nothing goes on any more
    """

    __slots__ = (
        "_cut",
        "_ends_message",
        "_fragmented",
        "_in_data",
        "_left",
        "_masked",
        "_message_bytes",
        "_message_bytes_max",
        "_reader",
        "_reserved_bits",
        "active",
        "boundary",
        "closed",
        "error",
        "frames",
        "messages",
        "payload_bytes",
        "whole_messages",
    )

    def __init__(
        self, *, masked: bool, reserved_bits: bool, message_bytes_max: int, reader: Reader | None = None
    ) -> None:
        self._reader = reader
        self._masked = masked
        self._reserved_bits = reserved_bits
        self._message_bytes_max = message_bytes_max
        self._cut = b""
        self._left = 0
        self._in_data = False
        self._fragmented = False
        self._ends_message = False
        self._message_bytes = 0
        self.boundary = -1
        self.active = False
        self.closed = False
        self.error: FrameError | None = None
        self.frames = 0
        self.messages = 0
        self.whole_messages = 0
        self.payload_bytes = 0

    @property
    def at_boundary(self) -> bool:
        """Whether what has gone on ends with a whole frame."""
        return not self._left

    @property
    def at_rest(self) -> bool:
        """Whether what came ends with a whole message."""
        return not self._left and not self._cut and not self._fragmented

    def feed(self, data: bytes) -> bytes:
        """What of these bytes, and of those held back, may go on now."""
        self.boundary = -1
        self.active = False
        if self.error is not None:
            return b""
        if self._cut:
            data = self._cut + data
            self._cut = b""
        end = len(data)
        position = 0
        while position < end:
            if not (self._left or self._fragmented):
                position = self._pass_short(data, position, end)
                if position == end:
                    break
            if self._left:
                position += self._pass_payload(data, position, end)
            else:
                try:
                    size = self._read_header(data, position, end)
                except FrameError as error:
                    self.error = error
                    return data[:position]
                if not size:
                    self._cut = data[position:]
                    return data[:position]
                position += size
            if not self._left:
                self.boundary = position
                if self._ends_message:
                    self.whole_messages += 1
                    if self._reader is not None:
                        self._reader.end()
        return data

    def _pass_payload(self, data: bytes, position: int, end: int) -> int:
        """Take in what has come of a payload; its size."""
        taken = min(self._left, end - position)
        if self._in_data:
            self.active = True
            if self._reader is not None:
                self._reader.feed(data[position : position + taken])
        self._left -= taken
        return taken

    def _pass_short(self, data: bytes, position: int, end: int) -> int:
        """Take in the short, whole and usual frames that come next; where they end.

        Most frames are such; and whoever floods us with empty ones must not hold up all others: the 43,690 of one read
        take 10 ms here, and 33 ms one by one.
        """
        bit, header = (0x80, 6) if self._masked else (0, 2)
        most = min(_CONTROL_BYTES_MAX, self._message_bytes_max)
        reader = self._reader
        frames = messages = payload_bytes = 0
        while end - position >= header:
            first, length = data[position], data[position + 1] ^ bit
            after = position + header + length
            if length > most or after > end:
                break
            if first in _WHOLE_DATA:
                messages += 1
                payload_bytes += length
                if reader is not None:
                    reader.begin(first)
                    reader.feed(data[position + header : after])
                    reader.end()
            elif first not in _WHOLE_PINGS:
                break
            frames += 1
            position = after
        if frames:
            self.boundary = position
            self.frames += frames
            self.messages += messages
            self.whole_messages += messages
            self.payload_bytes += payload_bytes
            self.active = self.active or messages > 0
        return position

    def rest(self) -> bytes:
        """The part of a header that was held back, when no more will come."""
        rest, self._cut = self._cut, b""
        return rest

    def _read_header(self, data: bytes, start: int, end: int) -> int:
        """Take in a frame's header; its size, or 0 if it is cut. Raises FrameError."""
        if end - start < 2:
            return 0
        first, second = data[start], data[start + 1]
        length = second & 0x7F
        self._check(first, second)
        at = start + 2
        if length == 126:
            if end - at < 2:
                return 0
            (length,) = _U16.unpack_from(data, at)
            at += 2
            if length < 126:
                raise FrameError(PROTOCOL_ERROR, "length in too many bytes")
        elif length == 127:
            if end - at < 8:
                return 0
            (length,) = _U64.unpack_from(data, at)
            at += 8
            if not 0xFFFF < length < 1 << 63:
                raise FrameError(PROTOCOL_ERROR, "length in too many bytes")
        if self._masked:
            at += 4
            if at > end:
                return 0
        self._begin(first, length)
        return at - start

    def _check(self, first: int, second: int) -> None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if bool(second & 0x80) != self._masked:
            raise FrameError(PROTOCOL_ERROR, "not masked" if self._masked else "masked")
        if first & 0x70 and not self._reserved_bits:
            raise FrameError(PROTOCOL_ERROR, "reserved bit set")
        if opcode in _CONTROL:
            if not final or second & 0x7F > _CONTROL_BYTES_MAX:
                raise FrameError(PROTOCOL_ERROR, "control frame in parts or too long")
        elif opcode not in _DATA:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode")
        elif (opcode == _CONTINUATION) != self._fragmented:
            raise FrameError(PROTOCOL_ERROR, "message in the wrong order")

    def _begin(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        self._in_data = opcode in _DATA
        self._ends_message = self._in_data and bool(first & 0x80)
        if self._in_data:
            whole = length if opcode != _CONTINUATION else self._message_bytes + length
            if whole > self._message_bytes_max:
                raise FrameError(TOO_BIG, f"message over {self._message_bytes_max} bytes")
            self._message_bytes = whole
            self._fragmented = not first & 0x80
            if opcode != _CONTINUATION:
                self.messages += 1
                if self._reader is not None:
                    self._reader.begin(first)
            self.payload_bytes += length
            self.active = True
        elif opcode == _CLOSE:
            self.closed = True
        self._left = length
        self.frames += 1


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """A Close frame. ``masked`` with a key of zeros: it hides nothing, and no cache sees this connection."""
    told = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")  # never half a character
    payload = _U16.pack(code) + told.encode()
    if masked:
        return bytes((0x80 | _CLOSE, 0x80 | len(payload))) + b"\0\0\0\0" + payload
    return bytes((0x80 | _CLOSE, len(payload))) + payload
