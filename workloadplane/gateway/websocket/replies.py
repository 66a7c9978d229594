"""What an engine says of its responses, read from its messages as they pass. Pure.

Of each message only its beginning is looked at, for the event's type; a whole one is kept, up to a bound, when it
ends a response, since that tells what the response cost. Where the ends agreed on ``permessage-deflate`` a copy is
inflated for this; what they send goes on as it came. With another extension nothing can be read.
"""

import re
import zlib
from dataclasses import dataclass

from workloadplane.gateway.answers import AnswerScanner

_HEAD_BYTES = 256
_TYPE = re.compile(rb'"type"\s*:\s*"([a-z_.]{1,64})"')
_BEGINS = frozenset({b"response.created"})
_ENDS = frozenset({b"response.done", b"transcription.done"})
_TEXT, _COMPRESSED = 0x1, 0x40
_INFLATED_BYTES = 16 * 1024
_INFLATED_BYTES_MAX = 64 * 1024 * 1024
_FLUSHED = b"\0\0\xff\xff"  # what a sender leaves off the end of a message (RFC 7692, section 7.2.1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a response used, or several together, as far as the engine told."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    audio_input_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.audio_input_s + other.audio_input_s,
        )


NOTHING = Cost()


class Replies:
    """One session's. The frame scanner calls ``begin``, ``feed`` and ``end``.

    readable: whether messages can be understood; if not, nothing here is ever told
    running:  a response is being made
    """

    __slots__ = (
        "_compressed",
        "_ended",
        "_head",
        "_inflated_bytes",
        "_inflater",
        "_is_judged",
        "_is_text",
        "_whole",
        "readable",
        "running",
    )

    def __init__(self, extensions: bytes | None) -> None:
        """``extensions``: those that the ends agreed on."""
        deflates = extensions is not None and _agreed(extensions) == [b"permessage-deflate"]
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if deflates else None
        self._inflated_bytes = 0
        self._compressed = False
        self._is_text = False
        self._is_judged = False
        self._head = b""
        self._whole: AnswerScanner | None = None
        self.readable = extensions is None or deflates
        self.running = False
        self._ended: list[Cost] = []

    def take_ended(self) -> list[Cost]:
        """The responses that have ended since this was last asked."""
        if not self._ended:
            return []
        ended, self._ended = self._ended, []
        return ended

    def begin(self, first: int) -> None:
        """A message begins; ``first``: the first byte of its first frame."""
        self._is_text = first & 0x0F == _TEXT
        self._compressed = bool(first & _COMPRESSED)
        self._is_judged = False
        self._head = b""
        self._whole = None
        self._inflated_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Some of its payload."""
        if not self.readable:
            return
        if self._compressed:
            self._inflate(piece)
        elif self._is_text:
            self._read(piece)

    def end(self) -> None:
        """It is whole."""
        if self.readable and self._compressed:
            self._inflate(_FLUSHED)
        if self._whole is None:
            return
        counts, self._whole = self._whole.counts(), None
        self.running = False
        self._ended.append(
            Cost(
                counts.input_tokens or 0,
                counts.cached_tokens or 0,
                counts.output_tokens or 0,
                counts.audio_input_s or 0.0,
            )
        )

    def _inflate(self, piece: bytes) -> None:
        """Every byte has to be inflated: later messages refer to earlier ones."""
        inflater = self._inflater
        if inflater is None:
            self._give_up()
            return
        while True:
            try:
                made = inflater.decompress(piece, _INFLATED_BYTES)
            except zlib.error:
                self._give_up()
                return
            self._inflated_bytes += len(made)
            if self._inflated_bytes > _INFLATED_BYTES_MAX or inflater.eof:
                self._give_up()
                return
            if self._is_text:
                self._read(made)
            piece = inflater.unconsumed_tail
            if not piece and len(made) < _INFLATED_BYTES:
                return

    def _give_up(self) -> None:
        self.readable = self.running = False
        self._inflater = self._whole = None

    def _read(self, text: bytes) -> None:
        if self._whole is not None:
            self._whole.feed(text)
        elif not self._is_judged:
            head = self._head + text[: _HEAD_BYTES - len(self._head)]
            told = _TYPE.search(head)
            self._is_judged = told is not None or len(head) == _HEAD_BYTES
            if told is not None:
                self._judge(told[1], self._head + text)
            self._head = head

    def _judge(self, kind: bytes, text: bytes) -> None:
        if kind in _ENDS:
            self._whole = AnswerScanner()
            self._whole.feed(text)
        elif kind in _BEGINS or kind.endswith(b".delta"):
            self.running = True


def _agreed(extensions: bytes) -> list[bytes]:
    return [each.partition(b";")[0].strip().lower() for each in extensions.split(b",")]
