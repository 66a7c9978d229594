"""Errors in the words of the API that was asked: OpenAI's, its Responses streams', or Anthropic's.

A client library parses an error by the shape that its own API has, so the gateway's refusals come in that shape
too. Which API it is shows in the path and, where both have the same, in a header of Anthropic's clients.
"""

import re
from collections.abc import Mapping

import msgspec

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.reader import Request

_RETRIABLE = frozenset({408, 409, 429, 500, 502, 503, 504})
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number":\s*(\d{1,12})')
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_anthropic(request: Request) -> bool:
    """Whether the answer belongs to a client of Anthropic's API."""
    path = request.path
    if path[:12] == b"/v1/messages":
        return True
    return path.startswith(b"/v1/models") and b"anthropic-version" in request.headers


def _is_responses(request: Request) -> bool:
    return request.path.startswith(b"/v1/responses")


def error_body(request: Request | None, failure: Failure) -> bytes:
    """The JSON body of an error. ``request``: as far as it was read."""
    if request is not None and is_anthropic(request):
        return msgspec.json.encode(_anthropic(failure))
    return errors.encode(failure)


def error_head(request: Request | None, failure: Failure, request_id: str | None) -> bytes:
    """Header lines of an error, without framing: what it is, when and whether to come again."""
    retry = failure.retry if failure.retry is not None else failure.status in _RETRIABLE
    lines = b"content-type: application/json\r\nx-should-retry: " + (b"true\r\n" if retry else b"false\r\n")
    if failure.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % failure.retry_after_s
    if failure.status == 401:
        lines += b"www-authenticate: Bearer\r\n"
    if failure.unready:
        lines += b"x-meridian-unready: 1\r\n"
    lines += failure.headers
    if request_id is not None:
        lines += request_id_lines(request, request_id)
    return lines


def request_id_lines(request: Request | None, request_id: str) -> bytes:
    """The request's id under the names that clients look for."""
    encoded = request_id.encode()
    if request is not None and is_anthropic(request):
        return b"x-request-id: %s\r\nrequest-id: %s\r\n" % (encoded, encoded)
    return b"x-request-id: %s\r\n" % encoded


def error_event(request: Request, failure: Failure, last_bytes: bytes) -> bytes:
    """The event that ends a stream which can't be finished. ``last_bytes``: what went out before it."""
    if is_anthropic(request):
        return b"event: error\ndata: " + msgspec.json.encode(_anthropic(failure)) + b"\n\n"
    if _is_responses(request):
        error = {
            "message": failure.message,
            "type": failure.type,
            "param": failure.param,
            "code": failure.code,
        }
        return _responses_event(error, last_bytes)
    return errors.error_event(failure)


def event_of_error_body(request: Request, body: bytes) -> bytes:
    """An engine's error body as the event that ends a stream which has begun already."""
    if _is_responses(request):
        try:
            told = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            told = None
        error = told.get("error") if isinstance(told, dict) else None
        if isinstance(error, dict):
            return _responses_event(error, b"")
    return b"event: error\ndata: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"


def _responses_event(error: Mapping[str, object], last_bytes: bytes) -> bytes:
    """As documented, and with ``error`` besides, as it is sent: clients raise on the one or the other."""
    numbers = _SEQUENCE_NUMBER.findall(last_bytes)
    event = {
        "type": "error",
        "code": error.get("code"),
        "message": error.get("message"),
        "param": error.get("param"),
        "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
        "error": error,
    }
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _anthropic(failure: Failure) -> dict[str, object]:
    fallback = "api_error" if failure.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(failure.status, fallback)
    return {"type": "error", "error": {"type": kind, "message": failure.message}}
