"""Heads that came before: what the parser found in some bytes it would find in equal ones, so it need not be asked.

A client sends the same head with each of its requests but for the content's length, an engine with each of its
answers. Of a head that was read whole, the bytes before and after that length are kept; a read that begins with the
one, goes on with the other and holds exactly the content that the number between them tells, is such a message.
Only heads that the parser has read without objection, from the beginning of a read, are kept.
"""

import re

import msgspec

HEAD_BYTES_MAX = 4096
_DIGITS_MAX = 18
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,%d})\r\n" % _DIGITS_MAX, re.IGNORECASE)


class Around(msgspec.Struct, frozen=True, gc=False):
    """A head without its content's length: the bytes before its digits, and those after them."""

    before: bytes
    after: bytes


def around_length(message: bytes) -> Around | None:
    """Of a message that has been read whole; ``None`` if its head is long, or tells no length."""
    end = message.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
    told = _LENGTH.search(message, 0, end) if end >= 4 else None
    if told is None:
        return None
    begin, stop = told.span(1)
    return Around(message[:begin], message[stop:end])


def content_of(message: bytes, head: Around) -> bytes | None:
    """The content of a message with this head; ``None`` if it has another one, or if this is not all or too much."""
    before, after = head.before, head.after
    if not message.startswith(before):
        return None
    begin = len(before)
    stop = message.find(after, begin, begin + _DIGITS_MAX + len(after))
    if stop < 0:
        return None
    digits = message[begin:stop]
    content_at = stop + len(after)
    if not digits.isdigit() or int(digits) != len(message) - content_at:
        return None
    return message[content_at:]
