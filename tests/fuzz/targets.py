"""What must hold for any bytes: one function a target, each raising AssertionError where it does not.

An input's first byte says how often, the following pairs of bytes say where, the rest of it is cut. Targets that
need a running loop ask for none: they use the one that they are called in.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.fuzz import framed, strict
from workloadplane.gateway import body as bodies
from workloadplane.gateway import errors, multipart, routes
from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.heads import Served
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.reader import Request, RequestReader
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.upstream import ResponseHead, Target, UpstreamConnection

_LIMITS = Limits(header_bytes_max=2048, body_bytes_max=4096, pipelined_requests_max=8)


def cut(data: bytes) -> list[bytes]:
    """The input in the pieces that it asks for itself."""
    if not data:
        return []
    count = min(data[0] % 16, (len(data) - 1) // 2)
    places = data[1 : 1 + 2 * count]
    rest = data[1 + 2 * count :]
    cuts = {int.from_bytes(places[i : i + 2], "big") % (len(rest) + 1) for i in range(0, len(places), 2)}
    return [rest[start:end] for start, end in pairwise(sorted({0, len(rest), *cuts}))]


# Requests


def _read(pieces: list[bytes]) -> tuple[list[Request], Failure | None]:
    reader = RequestReader(_LIMITS)
    for piece in pieces:
        reader.feed(piece)
        if reader.request.failure is not None:
            break
    return reader.ready, reader.request.failure


def reader(data: bytes) -> None:
    """Requests do not depend on how bytes are cut, and are requests for a second reader too, end for end."""
    pieces = cut(data)
    ready, failure = _read(pieces)
    whole = b"".join(pieces)
    again, failure_again = _read([whole])
    seen = [(r.method, r.path, r.query, r.body, r.headers) for r in ready]
    assert seen == [(r.method, r.path, r.query, r.body, r.headers) for r in again]
    assert (failure is None) == (failure_again is None)
    expected, may_go_on = strict.requests(whole)
    assert len(ready) <= len(expected), "a request that is none for the second reader"
    for request, message in zip(ready, expected, strict=False):
        target = request.path + (b"?" + request.query if b"?" in message.start[1] else b"")
        assert (request.method if not request.head_only else b"HEAD", target) == message.start
        assert request.body == message.body
        assert len(request.body) <= _LIMITS.body_bytes_max
    if failure is None and len(ready) == len(expected):
        assert may_go_on or not ready or not ready[-1].keep_alive, "more is awaited of what is wrong already"
    if failure is not None:
        assert 400 <= failure.status < 500
        errors.encode(failure)
    assert _known(pieces, remembers=True) == _known(pieces, remembers=False)


def _known(pieces: list[bytes], *, remembers: bool) -> tuple[list[object], bool]:
    """What becomes of the same reads three times over, with a memory for heads that came before or without one."""
    reader = RequestReader(_LIMITS)
    seen: list[object] = []
    for piece in 3 * pieces:
        if remembers:
            one = reader.take(piece)
            reader.ready += [one] if one is not None else []
        else:
            reader.feed(piece)
        for r in reader.ready:
            told = {name: value for name, value in r.headers.items() if name != b"content-length"}
            seen.append((r.method, r.path, r.query, r.body, told, r.keep_alive, r.is_upgrade))
        reader.ready.clear()
        if reader.request.failure is not None:
            break
    reader.feed(b"")
    return seen, reader.request.failure is not None


# Bodies


def body(data: bytes) -> None:
    """A body is refused with a reason, or read as every JSON parser reads it; what is changed in it is changed."""
    _form(data)
    parsed = bodies.parse(data)
    if isinstance(parsed, Failure):
        assert parsed.status == 400
        errors.encode(parsed)
        return
    plain = json.loads(data)
    assert parsed.model == plain["model"]
    assert bool(parsed.stream) == bool(plain.get("stream"))
    changes: list[tuple[Callable[[], bytes], str, Any]] = [
        (lambda: bodies.with_model(data, "other"), "model", "other"),
        (lambda: bodies.with_request_id(data, "id"), "request_id", "id"),
        (lambda: bodies.without_priority(data), "priority", 0),
    ]
    if not parsed.wants_usage:
        options = {**(plain.get("stream_options") or {}), "include_usage": True}
        changes.append((lambda: bodies.with_usage_asked(data, parsed), "stream_options", options))
    for change, name, value in changes:
        changed = json.loads(change())
        assert _same(changed, {**plain, name: value}), name


def _same(one: Any, other: Any) -> bool:
    """Equal values; numbers that no float holds may have become the nearest one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | float):
        return type(one) is type(other) and one == other
    return isinstance(other, int | float) and float(one) == float(other)


def _form(data: bytes) -> None:
    form = multipart.parse(data, b"multipart/form-data; boundary=b")
    if isinstance(form, Failure):
        assert form.status in {400, 413, 415}
        errors.encode(form)
        return
    changed = multipart.with_model(data, form.model_at, "other")
    again = multipart.parse(changed, b"multipart/form-data; boundary=b")
    assert not isinstance(again, Failure)
    assert changed[again.model_at] == b"other"


# Streams


def sse(data: bytes) -> None:
    """Every byte passes, in order, however the stream is cut; only whole chunks of usage may be left out."""
    pieces = cut(data)
    whole = b"".join(pieces)
    for strip in (False, True):
        scanner = SseScanner(strip_usage=strip)
        passed = b"".join(scanner.feed(piece, float(number)) for number, piece in enumerate(pieces))
        out = passed + scanner.rest()
        if strip and b'"usage"' in whole:
            assert _is_subsequence(out, whole)
        else:
            assert out == whole
        assert scanner.events >= 0
        assert scanner.token_events >= 0


def _is_subsequence(part: bytes, whole: bytes) -> bool:
    """Whether bytes were left out and nothing else was done."""
    place = 0
    for line in part.splitlines(keepends=True):
        found = whole.find(line, place)
        if found < 0:  # two lines met where one was left out between them: look at bytes
            left = iter(whole)
            return all(byte in left for byte in part)
        place = found + len(line)
    return True


# Answers


_SILENT, _ITS_OTHER_END = socket.socketpair()  # for who looks whether something has come


class Wire(asyncio.Transport):
    """A transport that keeps what is written, for bytes need no socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _SILENT if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


class _Desk:
    """Takes one request and lets ``upstream`` answer it. (``exchange.Application`` and ``ResponseSink``.)"""

    limits = _LIMITS
    body_bytes = 0
    draining = False

    def __init__(self, upstream: UpstreamConnection, *, strip_usage: bool) -> None:
        self.connections: set[ClientConnection] = set()
        self.answer: AnswerWriter | None = None
        self.is_complete = False
        self.is_lost = False
        self.cohort = Cohort(asyncio.get_running_loop())
        self._upstream = upstream
        self._strip_usage = strip_usage

    def admit(self, request: Request) -> Failure | None:
        return None

    def handle(self, connection: ClientConnection, request: Request) -> None:
        self.answer = AnswerWriter(
            connection, request, "r", routes.CHAT, to_peer=False, strip_usage=self._strip_usage
        )
        self._upstream.send(self, b"POST / HTTP/1.1\r\n\r\n", b"")

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        assert self.answer is not None
        assert not self.is_complete, "an answer after the answer"
        passed = self.answer.pass_on(head, _SERVED, data, complete, 0.0)
        self.is_complete = complete and passed != "broken"
        if passed == "broken":
            self._fail()

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        assert self.answer is not None
        assert not self.is_complete
        self._fail()

    def _fail(self) -> None:
        assert self.answer is not None
        self.is_lost = True
        self.answer.fail(errors.stream_broken() if self.answer.started else errors.upstream_invalid())


class _After:
    """Asks for one more answer on a connection that was kept. (``ResponseSink``.)"""

    def __init__(self) -> None:
        self.got: list[tuple[bytes | None, bytes, bool]] = []

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        assert head is not None
        assert [name for name, _ in head.headers] == [b"x", b"content-length"]
        self.got.append((head.get(b"x"), data, complete))

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        self.got.append((None, b"lost", valid_http))


_NEXT = b"HTTP/1.1 200 OK\r\nx: a\r\ncontent-length: 4\r\n\r\nnext"
_SERVED = Served("c", "r", "replica", "revision", 1, "pool")
_REQUEST = b"POST /v1/chat/completions HTTP/1.%c\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


def answer(data: bytes) -> None:
    """What an engine says reaches the client whole and framed, or visibly broken; never as two answers."""
    if not data:
        return
    options = data[0]
    old, ends, strip = options & 1, options & 2, bool(options & 4)
    pieces = cut(data[1:])
    pool = UpstreamPool(connect_timeout_s=1, idle_timeout_s=1, idle_connections_max=8)
    upstream = UpstreamConnection(pool, Target("h", 1))
    engine = Wire()
    upstream.connection_made(engine)
    desk = _Desk(upstream, strip_usage=strip)
    client = Wire()
    connection = ClientConnection(desk)
    connection.connection_made(client)
    connection.data_received(_REQUEST % (b"0" if old else b"1"))
    taken = b""
    for piece in pieces:
        if desk.is_complete or desk.is_lost:
            break
        upstream.data_received(piece)
        taken += piece
    if not desk.is_lost and (ends or engine.ended):
        upstream.connection_lost(None)
    _check_answer(desk, client, taken, ended=bool(ends), strip=strip)
    kept = pool.take(Target("h", 1))
    if kept is not None:
        assert desk.is_complete or desk.is_lost  # the latter: framed well, its stream without its own end
        assert not engine.ended
        after = _After()
        kept.send(after, b"", b"")
        kept.data_received(_NEXT)
        assert after.got == [(b"a", b"next", True)], "one answer shows in the one after it"
    connection.connection_lost(None)


def _check_answer(desk: _Desk, client: Wire, taken: bytes, *, ended: bool, strip: bool) -> None:
    got, rest = strict.response(bytes(client.written), ended=client.ended)
    assert rest == b"", "more than one answer"
    if desk.is_complete:
        assert got is not None, "an answer that ended did not end for the client"
        said, after = strict.response(taken, ended=ended)
        assert said is not None, "an answer that is none for the second reader"
        assert after.strip(b"\r\n") == b""
        assert got.start[1] == said.start[1]
        stream = desk.answer.stream if desk.answer is not None else None
        if stream is None:
            assert got.body == said.body
        elif stream.done or stream.failed:
            assert strip or got.body.startswith(said.body)
        else:
            assert strip or b"error" in got.body or got.body == said.body
    elif desk.is_lost and got is not None:
        status = int(got.start[1])
        broken = b"error" in got.body or client.ended
        assert status >= 500 or broken, "an answer that broke off looks whole"


# Tunnels


def frames(data: bytes) -> None:
    """Frames are frames for a second reader, and a tunnel of them ends as it should. A first byte more says how."""
    if data:
        pieces = cut(data[1:])
        framed.scan(pieces, data[0])
        framed.tunnel(pieces, data[0])


TARGETS: dict[str, Callable[[bytes], None]] = {
    "reader": reader,
    "sse": sse,
    "body": body,
    "answer": answer,
    "frames": frames,
}
