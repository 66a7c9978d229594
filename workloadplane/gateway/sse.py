"""A stream of server-sent events, scanned as bytes pass through.

Events go on whole and byte for byte as they came; the scan finds where events end, when tokens came, the usage
an engine reports, and whether the stream said that it is done. Only one event may be left out: the usage chunk
that the gateway itself asked for. An event is parsed only if the string ``"usage"`` is in it: inside a JSON
string its quotes would be escaped, so the bytes can't occur by accident of what a model says.

Bytes are searched by ``find``: ``in`` first takes what it is given for a number, and the error that this raises
and swallows costs more than the search. Names that are mostly not there are looked for from the end, which CPython
does two to four times as fast.

A half event is kept back until its rest has come, so a stream that breaks off ends between events; one larger
than a bound is passed on as it comes.

How a stream ends and which of its events hold tokens differs from API to API (``StreamForm``). Marks are whole
lines: a line end inside a JSON string is escaped, so what a model says can't be taken for one.
"""

import re
from dataclasses import dataclass

from workloadplane.gateway.answers import TokenCounts
from workloadplane.gateway.usage import Histogram

EVENT_BYTES_MAX = 1024 * 1024
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The streams of one API.

    last:       bytes that are in the last event; ``last_line``: the whole line that they are in
    token_line: the line that begins an event with tokens; ``None`` = every event has some
    must_end:   whether a stream without its last event is broken; engines differ in how they end audio
    """

    last: bytes
    last_line: re.Pattern[bytes]
    token_line: re.Pattern[bytes] | None = None
    must_end: bool = True


_DONE = re.compile(rb"^data: ?\[DONE\]\s*$", re.MULTILINE)
CHAT_STREAM = StreamForm(b"[DONE]", _DONE)
RESPONSES_STREAM = StreamForm(
    b"response.",
    re.compile(rb"^event: ?response\.(?:completed|incomplete|failed)\s*$", re.MULTILINE),
    re.compile(rb"^event: ?response\.[a-z_.]+\.delta\s*$", re.MULTILINE),
)
MESSAGES_STREAM = StreamForm(
    b"message_stop",
    re.compile(rb"^event: ?message_stop\s*$", re.MULTILINE),
    re.compile(rb"^event: ?content_block_delta\s*$", re.MULTILINE),
)
AUDIO_STREAM = StreamForm(b"[DONE]", _DONE, must_end=False)
_FAILED = re.compile(rb'^(?:data: ?\{"error"|event: ?error\s*$|event: ?response\.failed\s*$)', re.MULTILINE)
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\n)")


class SseScanner:
    """One stream. ``feed`` answers with the bytes to pass on now.

    events:       all that came, also those without tokens: what shows that the engine is alive
    token_events: those that brought tokens; ``first_event_s`` and the latencies are theirs
    done, failed: the stream said that it is complete, or that it is not
    last_bytes:   what was passed on last
    """

    __slots__ = (
        "_form",
        "_passing",
        "_strip_usage",
        "_tail",
        "counts",
        "done",
        "events",
        "failed",
        "first_event_s",
        "gap_s_max",
        "last_bytes",
        "last_event_s",
        "latency",
        "token_events",
    )

    def __init__(self, *, strip_usage: bool, form: StreamForm = CHAT_STREAM) -> None:
        self.counts = TokenCounts()
        self.events = 0
        self.token_events = 0
        self.last_bytes = b""
        self.first_event_s: float | None = None
        self.last_event_s: float | None = None
        self.gap_s_max: float | None = None
        self.latency = Histogram()
        self.done = False
        self.failed = False
        self._form = form
        self._strip_usage = strip_usage
        self._tail = b""
        self._passing = False

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Whole events to pass on. ``now_s``: when ``data`` came."""
        only_line_feeds = data.find(b"\r") < 0
        if only_line_feeds and data.endswith(b"\n\n") and not (self._tail or self._passing):
            whole = data
        else:
            only_line_feeds = False
            whole = self._take_whole(data)
            if not whole:
                return b""
        usage_events = 0
        if whole.rfind(b'"usage"') >= 0:
            whole, usage_events = self._read_usage(whole)
        self._count(whole if only_line_feeds else _with_line_feeds(whole), now_s, usage_events)
        self.last_bytes = whole
        return whole

    @property
    def is_broken(self) -> bool:
        """At the end of its body: whether the stream lacks its own end and has not said why."""
        if not self._form.must_end or self.done or self.failed:
            return False
        return not self._form.last_line.search(_with_line_feeds(self._tail))  # its blank line may be missing

    @property
    def is_mid_event(self) -> bool:
        """Whether a part of an event has been passed on, so that nothing may be put in now."""
        return self._passing

    def rest(self) -> bytes:
        """What is kept back: at a stream's proper end it is passed on, else dropped."""
        return self._tail

    def go_on(self) -> None:
        """Another stream takes this one's place: what was half, and a failure that nobody was told, are void."""
        self._tail = b""
        self.failed = False
        self.done = False

    def _take_whole(self, data: bytes) -> bytes:
        buffer = self._tail + data
        end = _last_event_end(buffer)
        if self._passing and end == 0:
            return buffer
        if end:
            self._passing = False
        # A comment is complete with its line: keep-alive comments must not wait for the next event.
        end = comments_end(buffer, end)
        if len(buffer) - end > EVENT_BYTES_MAX:
            self._passing = True
            end = len(buffer)
        self._tail = buffer[end:]
        return buffer[:end]

    def _count(self, whole: bytes, now_s: float, usage_events: int) -> None:
        events = whole.count(b"\ndata:") + whole.startswith(b"data:")
        form = self._form
        if whole.rfind(form.last) >= 0 and form.last_line.search(whole):
            self.done = True
            events -= form.last_line is _DONE
        if (whole.rfind(b"error") >= 0 or whole.rfind(b"response.failed") >= 0) and _FAILED.search(whole):
            self.failed = True
        events -= 0 if self._strip_usage else usage_events
        if events <= 0:
            return
        self.events += events
        if form.token_line is not None:
            events = len(form.token_line.findall(whole))
            if not events:
                return
        self.token_events += events
        last_s = self.last_event_s
        if self.first_event_s is None:
            self.first_event_s = now_s
        elif last_s is not None:
            gap_s = now_s - last_s
            self.latency.observe(gap_s / events, events)
            if self.gap_s_max is None or gap_s > self.gap_s_max:
                self.gap_s_max = gap_s
        self.last_event_s = now_s

    def _read_usage(self, whole: bytes) -> tuple[bytes, int]:
        """Read the usage in these events; leave the pure usage chunk out if it was asked for by us."""
        kept: list[bytes] = []
        usage_events = 0
        start = 0
        ends = [match.end() for match in _BLANK_LINE.finditer(whole)]
        if not ends or ends[-1] != len(whole):
            ends.append(len(whole))
        for end in ends:
            event = whole[start:end]
            start = end
            if event.rfind(b'"usage"') >= 0 and self._is_usage_chunk(event):
                usage_events += 1
                if self._strip_usage:
                    event = event[: comments_end(event, 0)]
            kept.append(event)
        return b"".join(kept), usage_events

    def _is_usage_chunk(self, event: bytes) -> bool:
        for line in event.splitlines():
            if line.startswith(b"data:"):
                answer = self.counts.add_answer(line[5:])
                if answer is not None and answer.usage is not None and answer.choices == []:
                    return True
        return False


def _with_line_feeds(lines: bytes) -> bytes:
    """The same lines with the one line end that marks are searched by."""
    return lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _last_event_end(buffer: bytes) -> int:
    """The offset after the last blank line; 0 if no event is complete."""
    if buffer.find(b"\r") < 0:
        at = buffer.rfind(b"\n\n")
        return at + 2 if at >= 0 else 0
    end = 0
    for match in _BLANK_LINE.finditer(buffer):
        end = match.end()
    return end


def comments_end(buffer: bytes, start: int) -> int:
    """The offset after the whole comment lines that begin at ``start``."""
    while buffer[start : start + 1] == b":":
        line_end = _LINE_END.search(buffer, start)
        if line_end is None:
            break
        start = line_end.end()
    return start
