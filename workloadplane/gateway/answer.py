"""Writing an answer to the client: its framing, its stream, and an honest end whatever happens.

A stream always goes out in chunked coding, because an event may be left out or added. An answer that ends early
is never made to look whole: a stream gets an ``error`` event, anything else has its connection closed before
its announced length. Of an answer that is no stream nothing goes out before all of it is there, up to a bound:
until then another replica can be asked for it.
"""

from dataclasses import replace
from typing import Literal

import msgspec

from workloadplane.gateway import dialects, heads
from workloadplane.gateway.answers import AnswerScanner, TokenCounts
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.heads import Served
from workloadplane.gateway.reader import Request
from workloadplane.gateway.resume.kept import Kept
from workloadplane.gateway.resume.resumption import before_failure
from workloadplane.gateway.resume.rewriting import Rewriter
from workloadplane.gateway.routes import RouteClass
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.statuses import status_line
from workloadplane.gateway.upstream import ResponseHead

_EARLY_ERROR_BYTES_MAX = 64 * 1024
_WITHOUT_CONTENT = frozenset({204, 304})
_WHOLE_BYTES_MAX = 256 * 1024
KEEP_ALIVE = b": k\n"
#: ``failed``: it ended, and said itself that it failed; ``broken``: it ended in the middle, told to nobody yet.
Passed = Literal["goes on", "ended", "failed", "broken"]


class AnswerWriter(msgspec.Struct, eq=False):
    """One answer. ``started`` once a byte of it has gone out; ``status`` is then what the client was told.

    headers:  further lines of its head
    comment_line: what is told while it waits: to a client a keep-alive, to a peer what that asked for
    peer_held: such a line of the peer that answers now, if it sends any; ``held_s``: when the last one came
    kept:     takes note of a stream's events so that it can be resumed
    rewriter: makes a continuation's events follow those before the break
    """

    connection: ClientConnection
    request: Request
    request_id: str
    route_class: RouteClass
    to_peer: bool
    strip_usage: bool
    headers: bytes = b""
    comment_line: bytes = KEEP_ALIVE
    peer_held: bytes = b""
    held_s: float = 0.0
    kept: Kept | None = None
    rewriter: Rewriter | None = None
    stream: SseScanner | None = None
    started: bool = False
    status: int = 0
    first_byte_s: float | None = None
    _chunked: bool = False
    _must_be_json: bool = False
    _keep_alive: bool = False
    _plain: AnswerScanner | None = None
    _early_error: bytearray | None = None
    _unsent: list[bytes] | None = None
    _unsent_bytes: int = 0

    def counts(self) -> TokenCounts:
        """Tokens as far as the engine told; to be asked at the end."""
        if not self.route_class.counts_usage:
            return TokenCounts(output_tokens=0)
        if self.stream is not None:
            return self.stream.counts
        return self._plain.counts() if self._plain is not None else TokenCounts()

    def begin_early(self) -> None:
        """Start a stream before anybody answers it, so that a held client does not give up."""
        self.status = 200
        self._begin_stream()
        self.connection.write(
            status_line(200)
            + b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            + dialects.request_id_lines(self.request, self.request_id)
            + self.headers
            + self._framing(None)
            + (b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        )
        self.comment()

    def comment(self) -> None:
        """It waits: a keep-alive between events. One line end, for of two some clients make an empty event."""
        self.connection.write(self._framed(self.comment_line))

    def probe(self) -> None:
        """Send what a client that only listens takes no notice of; the machine of one that has gone resets."""
        if not self.started:
            self.connection.offer_continue()
        elif self.stream is not None and not self.stream.is_mid_event:
            self.connection.write(self._framed(KEEP_ALIVE))

    def pass_on(
        self, head: ResponseHead | None, served: Served, data: bytes, complete: bool, now_s: float
    ) -> Passed:
        """What one read from upstream brought, passed on."""
        if head is not None and complete and not (self.started or head.is_stream):
            return self._pass_whole(head, served, data, now_s)
        out = b""
        if head is not None:
            out = self._begin(head, served, len(data) if complete else None)
        if data and self.first_byte_s is None:
            self.first_byte_s = now_s
        if self._early_error is not None:
            return self._take_early_error(data, complete)
        broken = False
        if self.stream is not None:
            data, broken = self._events(self.stream, data, complete, now_s)
        elif self._plain is not None and self.status < 400:
            self._plain.feed(data)
            if complete and self._must_be_json and not self._plain.is_whole():
                return "broken"
        out += self._framed(data)
        if complete and self._chunked and not broken:
            out += b"0\r\n\r\n"
        if out or (complete and self._unsent is not None):
            self._write(out, complete)
        if broken:
            return "broken"
        if not complete:
            return "goes on"
        self.connection.finish(keep_alive=self._keep_alive)
        return "failed" if self.stream is not None and self.stream.failed else "ended"

    def _pass_whole(self, head: ResponseHead, served: Served, data: bytes, now_s: float) -> Passed:
        """An answer that is no stream and came in one read: the way of most."""
        connection, status = self.connection, head.status
        self.status = status
        self.started = True
        self._unsent = None  # what an earlier replica left
        if data and self.first_byte_s is None:
            self.first_byte_s = now_s
        self._plain = AnswerScanner(data if status < 400 else b"")
        keeps = self._keep_alive = self.request.keep_alive and connection.may_keep_alive
        framing = self.headers
        if status not in _WITHOUT_CONTENT:
            framing += b"content-length: %d\r\n" % len(data)
        told = heads.answer_head(
            head,
            served,
            self.request,
            self.request_id,
            to_peer=self.to_peer,
            framing=framing,
            close=not keeps,
        )
        connection.write(told + data)
        connection.finish(keep_alive=keeps)
        return "ended"

    def pass_chunk(self, stream: SseScanner, data: bytes, now_s: float) -> Passed:
        """What one read from upstream brought in the middle of ``self.stream``: the way of nearly all reads."""
        if self._early_error is not None:
            return self._take_early_error(data, complete=False)
        data, broken = self._events(stream, data, complete=False, now_s=now_s)
        if data:
            self.connection.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        return "broken" if broken else "goes on"

    def _events(self, stream: SseScanner, data: bytes, complete: bool, now_s: float) -> tuple[bytes, bool]:
        """Whole events to pass on, and whether the stream broke behind them."""
        broken = False
        if self.rewriter is not None:
            data = self.rewriter.feed(data)
        data = stream.feed(data, now_s)
        if self.peer_held and data.rfind(self.peer_held) >= 0:
            self.held_s = now_s
            data = data.replace(self.peer_held, KEEP_ALIVE)
        if self.kept is not None and data:
            if stream.failed:
                sound = before_failure(data)
                if sound is not None:
                    data, broken = sound, True
            if data:
                data = self.kept.take(data)
        if complete and not broken:
            broken = stream.is_broken
            if not broken:
                data += stream.rest()
        return data, broken

    def _write(self, out: bytes, complete: bool) -> None:
        """To the client, or kept until the answer is whole."""
        if self._unsent is None:
            self.connection.write(out)
            return
        self._unsent.append(out)
        self._unsent_bytes += len(out)
        if complete or self._unsent_bytes > _WHOLE_BYTES_MAX:
            self.started = True
            self.connection.write(b"".join(self._unsent))
            self._unsent = None

    def go_on(self, rewriter: Rewriter) -> None:
        """What comes next is the rest of the stream, from elsewhere."""
        if self.stream is not None:
            self.stream.go_on()
        self.rewriter = rewriter

    def end_with(self, events: bytes, now_s: float) -> None:
        """The end of a stream that was complete but for it."""
        if self.stream is not None:
            self.stream.go_on()
            self._end_with(self.stream.feed(events, now_s))

    def fail(self, failure: Failure) -> None:
        """End with an error: an answer of its own, an event in the stream, or a broken connection."""
        if not self.started:
            self.status = failure.status
            if self.headers:
                failure = replace(failure, headers=self.headers)
            self.connection.fail(failure, self.request_id)
        elif self.stream is not None and not self.stream.is_mid_event:
            self._end_with(dialects.error_event(self.request, failure, self.stream.last_bytes))
        else:
            self.connection.abort()

    def _begin(self, head: ResponseHead, served: Served, whole_bytes: int | None) -> bytes:
        is_stream = head.is_stream
        if self.started:  # early: the client has its head already
            if not is_stream:
                self._early_error = bytearray()
            return b""
        self.status = head.status
        self._chunked = False
        self._unsent = None  # what an earlier replica left
        is_json = (head.get(b"content-type") or b"").startswith(b"application/json")
        self._must_be_json = is_json and head.status == 200 and not head.delimited
        if is_stream:
            self._begin_stream()
            framing = self._framing(None)
        else:
            self._begin_plain()
            if head.status in _WITHOUT_CONTENT:
                framing = self._framing_of_nothing()
            else:
                length = whole_bytes
                if length is None and head.content_length is not None:
                    length = int(head.content_length)
                framing = self._framing(length)
                if whole_bytes is None and (length is None or length <= _WHOLE_BYTES_MAX):
                    self.started = False
                    self._unsent, self._unsent_bytes = [], 0
        return heads.answer_head(
            head,
            served,
            self.request,
            self.request_id,
            to_peer=self.to_peer,
            framing=self.headers + framing,
            close=not self._keep_alive,
        )

    def _begin_stream(self) -> None:
        self.started = True
        self.stream = SseScanner(strip_usage=self.strip_usage, form=self.route_class.stream)

    def _begin_plain(self) -> None:
        self.started = True
        self._plain = AnswerScanner()

    def _framing(self, length: int | None) -> bytes:
        """The header line that tells where the answer ends, and what follows from it."""
        self._keep_alive = self.request.keep_alive and self.connection.may_keep_alive
        if length is not None:
            return b"content-length: %d\r\n" % length
        if self.request.http_1_0:
            self._keep_alive = False  # its end is the connection's
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"

    def _framing_of_nothing(self) -> bytes:
        """No content, no framing: the head is the whole answer."""
        self._keep_alive = self.request.keep_alive and self.connection.may_keep_alive
        return b""

    def _framed(self, data: bytes) -> bytes:
        if not self._chunked or not data:
            return data
        return b"%x\r\n%s\r\n" % (len(data), data)

    def _take_early_error(self, data: bytes, complete: bool) -> Passed:
        """The engine refused a request whose stream has begun: its error becomes the stream's last event."""
        assert self._early_error is not None  # noqa: S101  asked by the caller
        self._early_error += data[: _EARLY_ERROR_BYTES_MAX - len(self._early_error)]
        if not complete:
            return "goes on"
        self._end_with(dialects.event_of_error_body(self.request, bytes(self._early_error)))
        return "failed"

    def _end_with(self, event: bytes) -> None:
        self.connection.write(self._framed(event) + (b"0\r\n\r\n" if self._chunked else b""))
        self.connection.finish(keep_alive=self._keep_alive)
