"""Connections to replicas and peer gateways: one request at a time on each, parsed by httptools; ``pool`` keeps them.

A connection hands its sink at most one call per read, with everything that the read brought, so a small answer
costs the client one write. It is used again only after a complete answer to a request that was sent whole, never
when a byte came that nobody asked for, and not for longer than the other side said it keeps it. One that lay
unused for a moment is looked at before it is used: what has come there, an end or a byte, makes it useless.
"""

import asyncio
import re
import select
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import httptools
import msgspec

from workloadplane.gateway.remembered import Around, around_length, content_of

if TYPE_CHECKING:
    from workloadplane.gateway.pool import UpstreamPool

_HEAD_BYTES_MAX = 64 * 1024
_LOOKED_AT_AFTER_S = 0.05
_KEEP_ALIVE_MARGIN_S = 1.0
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|[\s,;])timeout=(\d{1,6})(?:$|[\s,;])")
_NEVER_S = float("inf")
_STATUS_AT = slice(9, 12)  # of a message's first line


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
        "_cohort",
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
        "_spoilt",
        "_transport",
        "_whole",
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
        self._cohort = pool.cohort
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        self._remembered: _Remembered | None = None
        self._whole: bytes | None = None  # an answer's content, to be passed on at the turn's end
        self._spoilt = False
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

    def abort(self) -> None:
        """What came on it could not be handled."""
        self.abandon()

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without deriving

    def data_received(self, data: bytes) -> None:
        sink, head_before = self._sink, self._head
        if sink is None:
            self.abandon()  # bytes that nobody asked for
            return
        begins = head_before is None and not self._head_bytes
        if begins and self._is_known(data):
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
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        complete = self._complete
        if complete:
            if begins:
                self._remember(data, self._head)
            self._cohort.met()
            self._finish()
        if head is not None or body or complete:
            sink.on_response(head, body, complete)

    def _is_known(self, data: bytes) -> bool:
        """Whether a read is a whole answer whose head came before: it is passed on, now or at the turn's end."""
        if self._whole is not None:
            self._spoilt = True  # bytes that nobody asked for, behind an answer that is about to be passed on
            return True
        known = self._remembered
        content = content_of(data, known.around) if known is not None else None
        if content is None:
            return False
        self._whole = content
        if self._cohort.is_busy:
            self._cohort.add_answer(self)
        else:
            self._cohort.met()
            self.on_turn()
        return True

    def on_turn(self) -> None:
        """If a whole answer with a known head has come, pass it on, unless nobody wants it any more."""
        known, content, sink = self._remembered, self._whole, self._sink
        self._whole = None
        if sink is not None and known is not None and content is not None:
            self._release(known.head)
            sink.on_response(known.head, content, True)

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
        """The read was a whole answer: another one with this head needs no parser.

        Only of the usual ones: of 204 and 304 the parser alone knows that no content follows, whatever length they
        tell, and before an answer there may be an interim one.
        """
        usual = head.status == 200 and data[_STATUS_AT] == b"200"
        around = around_length(data) if usual and self._reusable and head.content_length is not None else None
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
        if self._spoilt or transport.get_write_buffer_size():
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
        self.on_turn()
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
