"""Where the tokens of a job go: into a stream of events, or gathered into one answer."""

from typing import Protocol

from workloadplane.engines.simulator.answers import STREAM_END, AnswerForm, Choice, Usage
from workloadplane.engines.simulator.connection import Exchange
from workloadplane.engines.simulator.text import token_id


class StreamSink:
    """Tokens as server-sent events, as chat and completions have them."""

    def __init__(self, exchange: Exchange, form: AnswerForm, *, include_usage: bool, choices: int) -> None:
        self._exchange = exchange
        self._form = form
        self._include_usage = include_usage
        self._unopened = set(range(choices))
        exchange.begin_stream()

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """Send one event."""
        if index in self._unopened:
            self._unopened.discard(index)
            self._exchange.write(self._form.opening(index))
        self._exchange.write(self._form.chunk(index, piece, token, finish_reason))

    def done(self, usage: Usage) -> None:
        """Send the usage, if asked for, and the end."""
        last = self._form.usage_chunk(usage) if self._include_usage else b""
        self._exchange.write(last)
        self._exchange.end_stream(STREAM_END)

    def cut(self) -> None:
        """Break off."""
        self._exchange.cut()


class WholeSink:
    """Tokens gathered into one answer, as chat and completions have it."""

    def __init__(self, exchange: Exchange, form: AnswerForm, *, choices: int) -> None:
        self._exchange = exchange
        self._form = form
        self._pieces: list[list[bytes]] = [[] for _ in range(choices)]
        self._ids: list[list[int]] = [[] for _ in range(choices)]
        self._reasons = [""] * choices

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """Keep one token."""
        self._pieces[index].append(piece)
        self._ids[index].append(token_id(token))
        self._reasons[index] = finish_reason or ""

    def done(self, usage: Usage) -> None:
        """Send the answer."""
        choices = [
            Choice(
                index=index,
                text=b"".join(pieces).decode(errors="replace"),
                token_ids=tuple(self._ids[index]),
                finish_reason=self._reasons[index],
            )
            for index, pieces in enumerate(self._pieces)
        ]
        self._exchange.respond(200, self._form.whole(choices, usage))

    def cut(self) -> None:
        """Break off."""
        self._exchange.cut()


class ReadySink:
    """An answer that is known and only has to wait its time."""

    def __init__(self, exchange: Exchange, body: bytes, content_type: bytes = b"application/json") -> None:
        self._exchange = exchange
        self._body = body
        self._content_type = content_type

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """It has no tokens to show."""

    def done(self, usage: Usage) -> None:
        """Send the answer."""
        self._exchange.respond(200, self._body, content_type=self._content_type)

    def cut(self) -> None:
        """Break off."""
        self._exchange.cut()


class NamedEvents(Protocol):
    """How an API with named events writes an answer of one choice."""

    def opening(self) -> bytes:
        """Before the first token."""

    def delta(self, text: str) -> bytes:
        """One token."""

    def closing(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """After the last token; ``text`` is all of it."""

    def whole(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """The answer in one piece."""


class NamedEventsSink:
    """One answer as named events, or as one piece."""

    def __init__(self, exchange: Exchange, form: NamedEvents, *, stream: bool) -> None:
        self._exchange = exchange
        self._form = form
        self._stream = stream
        self._pieces: list[bytes] = []
        self._reason = ""
        if stream:
            exchange.begin_stream()
            exchange.write(form.opening())

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """Send or keep one token."""
        self._pieces.append(piece)
        self._reason = finish_reason or ""
        if self._stream:
            self._exchange.write(self._form.delta(piece.decode(errors="replace")))

    def done(self, usage: Usage) -> None:
        """Send the end, or all."""
        text = b"".join(self._pieces).decode(errors="replace")
        if self._stream:
            self._exchange.end_stream(self._form.closing(text, self._reason, usage))
        else:
            self._exchange.respond(200, self._form.whole(text, self._reason, usage))

    def cut(self) -> None:
        """Break off."""
        self._exchange.cut()


def event(name: str, data: bytes) -> bytes:
    """A named event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
