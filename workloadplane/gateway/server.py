"""A client's connection: reads requests in order, keeps their time limits, writes what answers them.

Fields are grouped by lifetime: ``ClientConnection`` holds what belongs to the connection, ``RequestReader`` the
request being read, ``Request`` what was read. Requests that a client sends ahead wait, bounded, and are
answered in order; meanwhile nothing more is read. Nor is a further one answered while the client leaves answers
unread: what waits for it here stays below the transport's bound and one answer.
"""

import asyncio
from collections import deque
from time import monotonic

from workloadplane.gateway import dialects, errors
from workloadplane.gateway.client_socket import ClientSocket
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.exchange import Application, Exchange, TunnelExchange
from workloadplane.gateway.reader import Request, RequestReader
from workloadplane.gateway.statuses import status_line

_SWALLOWED_BODY_BYTES_MAX = 64 * 1024
_LINGER_S = 2.0
_PROBES = 5
_PROBE_AGAIN_S = (0.002, 0.05)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientConnection(ClientSocket):
    """One client connection. Whoever answers calls ``write`` as often as needed, then ``finish`` once."""

    def __init__(self, app: Application, passed: Request | None = None) -> None:
        """``passed``: the first request, which another process has read."""
        super().__init__()
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(app.limits)
        self._waiting: deque[Request] = deque([passed] if passed is not None else ())
        self._current: Request | None = None
        self._exchange: Exchange | None = None
        self._tunnel: TunnelExchange | None = None
        self._admitted: Request | None = None
        self._closing = False
        self._half_closed = False
        self._probes_left = 0
        self._stalled_since_s: float | None = None
        self._deadline_s = monotonic() + app.limits.header_timeout_s

    # For who answers

    def attach(self, exchange: Exchange) -> None:
        """From now on ``exchange`` hears of the client until ``finish``."""
        self._exchange = exchange
        if self._current is not None and self._current.head_only:
            self._current.keep_alive = False  # an answer over time has a body, which nobody would read
        if self._stalled_since_s is not None:
            exchange.on_client_full()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer. ``headers``: lines with their ends, without framing."""
        request = self._current
        keeps = request is not None and request.keep_alive and not self._app.draining
        framing = b"content-length: %d\r\n%s\r\n" % (len(body), b"" if keeps else b"connection: close\r\n")
        if request is not None and request.head_only:
            body = b""
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
        if request is not None and request.charged_bytes:
            self.release_body(request)
        if self._transport is None:
            return
        if not keep_alive or self._app.draining:
            self._close_gently()
        else:
            self._go_on()

    def offer_continue(self) -> None:
        """Say that the body may come, or find out whether a client that sends no more still reads."""
        self.write(_CONTINUE)

    def _go_on(self) -> None:
        """Nothing is being answered: take the next request, or read on, or see that nothing more comes."""
        reader, limits = self._reader, self._app.limits
        if reader.is_idle:
            timeout_s = limits.keep_alive_timeout_s
        else:
            timeout_s = limits.body_timeout_s if reader.head_complete else limits.header_timeout_s
        self._deadline_s = monotonic() + timeout_s
        if self._stalled_since_s is not None or self._transport is None:
            return  # ``resume_writing`` comes back here
        if self._waiting:
            # Not from within the call that finished the last one: answers must not nest.
            self._loop.call_soon(self._next)
            return
        if self._half_closed:
            self._close_gently()
            return
        self._offer_continue_if_owed()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _offer_continue_if_owed(self) -> None:
        reader = self._reader
        if reader.expects_continue and reader.request is self._admitted and reader.request.failure is None:
            reader.expects_continue = False
            self.offer_continue()

    def begin_tunnel(self, tunnel: TunnelExchange) -> bytes:
        """From now on ``tunnel`` gets what comes; returned is what came since the request."""
        self._tunnel = tunnel
        early, self._reader.upgraded = self._reader.upgraded or b"", b""
        self.resume()
        return early

    def end_tunnel(self) -> None:
        """Close once what was written has gone out and the client has had time to read it."""
        self._tunnel = self._exchange = self._current = None
        self._closing = True
        self._close_gently()

    @property
    def may_keep_alive(self) -> bool:
        """Whether the process still wants this connection after the answer at hand."""
        return not self._app.draining

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered, waits or is half read."""
        return (
            self._current is None
            and self._exchange is None
            and not self._waiting
            and self._reader.is_idle
            and not self._closing
        )

    # Passing the connection to another process

    @property
    def can_pass(self) -> bool:
        """Whether all there is of it is the socket and the request at hand, if there is one."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and not (self._waiting or self._half_closed or self._closing)
            and self._stalled_since_s is None
            and (self._reader.is_idle or self._reader.upgraded == b"")
            and not transport.get_write_buffer_size()
            and not self.is_tls
        )

    def let_go(self) -> None:
        """Another process has it now: forget it without a byte to the client."""
        self._exchange = None
        self._closing = True
        self.abort()

    def keep(self) -> None:
        """It was not passed after all."""
        self._exchange = None
        self.resume()

    def close_idle(self) -> None:
        """Nobody wants it any more."""
        if self._transport is not None:
            self._closing = True
            self._transport.close()

    # The process's sweep

    def on_sweep(self, now_s: float) -> None:
        """Keep the time limits; called every half second or so."""
        stalled_s = self._app.limits.client_stall_timeout_s
        if self._reader.holds_back:
            # Its body takes a while: what follows from the head alone must not wait for it.
            self._reader.feed(b"")
            self._on_read(self._reader, was_idle=True)
        if self._stalled_since_s is not None and now_s - self._stalled_since_s > stalled_s:
            self.abort()
        elif self._half_closed and not self._closing:
            self._probe()
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
        self._open(transport)
        self._app.connections.add(self)
        if len(self._app.connections) > self._app.limits.connections_max:
            self._refuse(self._reader.request, errors.too_many_connections())
        elif self._waiting:
            for request in self._waiting:  # passed to us
                self._charge(request, len(request.body))
                self._reader.upgraded = b"" if request.is_upgrade else None
            self._loop.call_soon(self._next)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._tunnel is not None:
            self._tunnel.on_client_data(data)
            return
        reader = self._reader
        was_idle = reader.is_idle
        if self._current is None and not self._waiting and self._stalled_since_s is None:
            request = reader.take(data)
            if request is not None:
                self._take(request)
                return
        else:
            reader.feed(data)
        self._on_read(reader, was_idle)

    def _on_read(self, reader: RequestReader, was_idle: bool) -> None:
        """Any other read: of a part of a request, of several, or ahead of an answer."""
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
            and (self._waiting or not (reader.is_idle or reader.awaits_tunnel))
            and (self._current is not None or self._stalled_since_s is not None)
            and self._tunnel is None
        ):
            self._reading_paused = True
            self._transport.pause_reading()

    def _take(self, request: Request) -> None:
        """The usual read: it brought a request's end and no more, while nothing else was there."""
        app, size_bytes = self._app, len(request.body)
        app.body_bytes += size_bytes - request.charged_bytes  # a part may have come before
        request.charged_bytes = size_bytes
        if app.body_bytes > app.limits.body_bytes_total_max:
            request.failure = errors.memory_bound()
        self._current = request
        request.began_s = monotonic()
        cohort = app.cohort
        if cohort.is_busy:
            cohort.add_request(self)
        else:
            cohort.met()
            app.handle(self, request)

    def on_turn(self) -> None:
        """The request at hand was gathered with others of this turn: answer it."""
        request = self._current
        if request is not None and self._transport is not None:
            self._app.handle(self, request)

    def _on_partial_body(self, reader: RequestReader) -> None:
        """The head is complete, the body is not: decide now whether to wait for it."""
        request = reader.request
        if self._admitted is not request:
            self._admitted = request
            self._deadline_s = monotonic() + self._app.limits.body_timeout_s
            request.failure = self._app.admit(request)
            if self._current is None and not self._waiting and self._stalled_since_s is None:
                self._offer_continue_if_owed()
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
        if self._stalled_since_s is not None:
            return
        request = self._waiting.popleft()
        self._current = request
        request.began_s = monotonic()
        self._app.handle(self, request)

    def _close_gently(self) -> None:
        """Let the client read the answer before a reset for its unread bytes can destroy it."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._closing and not self._half_closed and self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline_s = monotonic() + _LINGER_S
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
        else:
            self._closing = True
            self._deadline_s = monotonic() + self._app.limits.client_stall_timeout_s
            self._transport.close()

    def eof_received(self) -> bool:
        """The client sends no more. What it has asked for is answered, then the connection closes.

        One that has gone looks the same until it is sent something, so it is, at once and some times more (what
        stands between may notice only then): its machine answers that with a reset. Where that cannot be done
        (HTTP/1.0 knows no interim answers) it is taken for gone; in TLS the end of one direction is the end of both.
        """
        if self._tunnel is not None:
            self._half_closed = True
            self._tunnel.on_tunnel_eof()
            return True
        current = self._current
        if current is None or self._closing or current.http_1_0:
            return False
        if self._transport is None or self.is_tls:
            return False
        self._half_closed = True
        (self._waiting[-1] if self._waiting else current).keep_alive = False
        self._probes_left = _PROBES
        self._probe()
        for delay_s in _PROBE_AGAIN_S:
            self._loop.call_later(delay_s, self._probe)
        return True

    def _probe(self) -> None:
        """Find out whether a client that has stopped sending is still there."""
        exchange = self._exchange
        if self._transport is None or exchange is None:
            return
        if self._is_broken():
            self._transport.abort()
        elif self._probes_left:
            self._probes_left -= 1
            exchange.on_client_eof()

    def pause_writing(self) -> None:
        self._stalled_since_s = monotonic()
        if self._exchange is not None:
            self._exchange.on_client_full()

    def resume_writing(self) -> None:
        self._stalled_since_s = None
        if self._exchange is not None:
            self._exchange.on_client_ready()
        elif self._current is None and not self._closing:
            self._go_on()

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
