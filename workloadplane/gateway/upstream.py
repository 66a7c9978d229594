"""Connections to replicas and peer gateways: pooled, one request at a time on each, parsed by httptools.

A connection hands its sink at most one call per read, with everything that the read brought, so a small answer
costs the client one write. It is used again only after a complete answer to a request that was sent whole, never
when a byte came that nobody asked for, and not for longer than the other side said it keeps it. One that lay
unused for a moment is looked at before it is used: what has come there, an end or a byte, makes it useless.
"""

import asyncio
import re
import select
import ssl
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple, Protocol, TypeVar, cast

import httptools
import msgspec
import structlog

from workloadplane.gateway.remembered import Around, around_length, content_of
from workloadplane.gateway.tls import Reloading, client_tls

_log = structlog.get_logger(__name__)

_HEAD_BYTES_MAX = 64 * 1024
_LOOKED_AT_AFTER_S = 0.05
_KEEP_ALIVE_MARGIN_S = 1.0
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|[\s,;])timeout=(\d{1,6})(?:$|[\s,;])")
_NEVER_S = float("inf")
_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Target(NamedTuple):
    """Where to connect. ``name``: which a certificate must carry; empty = the host's."""

    host: str
    port: int
    tls: bool = False
    name: str = ""

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ResponseHead:
    """Status and headers of an answer, names in lower case. ``delimited``: its end is told by its framing.

    is_stream: server-sent events follow
    returned:  the first line and the header lines that go on to the client, once somebody has worked them out
    Raises ValueError for a status or a transfer coding that cannot be passed on.
    """

    __slots__ = ("_first", "content_length", "delimited", "headers", "is_stream", "returned", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if status > 599:
            raise ValueError("a status that means nothing")
        self.status = status
        self.headers = headers
        self._first = dict(reversed(headers))
        self.content_length = self._first.get(b"content-length")
        coding = self._first.get(b"transfer-encoding")
        if coding is not None and (
            coding.lower() != b"chunked" or sum(name == b"transfer-encoding" for name, _ in headers) > 1
        ):
            raise ValueError("content in a coding that nobody asked for")
        self.delimited = self.content_length is not None or coding is not None
        content_type = self._first.get(b"content-type", b"")
        self.is_stream = status == 200 and content_type.startswith(b"text/event-stream")
        self.returned: bytes | None = None

    def without_length(self) -> "ResponseHead":
        """The same for an answer whose content is at hand, however long it is."""
        told = [(name, value) for name, value in self.headers if name != b"content-length"]
        made = ResponseHead(self.status, told)
        made.delimited = True
        return made

    def get(self, name: bytes) -> bytes | None:
        """The first value under this name."""
        return self._first.get(name)


class _Remembered(msgspec.Struct, frozen=True):
    """The head of a whole answer that came before on the same connection, after which that was used again."""

    around: Around
    head: ResponseHead


class ResponseSink(Protocol):
    """Who asked."""

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        """One read: the head if it ended in this read, body bytes, whether the answer is complete."""

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        """The connection ended before the answer was complete."""


class UpstreamConnection(asyncio.Protocol):
    """One connection.

    fresh:        until its first answer: a reused one may have been closed under the request
    idle_since_s: when it was last released; kept_until_s: until when the other side keeps it
    """

    __slots__ = (
        "_complete",
        "_head",
        "_head_bytes",
        "_headers",
        "_parser",
        "_pieces",
        "_pool",
        "_remembered",
        "_reusable",
        "_sink",
        "_transport",
        "fresh",
        "idle_since_s",
        "kept_until_s",
        "on_body",
        "target",
    )

    def __init__(self, pool: "UpstreamPool", target: Target) -> None:
        self.target = target
        self.fresh = True
        self.idle_since_s = 0.0
        self.kept_until_s = _NEVER_S
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        self._remembered: _Remembered | None = None
        self._pieces: list[bytes] = []
        #: httptools' callback for each piece: the list's own method, as a fast stream has one for every token.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)  # one for all answers: it begins anew by itself
        self._reset_answer()

    def _reset_answer(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._pieces.clear()
        self._complete = False
        self._reusable = False

    # The owner's side

    def send(self, sink: ResponseSink, head: bytes, body: bytes) -> None:
        """Begin a request; the answer goes to ``sink``."""
        self._sink = sink
        if self._transport is None or self._transport.is_closing():
            sink.on_upstream_lost(valid_http=True)
            return
        if len(body) < 16384:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Nobody wants the rest of the answer: the engine notices by the closed connection."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without deriving

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.abandon()  # bytes that nobody asked for
            return
        head_before = self._head
        begins = head_before is None and not self._head_bytes
        known = self._remembered
        if begins and known is not None:
            content = content_of(data, known.around)
            if content is not None:
                self._release(known.head)
                sink.on_response(known.head, content, True)
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lose(valid_http=False)
            return
        if self._head is None:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._lose(valid_http=False)
            return
        head = self._head if head_before is None else None
        pieces = self._pieces
        if len(pieces) == 1:
            body = pieces[0]
            pieces.clear()
        elif pieces:
            body = b"".join(pieces)
            pieces.clear()
        else:
            body = b""
        complete = self._complete
        if complete:
            if begins and head is not None:
                self._remember(data, head)
            self._finish()
        if head is not None or body or complete:
            sink.on_response(head, body, complete)

    def seems_alive(self, now_s: float) -> bool:
        """Whether neither an end nor a byte has come while it lay unused, read by the loop or not."""
        transport = self._transport
        if transport is None or transport.is_closing() or now_s >= self.kept_until_s:
            return False
        if now_s - self.idle_since_s < _LOOKED_AT_AFTER_S:
            return True
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def _remember(self, data: bytes, head: ResponseHead) -> None:
        """The read was a whole answer: another one with this head needs no parser."""
        around = around_length(data) if self._reusable and head.content_length is not None else None
        if around is not None:
            self._remembered = _Remembered(around, head.without_length())

    def _finish(self) -> None:
        """The answer is complete."""
        head, reusable = self._head, self._reusable
        self._reset_answer()
        if reusable and head is not None:
            self._release(head)
            return
        self._sink = None
        if self._transport is not None:
            self._transport.close()

    def _release(self, head: ResponseHead) -> None:
        """It may be used again, unless a part of the request is unsent: what came next would follow that."""
        self._sink = None
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.close()
            return
        keep_alive = head.get(b"keep-alive")
        if keep_alive is not None:
            self._note_timeout(keep_alive)
        self.fresh = False
        self._pool.release(self)

    def _note_timeout(self, keep_alive: bytes) -> None:
        told = _KEEP_ALIVE_TIMEOUT.search(keep_alive)
        if told is not None:
            self.kept_until_s = monotonic() + int(told.group(1)) - _KEEP_ALIVE_MARGIN_S

    def _lose(self, *, valid_http: bool) -> None:
        sink = self._sink
        self.abandon()
        if sink is not None:
            sink.on_upstream_lost(valid_http=valid_http)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if exc is None and self._head is not None and not self._head.delimited:
            sink.on_response(None, b"", True)  # an answer whose end is the connection's
        else:
            sink.on_upstream_lost(valid_http=True)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return  # a trailer
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._head = ResponseHead(status, self._headers)
        self._headers = []

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()  # llhttp tells it only now


class UpstreamPool:
    """Idle connections by target, the most recently used first."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        idle_connections_max: int,
        tls: Reloading | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._idle_connections_max = idle_connections_max
        self._idle: dict[Target, deque[UpstreamConnection]] = {}
        self._loop = asyncio.get_running_loop()
        self._tls = tls

    def take(self, target: Target) -> UpstreamConnection | None:
        """An idle connection that seems alive, if there is one."""
        idle = self._idle.get(target)
        if not idle:
            return None
        now_s = monotonic()
        while idle:
            connection = idle.pop()
            if connection.seems_alive(now_s):
                return connection
            connection.abandon()
        return None

    async def connect(self, target: Target) -> UpstreamConnection:
        """A new connection. Raises OSError (also for a time-out)."""
        return await self.open(target, lambda: UpstreamConnection(self, target))

    async def open(self, target: Target, protocol: Callable[[], _Protocol]) -> _Protocol:
        """A new connection that is not pooled, for another protocol. Raises OSError (also for a time-out)."""
        async with asyncio.timeout(self._connect_timeout_s):
            if not target.tls:
                _, connection = await self._loop.create_connection(protocol, target.host, target.port)
                return connection
            if self._tls is None:
                self._tls = client_tls(None)  # only now: the system's authorities take time and memory
            name = target.name or target.host
            try:
                _, connection = await self._loop.create_connection(
                    protocol, target.host, target.port, ssl=self._tls.made, server_hostname=name
                )
            except ssl.SSLError as error:
                _log.warning("TLS refused", host=target.host, port=target.port, name=name, reason=str(error))
                raise
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request."""
        idle = self._idle.get(connection.target)
        if idle is None:
            idle = self._idle[connection.target] = deque()
        if len(idle) >= self._idle_connections_max:
            connection.abandon()
            return
        connection.idle_since_s = monotonic()
        idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """It has closed."""
        idle = self._idle.get(connection.target)
        if idle is None:
            return
        if connection in idle:
            idle.remove(connection)
        if not idle:
            del self._idle[connection.target]

    def expire(self, now_s: float) -> None:
        """Close those that were idle for too long."""
        for idle in list(self._idle.values()):
            while idle and now_s - idle[0].idle_since_s >= self._idle_timeout_s:
                idle.popleft().abandon()
            for connection in [each for each in idle if now_s >= each.kept_until_s]:
                idle.remove(connection)
                connection.abandon()

    def close(self) -> None:
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.abandon()
