"""The model out of a session's first message, for a client that names it nowhere else. Pure.

It is looked for where the realtime APIs put it: ``model``, ``session.model``, ``response.model``. The bytes go on
to the engine as they came; only here is a payload read.
"""

import msgspec

from workloadplane.gateway.websocket.frames import (
    POLICY,
    PROTOCOL_ERROR,
    TOO_BIG,
    FrameError,
    FrameScanner,
)

BYTES_MAX = 64 * 1024


class _Named(msgspec.Struct):
    model: str | None = None


class _FirstMessage(msgspec.Struct):
    model: str | None = None
    session: _Named | None = None
    response: _Named | None = None


_messages = msgspec.json.Decoder(_FirstMessage)


class Opening:
    """Gathers what a client sends until its first message is whole. ``data``: all of it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._scanner = FrameScanner(masked=True, reserved_bits=False, message_bytes_max=BYTES_MAX)

    def feed(self, data: bytes) -> str | None:
        """The model, once the first message is whole. Raises FrameError for what names none."""
        self.data += data
        scanner = self._scanner
        scanner.feed(data)
        if scanner.whole_messages:
            return _model(_first_message(self.data))
        if scanner.error is not None:
            raise scanner.error
        if scanner.closed:
            raise FrameError(POLICY, "closed before a message named a model")
        if len(self.data) > BYTES_MAX:
            raise FrameError(TOO_BIG, "the first message is too long; name the model as ?model=")
        return None


def _first_message(data: bytearray) -> bytes:
    """The payload of the first message, which is whole, unmasked. Control frames are passed over."""
    message = b""
    at = 0
    while True:
        first, length = data[at], data[at + 1] & 0x7F
        at += 2
        extended = {126: 2, 127: 8}.get(length, 0)
        if extended:
            length = int.from_bytes(data[at : at + extended], "big")
            at += extended
        key, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
        at += 4 + length
        if first & 0x08:
            continue
        message += _unmasked(payload, key)
        if first & 0x80:
            return message


def _unmasked(payload: bytearray, key: bytearray) -> bytes:
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


def _model(message: bytes) -> str:
    try:
        first = _messages.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError(PROTOCOL_ERROR, "the first message is no JSON object") from None
    for place in (first, first.session, first.response):
        if place is not None and place.model:
            return place.model
    raise FrameError(POLICY, "the first message names no model; name it there or as ?model=")
