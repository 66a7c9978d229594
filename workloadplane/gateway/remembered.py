"""Heads that came before: what the parser found in some bytes it would find in equal ones, so it need not be asked.

A client sends the same head with each of its requests but for the content's length, an engine with each of its
answers. Of a head that was read whole, the bytes before and after that length are kept; a read that begins with the
one, goes on with the other and holds exactly the content that the number between them tells, is such a message.
Clients that write head and content apart send the one without the other: such a head waits for its content's read.
Only heads that the parser has read without objection, from the beginning of a read, are kept.
"""

import re
from bisect import bisect_right

import msgspec

HEAD_BYTES_MAX = 4096
_DIGITS_MAX = 18
_ZERO = ord("0")
#: The fewest bytes that a content and its length's digits take together, by how many digits these are, from one on.
_WITH_DIGITS = (1, *(10**digits + digits + 1 for digits in range(1, _DIGITS_MAX)))
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,%d})\r\n" % _DIGITS_MAX, re.IGNORECASE)


class Around(msgspec.Struct, frozen=True, gc=False):
    """A head without its content's length: the bytes before its digits, and those after them.

    size_bytes: of both
    """

    before: bytes
    after: bytes
    size_bytes: int


def around_length(message: bytes) -> Around | None:
    """Of a message that has been read whole; ``None`` if its head is long, or tells no length."""
    end = message.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
    told = _LENGTH.search(message, 0, end) if end >= 4 else None
    if told is None:
        return None
    begin, stop = told.span(1)
    return Around(message[:begin], message[stop:end], begin + end - stop)


def content_of(message: bytes, head: Around) -> bytes | None:
    """The content of a message with this head; ``None`` if it has another one, or if this is not all or too much.

    How many bytes there are besides the head tells how many of them are the length's digits. Slices are compared,
    for CPython's ``find``, ``startswith`` and ``int`` of bytes take three times as long.
    """
    begin = len(head.before)
    at = begin + bisect_right(_WITH_DIGITS, len(message) - head.size_bytes)
    content_at = at + len(head.after)
    if message[at:content_at] != head.after or message[:begin] != head.before:
        return None
    if message[begin:at] != b"%d" % (len(message) - content_at):
        return None
    return message[content_at:]


def is_without_content(message: bytes, head: Around) -> bool:
    """Whether a message is this head, of some content, and not a byte of that."""
    begin, at = len(head.before), len(message) - len(head.after)
    if message[at:] != head.after or message[:begin] != head.before:
        return False
    digits = message[begin:at]
    return 0 < len(digits) <= _DIGITS_MAX and digits.isdigit() and digits[0] != _ZERO
