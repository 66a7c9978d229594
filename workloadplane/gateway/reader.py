"""Bytes of a client connection to requests, without sockets and time.

llhttp (under httptools) refuses most malformed messages by itself: both Content-Length and Transfer-Encoding,
repeated or signed lengths, bare line feeds, folded headers, bad names and values. What it lets pass and we do
not is refused here: absolute-form and odd targets, odd methods and versions, repeated headers that must be
single, other transfer codings than chunked, upgrades, and everything over a bound.

llhttp does not show chunk extensions, so they are bounded by what is left when all else is counted. To see it in
time, bytes are given to it in slices until it is clear that the body is not chunked.
"""

from typing import TYPE_CHECKING

import httptools
import msgspec

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.remembered import (
    HEAD_BYTES_MAX,
    Around,
    around_length,
    content_of,
    is_without_content,
)
from workloadplane.gateway.websocket.handshake import is_upgrade

if TYPE_CHECKING:
    from workloadplane.gateway.admission import Caller
    from workloadplane.gateway.routes import Found

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"DELETE"})
_SINGLE = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"x-request-id",
        b"x-meridian-peer",
    }
)
#: What makes a head another one each time, or needs an answer before the body comes.
_REPEATED_NEVER = frozenset({b"traceparent", b"x-request-id", b"x-meridian-peer", b"expect"})
#: An idle connection keeps its head, and many short headers take fifteen times the bytes that they came in.
_REMEMBERED_HEADERS_MAX = 32
_SLICE_BYTES = 16 * 1024
_CHUNK_FRAMING_BYTES = 20  # its length in up to 16 digits, and two line ends
_PIECES_MAX = 64
_LENGTH_DIGITS_MAX = 19
_EARLY_BYTES_MAX = 64 * 1024


class Derived(msgspec.Struct, gc=False):
    """What follows from a head alone; who works it out leaves it here for further requests with the same head.

    forwarded: the header lines that go on to an engine
    admitted:  its route and whose request it is, as long as ``Registry.changes`` is ``at_changes``
    """

    forwarded: bytes | None = None
    admitted: "tuple[Found, Caller] | None" = None
    at_changes: int = -1


class Request(msgspec.Struct, gc=False):
    """One request as it came.

    headers:   never changed in place: requests with the same head share them, and those lack content-length
    derived:   of its head, where that came before on the same connection and ``headers`` are still as they came
    failure:   why it is answered with an error whatever it asks for
    head_only: it was HEAD: ``method`` says GET, and its answer has no body
    was_passed: another process of this gateway has read it and passed it to us
    """

    method: bytes = b""
    path: bytes = b""
    query: bytes = b""
    headers: dict[bytes, bytes] = {}
    body: bytes = b""
    derived: Derived | None = None
    http_1_0: bool = False
    is_upgrade: bool = False
    keep_alive: bool = True
    was_passed: bool = False
    head_only: bool = False
    began_s: float = 0.0
    failure: Failure | None = None
    charged_bytes: int = 0


class _Remembered(msgspec.Struct, frozen=True):
    """A head that came before."""

    head: Around
    request: Request
    derived: Derived


class _StopReadingError(Exception):
    """Leaves the parser from inside a callback; the reason is in ``request.failure``."""


class RequestReader:
    """Reads requests. httptools calls the ``on_`` methods; nothing here knows sockets or time limits.

    ``ready``: requests that are complete. ``request``: the one being read, with ``failure`` set if it is wrong.
    ``upgraded``: what came after a request to switch to WebSocket, which is the last one that is read.
    """

    __slots__ = (
        "_begun",
        "_body_bytes",
        "_chunked",
        "_chunks",
        "_dead",
        "_framing_bytes",
        "_gathered",
        "_head_alone",
        "_head_bytes",
        "_held_back",
        "_last_head",
        "_limits",
        "_parser",
        "_pieces",
        "_remembered",
        "_url",
        "expects_continue",
        "head_complete",
        "length",
        "ready",
        "request",
        "upgraded",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self.ready: list[Request] = []
        self.upgraded: bytes | None = None
        self._dead = False
        self._last_head = 0
        self._remembered: _Remembered | None = None
        self._held_back = b""  # a head that came before, whose body has not come
        #: What the read brought that began the request at hand, if that was its head and no more.
        self._head_alone = b""
        self._begin()

    def take(self, data: bytes) -> Request | None:
        """Take bytes while no other request is at hand: the request that ends with them, if that is all there is.

        Anything else is as ``feed`` leaves it; or ``holds_back`` is true, and the next bytes tell.
        """
        request = self.whole(data)
        if request is not None:
            return request
        known = self._remembered
        began = self.is_idle
        if began and known is not None and is_without_content(data, known.head):
            self._held_back = data
            return None
        head_alone = self._head_alone
        self.feed(data)
        if len(self.ready) == 1 and self.is_idle and self.request.failure is None:
            request = self.ready.pop()
            if began or head_alone:
                self.remember(data if began else head_alone, request)
            return request
        if began and self.head_complete and not self._body_bytes and len(data) <= HEAD_BYTES_MAX:
            self._head_alone = data
        return None

    def whole(self, data: bytes) -> Request | None:
        """The request that ``data`` is, where the connection is idle and its head came before; else ``feed`` it."""
        known = self._remembered
        if known is None or self._begun or self._framing_bytes or self.upgraded is not None:
            return None
        body = content_of(self._held_back + data if self._held_back else data, known.head)
        if body is None or len(body) > self._limits.body_bytes_max:
            return None
        self._held_back = b""
        like = known.request
        return Request(like.method, like.path, like.query, like.headers, body, known.derived)

    def remember(self, data: bytes, request: Request) -> None:
        """``data`` was this one request, or its head. That is kept when it comes for the second time."""
        odd = request.http_1_0 or request.is_upgrade or request.head_only or not request.keep_alive
        if odd or request.failure is not None or len(request.headers) > _REMEMBERED_HEADERS_MAX:
            return
        if not _REPEATED_NEVER.isdisjoint(request.headers):
            return
        head = around_length(data)
        if head is None:
            return
        digest = hash(head)
        if digest == self._last_head:
            headers = {name: value for name, value in request.headers.items() if name != b"content-length"}
            like = Request(request.method, request.path, request.query, headers)
            self._remembered = _Remembered(head, like, Derived())
        self._last_head = digest

    def _begin(self) -> None:
        self.request = Request()
        self.head_complete = False
        self.expects_continue = False
        self.length: int | None = None
        self._begun = False
        self._url = b""
        self._pieces: list[bytes] = []
        self._gathered: bytearray | None = None
        self._chunks = 0
        self._body_bytes = 0
        self._head_bytes = 0
        self._framing_bytes = 0
        self._chunked = False
        self._head_alone = b""

    def feed(self, data: bytes) -> None:
        """Take bytes; what came of them is in ``ready``, ``request`` and ``request.failure``."""
        if self._held_back:
            data, self._held_back = self._held_back + data, b""
        if len(data) <= _SLICE_BYTES:
            self._feed(data)
            return
        view = memoryview(data)
        start = 0
        while start < len(data) and not self._dead:
            unclear = self._chunked or not self.head_complete
            end = start + _SLICE_BYTES if unclear else len(data)
            self._feed(view[start:end])
            start = end

    def _feed(self, data: bytes | memoryview) -> None:
        if self.upgraded is not None:
            self.upgraded += data
            return
        ready_before = len(self.ready)
        try:
            self._parser.feed_data(data)
            if len(self.ready) == ready_before:
                self._bound_framing(len(data))
        except httptools.HttpParserInvalidMethodError:
            self._note(errors.bad_http("its method is unknown"))
        except httptools.HttpParserUpgrade as upgrade:
            if self.ready and self.ready[-1].is_upgrade:
                self.upgraded = bytes(data[upgrade.args[0] :])
            else:
                self._note(errors.bad_http("upgrades are not offered here"))
        except httptools.HttpParserError as error:
            self._note(errors.bad_http(str(error).lower()))
        except _StopReadingError:
            pass

    def discard_body(self) -> None:
        """Read the rest of this request's body without keeping it."""
        self._pieces.clear()
        self._gathered = None

    @property
    def body_bytes(self) -> int:
        """Of the request being read, so far."""
        return self._body_bytes

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a further request has come."""
        return not (self._begun or self._framing_bytes or self._held_back) and self.upgraded is None

    @property
    def holds_back(self) -> bool:
        """Whether a head that came before is all that has come; ``feed`` with nothing has it parsed."""
        return bool(self._held_back)

    @property
    def awaits_tunnel(self) -> bool:
        """Whether what comes now is a tunnel's, and little of it has come: while it does, a client is seen to leave."""
        return self.upgraded is not None and len(self.upgraded) <= _EARLY_BYTES_MAX

    def _bound_framing(self, fed_bytes: int) -> None:
        """Bound what a message takes besides its body: an endless header, chunk extensions, trailers."""
        self._framing_bytes += fed_bytes
        if not self.head_complete:
            if self._framing_bytes > self._limits.header_bytes_max:
                self._fail(errors.headers_too_large(self._limits.header_bytes_max))
        elif self._chunked:
            content = self._body_bytes + _CHUNK_FRAMING_BYTES * self._chunks
            if self._framing_bytes - content > 2 * self._limits.header_bytes_max:
                self._fail(errors.bad_http("its chunk extensions and trailers are too large"))

    def on_message_begin(self) -> None:
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.header_bytes_max:
            self._fail(errors.headers_too_large(self._limits.header_bytes_max))
        if self.head_complete:
            return  # a trailer: bounded, and nobody's business
        name = name.lower()
        headers = self.request.headers
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            self._fail(errors.bad_http(f"header {name.decode('latin-1')} is repeated"))
        else:
            headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        request = self.request
        request.method = self._parser.get_method()
        if request.method == b"HEAD":
            request.method = b"GET"
            request.head_only = True
        request.path, _, request.query = self._url.partition(b"?")
        version = self._parser.get_http_version()
        request.http_1_0 = version == "1.0"
        request.keep_alive = not request.http_1_0 and self._parser.should_keep_alive()
        if version not in {"1.1", "1.0"}:
            self._fail(errors.bad_http("its version is neither 1.1 nor 1.0"))
        self._check_target()
        self._check_framing()
        self.head_complete = True

    def _check_target(self) -> None:
        request = self.request
        if request.method not in _METHODS:
            self._fail(
                errors.method_not_allowed(request.method.decode("latin-1"), "GET, HEAD, POST or DELETE")
            )
        if not self._url.startswith(b"/") or self._url.find(b"#") >= 0 or not self._url.isascii():
            self._fail(errors.bad_http("its target is not an absolute path"))
        if b"host" not in request.headers and not request.http_1_0:
            self._fail(errors.bad_http("it has no Host header"))
        if b"upgrade" in request.headers:
            if not (self._parser.should_upgrade() and is_upgrade(request)) or request.head_only:
                self._fail(errors.bad_http("upgrades are not offered here"))
            request.is_upgrade = True
            request.keep_alive = False  # if it is refused, what follows is no HTTP

    def _check_framing(self) -> None:
        headers = self.request.headers
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked" or self.request.http_1_0:
                self._fail(errors.bad_http("its transfer coding is not chunked alone"))
            self._chunked = True
        length = headers.get(b"content-length")
        if length is not None:
            if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX:
                self._fail(errors.bad_http("its Content-Length is not a number that fits"))
            self.length = int(length)
            if self.length > self._limits.body_bytes_max:
                self._fail(errors.body_too_large(self._limits.body_bytes_max))
        expectation = headers.get(b"expect")
        if expectation is not None:
            if expectation.lower() != b"100-continue":
                self._fail(errors.expectation_failed())
            self.expects_continue = not self.request.http_1_0

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes_max:
            self._fail(errors.body_too_large(self._limits.body_bytes_max))
        if self.request.failure is None:
            self._pieces.append(body)
            if len(self._pieces) > _PIECES_MAX:
                self._gather()

    def _gather(self) -> None:
        """Many small pieces take many times their bytes: keep them as one."""
        if self._gathered is None:
            self._gathered = bytearray()
        self._gathered += b"".join(self._pieces)
        self._pieces.clear()

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_message_complete(self) -> None:
        pieces = self._pieces
        if self._gathered is not None:
            self._gather()
            self.request.body = bytes(self._gathered)
        else:
            self.request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.ready.append(self.request)
        if len(self.ready) > self._limits.pipelined_requests_max:
            self._begin()
            self._fail(errors.bad_http("too many requests were sent ahead"))
        self._begin()

    def _note(self, failure: Failure) -> None:
        if self.request.failure is None:
            self.request.failure = failure
        self.request.keep_alive = False
        self._dead = True

    def _fail(self, failure: Failure) -> None:
        self._note(failure)
        raise _StopReadingError
