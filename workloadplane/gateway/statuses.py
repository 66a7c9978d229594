"""The first line of an answer, by its status."""

from http import HTTPStatus

_STATUS_TEXT = {
    **{status.value: status.phrase for status in HTTPStatus},
    413: "Content Too Large",
    422: "Unprocessable Content",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {text}\r\n".encode() for status, text in _STATUS_TEXT.items()}


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()
