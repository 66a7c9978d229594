"""Writing an answer to the client: its framing, its stream, and an honest end whatever happens.

A stream always goes out in chunked coding, because an event may be left out or added. An answer that ends early
is never made to look whole: a stream gets an ``error`` event, anything else has its connection closed before
its announced length.
"""

from dataclasses import replace

from workloadplane.gateway import dialects, errors, heads
from workloadplane.gateway.answers import AnswerScanner, TokenCounts
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.heads import Served
from workloadplane.gateway.reader import Request
from workloadplane.gateway.routes import RouteClass
from workloadplane.gateway.server import ClientConnection, status_line
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.upstream import ResponseHead

_EARLY_ERROR_BYTES_MAX = 64 * 1024
_WITHOUT_CONTENT = frozenset({204, 304})


class AnswerWriter:
    """One answer. ``started`` once a byte of it has gone out; ``status`` is then what the client was told."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_early_error",
        "_headers",
        "_keep_alive",
        "_plain",
        "_request",
        "_request_id",
        "_route_class",
        "_strip_usage",
        "_to_peer",
        "first_byte_s",
        "started",
        "status",
        "stream",
    )

    def __init__(
        self,
        connection: ClientConnection,
        request: Request,
        request_id: str,
        route_class: RouteClass,
        *,
        to_peer: bool,
        strip_usage: bool,
        headers: bytes = b"",
    ) -> None:
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._route_class = route_class
        self._to_peer = to_peer
        self._strip_usage = strip_usage
        self._headers = headers
        self._chunked = False
        self._keep_alive = False
        self._plain: AnswerScanner | None = None
        self._early_error: bytearray | None = None
        self.stream: SseScanner | None = None
        self.started = False
        self.status = 0
        self.first_byte_s: float | None = None

    def counts(self) -> TokenCounts:
        """Tokens as far as the engine told; to be asked at the end."""
        if not self._route_class.counts_usage:
            return TokenCounts(output_tokens=0)
        if self.stream is not None:
            return self.stream.counts
        return self._plain.counts() if self._plain is not None else TokenCounts()

    def begin_early(self) -> None:
        """Start a stream before anybody answers it, so that a held client does not give up."""
        self.status = 200
        self._begin_stream()
        self._connection.write(
            status_line(200)
            + b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            + dialects.request_id_lines(self._request, self._request_id)
            + self._headers
            + self._framing(None)
            + (b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        )
        self.comment()

    def comment(self) -> None:
        """A keep-alive between events: one line end, for with two some clients make an empty event of it."""
        self._connection.write(self._framed(b": k\n"))

    def probe(self) -> None:
        """Send what a client that only listens takes no notice of; the machine of one that has gone resets."""
        if not self.started:
            self._connection.offer_continue()
        elif self.stream is not None and not self.stream.is_mid_event:
            self.comment()

    def pass_on(
        self, head: ResponseHead | None, served: Served, data: bytes, complete: bool, now_s: float
    ) -> bool:
        """What one read from upstream brought. Returns whether the answer ended as it should."""
        out = b""
        if head is not None:
            out = self._begin(head, served, len(data) if complete else None)
        if data and self.first_byte_s is None:
            self.first_byte_s = now_s
        if self._early_error is not None:
            return self._take_early_error(data, complete)
        if self.stream is not None:
            data = self.stream.feed(data, now_s)
            if complete and self.stream.is_broken:
                self._write(out, data)
                self.fail(errors.stream_broken())
                return False
            if complete:
                data += self.stream.rest()
        elif self._plain is not None and self.status < 400:
            self._plain.feed(data)
        if complete and self._chunked:
            self._connection.write(out + self._framed(data) + b"0\r\n\r\n")
        else:
            self._write(out, data)
        if complete:
            self._connection.finish(keep_alive=self._keep_alive)
        return not (complete and self.stream is not None and self.stream.failed)

    def fail(self, failure: Failure) -> None:
        """End with an error: an answer of its own, an event in the stream, or a broken connection."""
        if not self.started:
            self.status = failure.status
            if self._headers:
                failure = replace(failure, headers=self._headers)
            self._connection.fail(failure, self._request_id)
        elif self.stream is not None:
            self._end_with(dialects.error_event(self._request, failure, self.stream.last_bytes))
        else:
            self._connection.abort()

    def _begin(self, head: ResponseHead, served: Served, whole_bytes: int | None) -> bytes:
        is_stream = head.status == 200 and (head.get(b"content-type") or b"").startswith(b"text/event-stream")
        if self.started:  # early: the client has its head already
            if not is_stream:
                self._early_error = bytearray()
            return b""
        self.status = head.status
        if is_stream:
            self._begin_stream()
            framing = self._framing(None)
        else:
            self._begin_plain()
            if head.status in _WITHOUT_CONTENT:
                framing = self._framing_of_nothing()
            else:
                length = int(head.content_length) if head.content_length is not None else whole_bytes
                framing = self._framing(length)
        return heads.answer_head(
            head,
            served,
            self._request,
            self._request_id,
            to_peer=self._to_peer,
            framing=self._headers + framing,
            close=not self._keep_alive,
        )

    def _begin_stream(self) -> None:
        self.started = True
        self.stream = SseScanner(strip_usage=self._strip_usage, form=self._route_class.stream)

    def _begin_plain(self) -> None:
        self.started = True
        self._plain = AnswerScanner()

    def _framing(self, length: int | None) -> bytes:
        """The header line that tells where the answer ends, and what follows from it."""
        self._keep_alive = self._request.keep_alive and self._connection.may_keep_alive
        if length is not None:
            return b"content-length: %d\r\n" % length
        if self._request.http_1_0:
            self._keep_alive = False  # its end is the connection's
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"

    def _framing_of_nothing(self) -> bytes:
        """No content, no framing: the head is the whole answer."""
        self._keep_alive = self._request.keep_alive and self._connection.may_keep_alive
        return b""

    def _framed(self, data: bytes) -> bytes:
        if not self._chunked or not data:
            return data
        return b"%x\r\n%s\r\n" % (len(data), data)

    def _write(self, head: bytes, data: bytes) -> None:
        out = head + self._framed(data)
        if out:
            self._connection.write(out)

    def _take_early_error(self, data: bytes, complete: bool) -> bool:
        """The engine refused a request whose stream has begun: its error becomes the stream's last event."""
        assert self._early_error is not None  # noqa: S101  asked by the caller
        self._early_error += data[: _EARLY_ERROR_BYTES_MAX - len(self._early_error)]
        if complete:
            self._end_with(dialects.event_of_error_body(self._request, bytes(self._early_error)))
        return False

    def _end_with(self, event: bytes) -> None:
        self._connection.write(self._framed(event) + (b"0\r\n\r\n" if self._chunked else b""))
        self._connection.finish(keep_alive=self._keep_alive)
