"""The socket to a replica or to a peer's gateway: one handshake, then bytes both ways."""

import asyncio
from typing import Protocol, cast

import httptools

_HEAD_BYTES_MAX = 64 * 1024
_BODY_BYTES_MAX = 64 * 1024
_WRITE_BUFFER_BYTES = 256 * 1024
_LAST_BYTES_S = 2.0


class EngineSink(Protocol):
    """Who opened it."""

    def on_upgraded(self, headers: dict[bytes, bytes], early: bytes) -> None:
        """The answer was 101; ``early``: what came right behind it."""

    def on_declined(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        """The answer was another one."""

    def on_engine_data(self, data: bytes) -> None:
        """Bytes of the tunnel."""

    def on_engine_eof(self) -> None:
        """It will send no more."""

    def on_engine_lost(self) -> None:
        """The connection is gone, or what came on it was no HTTP."""

    def on_engine_full(self) -> None:
        """It reads too slowly: send nothing more for now."""

    def on_engine_ready(self) -> None:
        """It reads again."""


class EngineSocket(asyncio.Protocol):
    """See the module. After ``abort`` or ``end_tunnel`` the sink hears nothing more."""

    def __init__(self, sink: EngineSink) -> None:
        self._sink: EngineSink | None = sink
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body = b""
        self._status = 0

    # The owner's side

    def write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        """Nothing more will be sent; what it sends is still read.

        In TLS the end of one direction is the end of both, so it is not told there: what it still has to say would
        be lost.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end_tunnel(self) -> None:
        """Close once what was written has gone out, which it must soon."""
        self._sink = None
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(_LAST_BYTES_S, self.abort)

    def abort(self) -> None:
        """Close without a further byte."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without deriving
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            return
        if self._parser is None:
            self._sink.on_engine_data(data)
        else:
            self._read_answer(data)

    def _read_answer(self, data: bytes) -> None:
        if self._parser is None or self._sink is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._head_bytes + upgrade.args[0] > _HEAD_BYTES_MAX:
                self._lose()
                return
            self._parser = None
            self._sink.on_upgraded(self._headers, data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._lose()
            return
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._lose()

    def _lose(self) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.on_engine_lost()

    def eof_received(self) -> bool:
        if self._parser is not None or self._sink is None:
            return False
        self._sink.on_engine_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._parser is not None and self._status:
            sink.on_declined(self._status, self._headers, self._body)  # its end is the connection's
        else:
            sink.on_engine_lost()

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.on_engine_full()

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.on_engine_ready()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        if self._parser is None:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
        elif status != 101:
            self._headers = {}

    def on_body(self, body: bytes) -> None:
        self._body += body[: _BODY_BYTES_MAX - len(self._body)]

    def on_message_complete(self) -> None:
        sink = self._sink
        if self._status and sink is not None:
            self.abort()
            sink.on_declined(self._status, self._headers, self._body)
