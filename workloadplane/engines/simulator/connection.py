"""HTTP/1.1 for a simulated engine: one asyncio protocol per connection, parsed by llhttp through httptools.

An ``Exchange`` is a request with the means to answer it. Requests of one connection are answered in their order.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

import httptools

from workloadplane.engines.simulator.answers import error_body
from workloadplane.engines.simulator.websocket import WebSocket, accept

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_PIPELINED = 8
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Exchange:
    """A request and its answer. ``on_disconnect`` is called if the client goes before the answer has ended."""

    __slots__ = (
        "_connection",
        "_is_chunked",
        "authorization",
        "body",
        "content_type",
        "is_http10",
        "keep_alive",
        "method",
        "on_disconnect",
        "path",
        "protocols",
        "websocket_key",
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._is_chunked = False
        self.method = ""
        self.path = ""
        self.authorization = b""
        self.body = b""
        self.content_type = b""
        self.keep_alive = True
        self.is_http10 = False
        self.websocket_key = b""
        self.protocols = b""
        self.on_disconnect: Callable[[], None] | None = None

    def respond(self, status: int, body: bytes, *, content_type: bytes = b"application/json") -> None:
        """Send a whole answer."""
        self._connection.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n"
            % (status, _REASONS[status], content_type, len(body), self._connection_header())
            + (b"" if self.method == "HEAD" else body)
        )
        self._connection.end(self)

    def begin_stream(self) -> None:
        """Send the head of an event stream."""
        self._is_chunked = not self.is_http10
        if not self._is_chunked:
            self.keep_alive = False
        coding = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        self._connection.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"cache-control: no-cache\r\n%b%b\r\n" % (coding, self._connection_header())
        )

    def write(self, data: bytes) -> None:
        """Send bytes of a stream."""
        if not data:
            return
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end_stream(self, data: bytes = b"") -> None:
        """Send the last bytes of a stream and end it."""
        self.write(data)
        if self._is_chunked:
            self._connection.write(b"0\r\n\r\n")
        self._connection.end(self)

    def upgrade(self) -> WebSocket:
        """Answer with a WebSocket, speaking the first of the subprotocols that were offered."""
        protocol = self.protocols.partition(b",")[0].strip()
        chosen = b"sec-websocket-protocol: %b\r\n" % protocol if protocol else b""
        self._connection.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\n%b\r\n" % (accept(self.websocket_key), chosen)
        )
        return self._connection.begin_websocket(self)

    def cut(self) -> None:
        """Close the connection in the middle of the answer; what was written still arrives."""
        self.on_disconnect = None
        self._connection.close()

    def _connection_header(self) -> bytes:
        return b"connection: keep-alive\r\n" if self.keep_alive else b"connection: close\r\n"


class Connections:
    """Those that are open, and whether there are none."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self.none_open = asyncio.Event()
        self.none_open.set()

    def add(self, connection: "Connection") -> None:
        """One has been opened."""
        self._open.add(connection)
        self.none_open.clear()

    def discard(self, connection: "Connection") -> None:
        """One is gone."""
        self._open.discard(connection)
        if not self._open:
            self.none_open.set()

    def close(self, *, idle_only: bool) -> None:
        """Close all, or those without an answer under way, once what they hold has gone out."""
        for connection in list(self._open):
            if not (idle_only and connection.is_busy):
                connection.close()


class Connection(asyncio.Protocol):
    """One client. ``dispatch`` gets each request when it is its turn."""

    def __init__(self, dispatch: Callable[[Exchange], None], connections: Connections) -> None:
        # Lifetime of the server
        self._dispatch = dispatch
        self._connections = connections
        # Lifetime of the connection
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queued: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._socket: WebSocket | None = None
        self._upgrading: bytes | None = None
        # Lifetime of the request that is being read
        self._arriving = Exchange(self)
        self._target = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the client is here."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self._transport = None
        self._connections.discard(self)
        self._queued.clear()
        current, self._current = self._current, None
        if current is not None and current.on_disconnect is not None:
            current.on_disconnect()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        if self._socket is not None:
            self._socket.feed(data)
            return
        if self._upgrading is not None:
            self._upgrading += data
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrading = data[upgrade.args[0] :]
            if self._socket is not None:
                self._socket.feed(self._upgrading)
            elif self._current is None:
                self.close()  # answered without switching
        except httptools.HttpParserError as error:
            self._refuse(400, f"not a request that can be read: {error}")

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._arriving = Exchange(self)
        self._target = b""
        self._body = []
        self._body_bytes = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the target."""
        self._target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        self._count_header(len(name) + len(value))
        lowered = name.lower()
        if lowered == b"authorization":
            self._arriving.authorization = value
        elif lowered == b"content-type":
            self._arriving.content_type = value
        elif lowered == b"sec-websocket-key":
            self._arriving.websocket_key = value
        elif lowered == b"sec-websocket-protocol":
            self._arriving.protocols = value
        elif lowered == b"expect" and value.lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._body.clear()
            self._refuse(413, f"body: more than {MAX_BODY_BYTES} bytes; send less")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        exchange = self._arriving
        exchange.method = self._parser.get_method().decode("latin-1")
        exchange.path = urlsplit(self._target.decode("latin-1")).path
        exchange.body = b"".join(self._body)
        exchange.keep_alive = self._parser.should_keep_alive()
        exchange.is_http10 = self._parser.get_http_version() == "1.0"
        self._body = []
        if self._transport is None or self._transport.is_closing():
            return
        if len(self._queued) >= MAX_PIPELINED:
            self._refuse(400, f"more than {MAX_PIPELINED} requests without waiting for an answer")
        elif self._current is None:
            self._begin(exchange)
        else:
            self._queued.append(exchange)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way."""
        return self._current is not None and not (self._socket is not None and self._socket.is_idle)

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens once the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def end(self, exchange: Exchange) -> None:
        """An answer has ended: the next request's turn."""
        exchange.on_disconnect = None
        if self._current is not exchange:
            return
        self._current = None
        if not exchange.keep_alive:
            self.close()
        elif self._queued:
            self._begin(self._queued.popleft())

    def begin_websocket(self, exchange: Exchange) -> WebSocket:
        """No request is read any more; what comes is frames."""
        self._socket = socket = WebSocket(self.write, self._close_transport)
        exchange.on_disconnect = socket.gone
        early = self._upgrading
        if early:
            asyncio.get_running_loop().call_soon(socket.feed, early)
        return socket

    def close(self) -> None:
        """Close after what was written has gone out."""
        if self._socket is not None:
            self._socket.close(1001, "the engine is shutting down")
        self._close_transport()

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        try:
            self._dispatch(exchange)
        except Exception as error:
            # The parser, which calls us, would take it for a fault of the client's bytes.
            traceback.print_exception(error)
            exchange.keep_alive = False
            exchange.respond(500, error_body("the engine failed at this request", kind="server_error"))

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, f"headers: more than {MAX_HEADER_BYTES} bytes; send less")

    def _refuse(self, status: int, message: str) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if not self.is_busy:
            body = error_body(message, kind="invalid_request_error")
            self.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, _REASONS[status], len(body), body)
            )
        self.close()
