"""W3C trace context in, a span for each sampled request and each of its attempts, OTLP out. Nothing of what was said.

A request whose client samples it (``traceparent``) is followed; of those that come without a trace every so
many-th is. The engine, or the peer, is told our span as its parent. Finished spans wait in a bounded queue; a
thread of its own encodes and sends them, so a collector that is slow or away costs spans, never a request.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from workloadplane.gateway.reader import Request

TRACEPARENT = b"traceparent"
_TRACESTATE = b"tracestate"
_SAMPLED = 0x01
_STATE_BYTES_MAX = 512
_BATCH_SPANS = 512
_HEX = frozenset(b"0123456789abcdef")

Attribute = str | int | float


@dataclass(slots=True)
class Parent:
    """What a valid ``traceparent`` says. Ids in hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool


@dataclass(slots=True)
class Span:
    """One request's, while it runs. Ids in hexadecimal; ``parent_id`` is empty for the first of its trace."""

    trace_id: str
    span_id: str
    parent_id: str
    state: str

    @property
    def traceparent(self) -> bytes:
        """As it is told to whoever is asked next."""
        return f"00-{self.trace_id}-{self.span_id}-01".encode()


@dataclass(slots=True)
class SpanEvent:
    """A moment in a span. ``at``: seconds since 1970."""

    name: str
    at: float


@dataclass(slots=True)
class EndedSpan:
    """Times in seconds since 1970. ``is_call``: what was asked of another; else what another asked of us."""

    span: Span
    name: str
    began_at: float
    ended_at: float
    failed: bool
    attributes: tuple[tuple[str, Attribute], ...]
    is_call: bool = False
    events: tuple[SpanEvent, ...] = ()


def parse_traceparent(value: bytes) -> Parent | None:
    """By the rules of W3C Trace Context; ``None``: what is no valid one, and starts no trace."""
    parts = value.split(b"-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    version, trace_id, span_id, flags = parts[:4]
    if not _HEX.issuperset(version + trace_id + span_id + flags) or version == b"ff":
        return None
    if version == b"00" and len(parts) != 4:
        return None
    if trace_id == b"0" * 32 or span_id == b"0" * 16:
        return None
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))


def follow(request: Request, span: Span) -> None:
    """Whoever is asked next is told this span as its parent."""
    request.headers = {**request.headers, TRACEPARENT: span.traceparent}
    request.derived = None


class Tracer:
    """Of one process. Without a URL it makes no spans, and a valid trace context passes as it came.

    url:     where an OTLP/HTTP collector takes spans
    headers: sent with them, as a collector may want a key
    ratio:   of the requests that come without a trace, how many are followed: 0 ... 1
    """

    def __init__(
        self,
        url: str | None,
        *,
        ratio: float,
        rng: Random,
        instance: str,
        headers: Mapping[str, str] | None = None,
        spans_max: int = 4096,
    ) -> None:
        self._url = url
        self._headers = {**(headers or {}), "content-type": "application/x-protobuf"}
        self._ratio = ratio
        self._rng = rng
        self._resource = (("service.name", "meridian-gateway"), ("service.instance.id", instance))
        self._ended: deque[EndedSpan] = deque()
        self._spans_max = spans_max
        self._thread = ThreadPoolExecutor(1, "otlp") if self._url else None
        self._sending: asyncio.Future[bool] | None = None
        self._sending_spans = 0
        self.sent_spans = 0
        self.lost_spans = 0

    def begin(self, request: Request) -> Span | None:
        """The request's span if it is to be followed; its headers then name it to whoever is asked next."""
        headers = request.headers
        given = headers.get(TRACEPARENT)
        if given is None:
            if self._url is None or self._rng.random() >= self._ratio:
                return None
            parent = None
        else:
            parent = parse_traceparent(given)
            if parent is None:
                headers = {k: v for k, v in headers.items() if k not in (TRACEPARENT, _TRACESTATE)}
                request.headers, request.derived = headers, None
            if self._url is None or (not parent.sampled if parent else self._rng.random() >= self._ratio):
                return None
        state = headers.get(_TRACESTATE, b"") if parent is not None else b""
        span = Span(
            parent.trace_id if parent else f"{self._rng.getrandbits(128) or 1:032x}",
            f"{self._rng.getrandbits(64) or 1:016x}",
            parent.span_id if parent else "",
            state.decode("latin-1") if len(state) <= _STATE_BYTES_MAX else "",
        )
        follow(request, span)
        return span

    def child_of(self, span: Span) -> Span:
        """A span below it."""
        return Span(span.trace_id, f"{self._rng.getrandbits(64) or 1:016x}", span.span_id, span.state)

    def end(self, ended: EndedSpan) -> None:
        """To be exported, unless too many wait already."""
        if len(self._ended) >= self._spans_max:
            self.lost_spans += 1
        else:
            self._ended.append(ended)

    def flush(self) -> None:
        """Begin to export what waits, if nothing is on its way. Never blocks."""
        if self._sending is not None and self._sending.done():
            if not self._sending.cancelled() and self._sending.result():
                self.sent_spans += self._sending_spans
            else:
                self.lost_spans += self._sending_spans
            self._sending = None
        if self._sending is None and self._ended and self._thread is not None and self._url is not None:
            batch = [self._ended.popleft() for _ in range(min(_BATCH_SPANS, len(self._ended)))]
            self._sending_spans = len(batch)
            loop = asyncio.get_running_loop()
            self._sending = loop.run_in_executor(
                self._thread, _send, self._url, self._headers, self._resource, batch
            )

    async def close(self, within_s: float) -> None:
        """Export what waits, for so long; the rest is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._ended or self._sending is not None:
                    self.flush()
                    if self._sending is not None:
                        await asyncio.wait([self._sending])
                        self.flush()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def _send(
    url: str, headers: Mapping[str, str], resource: tuple[tuple[str, Attribute], ...], batch: list[EndedSpan]
) -> bool:
    """In the thread; whether the collector took it. What encodes spans is loaded only where there are some: 4 MB."""
    from workloadplane.gateway import otlp

    return otlp.send(url, headers, resource, batch)
