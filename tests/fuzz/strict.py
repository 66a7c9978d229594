"""HTTP/1.1 read a second time, slowly and by the letter of RFC 9112, to hold the gateway's parser against.

Whatever the gateway takes for a request must be one here too, with the same end: where two readers of the same
bytes disagree on where a message ends, requests can be smuggled.

Lenient where it is without danger, as nothing of it is passed on: line ends before a message, more than one space
in a request line, zeros before a chunk's size, anything in a reason phrase, and whatever version an answer says it
has.
"""

import re
from dataclasses import dataclass

_REQUEST_LINE = re.compile(rb"([A-Z]+) +(/[!-~]*) +HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/([0-9.]{3}) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_HEADER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[\t ]*"
)
_CHUNK = re.compile(rb"(0*[0-9A-Fa-f]{1,16})(?:[\t ]*;[\t -~\x80-\xff]*)?")


class NotHttpError(Exception):
    """The bytes break a rule; no message begins or ends here."""


class _IncompleteError(Exception):
    """The bytes end within a message."""


@dataclass(frozen=True)
class Message:
    """A request (``start``: method and target) or a response (``start``: status), and its content."""

    start: tuple[bytes, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def get(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)


def requests(data: bytes) -> tuple[list[Message], bool]:
    """All whole requests at the start of ``data``, and whether what follows them may still become one."""
    found: list[Message] = []
    place = 0
    try:
        while True:
            message, place = _request(data, place)
            found.append(message)
    except _IncompleteError:
        return found, True
    except NotHttpError:
        return found, False


def response(data: bytes, *, ended: bool) -> tuple[Message | None, bytes]:
    """The final response at the start of ``data``, if it is whole, and what follows it. Raises NotHttpError."""
    place = 0
    try:
        while True:
            start, headers, place = _head(data, place, _STATUS_LINE)
            status = int(start[1])
            if status >= 200:
                break
        if status in {204, 304}:
            return Message(start, headers, b""), data[place:]
        length = _length(headers, may_be_chunked=True)
        if length is None and _get(headers, b"transfer-encoding") is None:
            return (Message(start, headers, data[place:]), b"") if ended else (None, b"")
        body, place = _body(data, place, length)
        return Message(start, headers, body), data[place:]
    except _IncompleteError:
        return None, b""


def _request(data: bytes, place: int) -> tuple[Message, int]:
    start, headers, place = _head(data, place, _REQUEST_LINE)
    names = [name for name, _ in headers]
    if start[2] == b"1" and names.count(b"host") != 1:
        raise NotHttpError("host")
    length = _length(headers, may_be_chunked=start[2] == b"1")
    if length is None and _get(headers, b"transfer-encoding") is None:
        length = 0
    body, place = _body(data, place, length)
    return Message(start[:2], headers, body), place


def _head(
    data: bytes, place: int, first: re.Pattern[bytes]
) -> tuple[tuple[bytes, ...], tuple[tuple[bytes, bytes], ...], int]:
    while data[place : place + 1] in {b"\r", b"\n"}:
        place += 1
    end = data.find(b"\r\n\r\n", place)
    if end < 0:
        raise _IncompleteError
    start_line, *lines = data[place:end].split(b"\r\n")
    start = first.fullmatch(start_line)
    if start is None:
        raise NotHttpError("start line")
    return tuple(each or b"" for each in start.groups()), _headers(lines), end + 4


def _headers(lines: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        matched = _HEADER.fullmatch(line)
        if matched is None:
            raise NotHttpError("header")
        headers.append((matched[1].lower(), matched[2]))
    return tuple(headers)


def _get(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes | None:
    return next((value for each, value in headers if each == name), None)


def _length(headers: tuple[tuple[bytes, bytes], ...], *, may_be_chunked: bool) -> int | None:
    """The announced length; ``None`` if there is none or the body is chunked."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and (lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or not may_be_chunked):
        raise NotHttpError("framing")
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"[0-9]{1,19}", lengths[0])):
        raise NotHttpError("length")
    return int(lengths[0]) if lengths else None


def _body(data: bytes, place: int, length: int | None) -> tuple[bytes, int]:
    if length is not None:
        if len(data) - place < length:
            raise _IncompleteError
        return data[place : place + length], place + length
    pieces: list[bytes] = []
    while True:
        size_line, place = _line(data, place)
        size = _CHUNK.fullmatch(size_line)
        if size is None:
            raise NotHttpError("chunk")
        count = int(size[1], 16)
        if count == 0:
            break
        if len(data) - place < count + 2:
            raise _IncompleteError
        pieces.append(data[place : place + count])
        place += count
        if data[place : place + 2] != b"\r\n":
            raise NotHttpError("chunk's end")
        place += 2
    trailers: list[bytes] = []
    while True:
        line, place = _line(data, place)
        if not line:
            _headers(trailers)
            return b"".join(pieces), place
        trailers.append(line)


def _line(data: bytes, place: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", place)
    if end < 0:
        raise _IncompleteError
    return data[place:end], end + 2
