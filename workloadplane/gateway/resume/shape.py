"""The shape that an answer's events share: all that is the same in them, so that many are read by one split.

One event in a stream differs from the next in its text and its tokens' numbers alone. What lies around them is
learned from an event that was decoded, and proved by decoding it again with others in their place; events of that
shape then need no decoding. A batch in which anything else comes is not of the shape and is decoded event by event.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

_TEXT_MARKS = (b'"content":"', b'"content": "', b'"text":"', b'"text": "')
_IDS_MARKS = (b'"token_ids":[', b'"token_ids": [')
_PROBE_TEXT = b"~~"
_PROBE_IDS = b"7,8"
#: In a JSON string: what needs decoding or must not be there.
_SPECIAL = bytes((*range(32), *b'"\\'))
_strings = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of some events in order, encoded, and with each its tokens' numbers, if the shape has them.

    rest: the events that came behind the last one of the shape
    """

    texts: list[bytes]
    ids: list[bytes] | None
    rest: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """An event is ``before``, its text, then ``after`` or ``between``, its tokens' numbers, ``after``."""

    before: bytes
    between: bytes
    after: bytes

    def read(self, events: bytes) -> Batch | None:
        """What these whole events tell; ``None`` if others are among those of this shape."""
        before, after = self.before, self.after
        end = events.rfind(after)
        if not events.startswith(before) or end < len(before):
            return None
        texts = events[len(before) : end].split(after + before)
        ids = None
        if self.between:
            parted = [text.partition(self.between) for text in texts]
            texts = [text for text, _, _ in parted]
            ids = [numbers for _, _, numbers in parted]
            numbered = b",%b," % b",".join(ids)
            if b",," in numbered or numbered.translate(None, b"0123456789,"):
                return None
        told = b"".join(texts)
        try:
            if not told.isascii() or told.translate(None, _SPECIAL) != told:
                texts = [_strings.decode(b'"%b"' % text).encode() for text in texts]
        except (msgspec.DecodeError, UnicodeError):
            return None
        return Batch(texts, ids, events[end + len(after) :])


def learn(line: bytes, text: bytes, proves: Callable[[bytes, bytes, bytes | None], bool]) -> Shape | None:
    """The shape of a decoded event that told ``text``, or ``None``.

    line:   it, from ``data:`` on, without its line end
    proves: whether a line, decoded, tells this text and these numbers and otherwise nothing but what ``line`` told
    """
    mark = next((mark for mark in _TEXT_MARKS if line.count(mark) == 1), None)
    if mark is None:
        return None
    begin = line.index(mark) + len(mark)
    before, rest = line[:begin], line[begin + len(text) :]
    if line[begin : begin + len(text)] != text or not rest.startswith(b'"'):
        return None
    mark = next((mark for mark in _IDS_MARKS if mark in rest), None)
    if mark is None:
        proved = proves(before + _PROBE_TEXT + rest, _PROBE_TEXT, None)
        return Shape(before, b"", rest + b"\n\n") if proved else None
    at = rest.index(mark) + len(mark)
    end = rest.find(b"]", at)
    between, after = rest[:at], rest[end:]
    if rest.count(mark) > 1 or end < 0:
        return None
    proved = proves(before + _PROBE_TEXT + between + _PROBE_IDS + after, _PROBE_TEXT, _PROBE_IDS)
    return Shape(before, between, after + b"\n\n") if proved else None
