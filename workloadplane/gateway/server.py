"""A client's connection: reads requests in order, keeps their time limits, writes what answers them.

Fields are grouped by lifetime: ``ClientConnection`` holds what belongs to the connection, ``RequestReader`` the
request being read, ``Request`` what was read. Requests that a client sends ahead wait, bounded, and are
answered in order; meanwhile nothing more is read.
"""

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol, cast

from workloadplane.gateway import dialects, errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.reader import Request, RequestReader

_SWALLOWED_BODY_BYTES_MAX = 64 * 1024
_LINGER_S = 2.0
_WRITE_BUFFER_BYTES = 256 * 1024
_STATUS_TEXT = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {text}\r\n".encode() for status, text in _STATUS_TEXT.items()}


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


class Exchange(Protocol):
    """Who answers a request over time."""

    def on_client_gone(self) -> None:
        """The client closed its connection before the answer was complete."""

    def on_client_full(self) -> None:
        """The client reads too slowly: send nothing more for now."""

    def on_client_ready(self) -> None:
        """The client reads again."""


class Application(Protocol):
    """What a connection asks of the process."""

    limits: Limits
    connections: "set[ClientConnection]"
    body_bytes: int
    draining: bool

    def admit(self, request: Request) -> Failure | None:
        """Judge a request by its headers alone, so that a body nobody wants is not kept."""

    def handle(self, connection: "ClientConnection", request: Request) -> None:
        """Answer a request, now or over time. Must answer ``request.failure`` if there is one."""


class ClientConnection(asyncio.Protocol):
    """One client connection. Whoever answers calls ``write`` as often as needed, then ``finish`` once."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(app.limits)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._exchange: Exchange | None = None
        self._admitted: Request | None = None
        self._reading_paused = False
        self._closing = False
        self._stalled_since_s: float | None = None
        self._deadline_s = monotonic() + app.limits.header_timeout_s
        self.remote = ""

    # For who answers

    def attach(self, exchange: Exchange) -> None:
        """From now on ``exchange`` hears of the client until ``finish``."""
        self._exchange = exchange
        if self._stalled_since_s is not None:
            exchange.on_client_full()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer. ``headers``: lines with their ends, without framing."""
        request = self._current
        keeps = request is not None and request.keep_alive and not self._app.draining
        framing = b"content-length: %d\r\n%s\r\n" % (len(body), b"" if keeps else b"connection: close\r\n")
        self.write(status_line(status) + headers + framing + body)
        self.finish(keep_alive=keeps)

    def fail(self, failure: Failure, request_id: str | None = None) -> None:
        """An error as a whole answer, in the words of the API that was asked."""
        request = self._current
        head = dialects.error_head(request, failure, request_id)
        self.respond(failure.status, head, dialects.error_body(request, failure))

    def release_body(self, request: Request) -> None:
        """The body is needed no more."""
        self._app.body_bytes -= request.charged_bytes
        request.charged_bytes = 0
        request.body = b""

    def finish(self, *, keep_alive: bool) -> None:
        """The answer is complete: go on with the next request, or close."""
        request, self._current, self._exchange = self._current, None, None
        if request is not None:
            self.release_body(request)
        if self._transport is None:
            return
        if not keep_alive or self._app.draining:
            self._close_gently()
            return
        self._deadline_s = monotonic() + self._app.limits.keep_alive_timeout_s
        if self._waiting:
            # Not from within the call that finished this one: answers must not nest.
            self._loop.call_soon(self._next)
        elif self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close without a further byte."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def may_keep_alive(self) -> bool:
        """Whether the process still wants this connection after the answer at hand."""
        return not self._app.draining

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered, waits or is half read."""
        return self._current is None and not self._waiting and self._reader.is_idle

    # The process's sweep

    def on_sweep(self, now_s: float) -> None:
        """Keep the time limits; called every half second or so."""
        stalled_s = self._app.limits.client_stall_timeout_s
        if self._stalled_since_s is not None and now_s - self._stalled_since_s > stalled_s:
            self.abort()
        elif self._current is None and now_s > self._deadline_s:
            self._on_deadline()

    def _on_deadline(self) -> None:
        if self._closing or self._reader.is_idle:
            self.abort()
            return
        limits = self._app.limits
        if self._reader.head_complete:
            failure = errors.too_slow("body", limits.body_timeout_s)
        else:
            failure = errors.too_slow("headers", limits.header_timeout_s)
        self._refuse(self._reader.request, failure)

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one without deriving
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if isinstance(peer, tuple) else ""
        self._app.connections.add(self)
        if len(self._app.connections) > self._app.limits.connections_max:
            self._refuse(self._reader.request, errors.too_many_connections())

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        reader = self._reader
        was_idle = reader.is_idle
        reader.feed(data)
        if reader.ready:
            for request in reader.ready:
                self._charge(request, len(request.body))
                self._waiting.append(request)
            reader.ready.clear()
            self._deadline_s = monotonic() + self._app.limits.header_timeout_s
        elif was_idle and self._current is None:
            self._deadline_s = monotonic() + self._app.limits.header_timeout_s
        if reader.request.failure is not None and not reader.request.keep_alive:
            self._queue_last(reader.request)
        elif reader.head_complete:
            self._on_partial_body(reader)
        self._next()
        if (
            self._transport is not None
            and (self._waiting or not reader.is_idle)
            and self._current is not None
        ):
            self._reading_paused = True
            self._transport.pause_reading()

    def _on_partial_body(self, reader: RequestReader) -> None:
        """The head is complete, the body is not: decide now whether to wait for it."""
        request = reader.request
        if self._admitted is not request:
            self._admitted = request
            self._deadline_s = monotonic() + self._app.limits.body_timeout_s
            request.failure = self._app.admit(request)
            if request.failure is None and reader.expects_continue and self._current is None:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if request.failure is not None:
                reader.discard_body()
                length = reader.length if reader.length is not None else _SWALLOWED_BODY_BYTES_MAX + 1
                if reader.expects_continue or length > _SWALLOWED_BODY_BYTES_MAX:
                    request.keep_alive = False
                    self._queue_last(request)
                    return
        if request.failure is None:
            self._charge(request, reader.body_bytes)
            if request.failure is not None:
                request.keep_alive = False
                self._queue_last(request)

    def _charge(self, request: Request, body_bytes: int) -> None:
        """Bound what all bodies at hand take together."""
        self._app.body_bytes += body_bytes - request.charged_bytes
        request.charged_bytes = body_bytes
        if self._app.body_bytes > self._app.limits.body_bytes_total_max and request.failure is None:
            request.failure = errors.memory_bound()

    def _queue_last(self, request: Request) -> None:
        """After this request nothing more is read: its end is unknown or its rest unwanted."""
        self._closing = True
        self._waiting.append(request)

    def _refuse(self, request: Request, failure: Failure) -> None:
        request.failure = failure
        request.keep_alive = False
        self._queue_last(request)
        self._next()

    def _next(self) -> None:
        if self._current is not None or not self._waiting or self._transport is None:
            return
        request = self._waiting.popleft()
        self._current = request
        request.began_s = monotonic()
        self._app.handle(self, request)

    def _close_gently(self) -> None:
        """Let the client read the answer before a reset for its unread bytes can destroy it."""
        if self._transport is None:
            return
        if self._closing and self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline_s = monotonic() + _LINGER_S
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
        else:
            self._closing = True
            self._transport.close()

    def eof_received(self) -> bool:
        """A client that has stopped sending is taken for gone, as other proxies do."""
        return False

    def pause_writing(self) -> None:
        self._stalled_since_s = monotonic()
        if self._exchange is not None:
            self._exchange.on_client_full()

    def resume_writing(self) -> None:
        self._stalled_since_s = None
        if self._exchange is not None:
            self._exchange.on_client_ready()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._app.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        for request in (self._current, *self._waiting, self._reader.request):
            if request is not None:
                self.release_body(request)
        self._current = None
        self._waiting.clear()
        if exchange is not None:
            exchange.on_client_gone()
