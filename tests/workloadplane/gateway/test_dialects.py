"""Every refusal in the shape of the API that was asked, so that its client raises what it should."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from workloadplane.gateway import dialects
from workloadplane.gateway import errors as e
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.queueing.rate_limits import Limited
from workloadplane.gateway.queueing.waiting_room import NoRoom
from workloadplane.gateway.reader import Request
from workloadplane.protocol.refusal import Refusal

INVALID = "invalid_request_error"
_REFUSAL = Refusal(rule="residency", subject="jurisdiction", value="us", remedy="call a gateway in: eu")
FAILURES: list[tuple[Failure, type[openai.APIStatusError], type[anthropic.APIStatusError], str, bool]] = [
    (e.bad_request("x"), openai.BadRequestError, anthropic.BadRequestError, INVALID, False),
    (e.bad_http("x"), openai.BadRequestError, anthropic.BadRequestError, INVALID, False),
    (e.missing_key(), openai.AuthenticationError, anthropic.AuthenticationError, "authentication_error", False),
    (e.wrong_key(), openai.AuthenticationError, anthropic.AuthenticationError, "authentication_error", False),
    (e.scope_missing("x"), openai.PermissionDeniedError, anthropic.PermissionDeniedError, "permission_error", False),
    (e.unknown_route("GET", "/x"), openai.NotFoundError, anthropic.NotFoundError, "not_found_error", False),
    (e.model_not_found("x"), openai.NotFoundError, anthropic.NotFoundError, "not_found_error", False),
    (e.response_not_found("x"), openai.NotFoundError, anthropic.NotFoundError, "not_found_error", False),
    (e.method_not_allowed("GET", "POST"), openai.APIStatusError, anthropic.APIStatusError, INVALID, False),
    (e.too_slow("body", 1), openai.APIStatusError, anthropic.APIStatusError, "timeout_error", True),
    (e.body_too_large(1), openai.APIStatusError, anthropic.APIStatusError, "request_too_large", False),
    (e.headers_too_large(1), openai.APIStatusError, anthropic.APIStatusError, INVALID, False),
    (e.displaced(2), openai.RateLimitError, anthropic.RateLimitError, "rate_limit_error", True),
    (e.refused(_REFUSAL), openai.APIStatusError, anthropic.APIStatusError, INVALID, False),
    (e.internal(), openai.InternalServerError, anthropic.InternalServerError, "api_error", True),
    (e.upstream_unreachable(), openai.InternalServerError, anthropic.InternalServerError, "api_error", True),
    (e.hold_expired(1), openai.InternalServerError, anthropic.InternalServerError, "overloaded_error", True),
    (e.upstream_timeout(1), openai.InternalServerError, anthropic.InternalServerError, "timeout_error", True),
    (e.background_unsupported(), openai.BadRequestError, anthropic.BadRequestError, INVALID, False),
]  # fmt: skip


_BY_STATUS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}


def asked(path: bytes) -> Request:
    return Request(method=b"POST", path=path)


def response(failure: Failure, path: bytes) -> httpx2.Response:
    head = dialects.error_head(asked(path), failure, "req-1").decode()
    headers = [tuple(line.split(": ", 1)) for line in head.split("\r\n") if line]
    return httpx2.Response(
        failure.status,
        headers=headers,  # type: ignore[arg-type]
        content=dialects.error_body(asked(path), failure),
        request=httpx2.Request("POST", "http://gateway/"),
    )


@pytest.mark.parametrize(("failure", "raised", "_", "__", "retried"), FAILURES)
def test_openais_client_raises_its_own_class(
    failure: Failure, raised: type[openai.APIStatusError], _: Any, __: str, retried: bool
) -> None:
    """Class, code, parameter and request id are parsed, and it comes again exactly when that may help."""
    with openai.OpenAI(api_key="x", base_url="http://gateway/v1") as client:
        answer = response(failure, b"/v1/chat/completions")
        error = client._make_status_error_from_response(answer)
        assert type(error) is raised
        assert (error.code, error.param, error.type) == (failure.code, failure.param, failure.type)
        assert failure.message in error.message
        assert error.request_id == "req-1"
        assert client._should_retry(answer) is retried


@pytest.mark.parametrize(("failure", "_", "raised", "kind", "retried"), FAILURES)
def test_anthropics_client_raises_its_own_class(
    failure: Failure, _: Any, raised: type[anthropic.APIStatusError], kind: str, retried: bool
) -> None:
    """The body has Anthropic's shape and its type."""
    with anthropic.Anthropic(api_key="x", base_url="http://gateway") as client:
        answer = response(failure, b"/v1/messages")
        error = client._make_status_error_from_response(answer)
        assert isinstance(error, raised)
        assert error.body == {"type": "error", "error": {"type": kind, "message": failure.message}}
        assert error.request_id == "req-1"
        assert client._should_retry(answer) is retried


_SAMPLES: dict[str, Any] = {
    "str": "x",
    "int": 1,
    "float": 1.5,
    "Refusal": _REFUSAL,
    "NoRoom": NoRoom("deadline", 3, 4.5),
    "Limited": Limited("tokens", 100, "key", 3, b"x-ratelimit-limit-tokens: 100\r\n"),
}


def _every_failure() -> Iterator[tuple[str, Failure]]:
    for name, make in inspect.getmembers(e, inspect.isfunction):
        wanted = inspect.signature(make)
        if name.startswith("_") or wanted.return_annotation is not Failure:
            continue
        given = [
            _SAMPLES[each.annotation.__name__]
            for each in wanted.parameters.values()
            if each.kind is each.POSITIONAL_OR_KEYWORD
        ]
        yield name, make(*given)


@pytest.mark.parametrize(("name", "failure"), list(_every_failure()))
def test_no_way_to_say_no_is_without_a_class(name: str, failure: Failure) -> None:
    """Whatever the gateway may ever answer is parsed by both clients: code, message, id, whether to retry."""
    with openai.OpenAI(api_key="x", base_url="http://gateway/v1") as client:
        answer = response(failure, b"/v1/chat/completions")
        error = client._make_status_error_from_response(answer)
        assert isinstance(error, _BY_STATUS.get(failure.status, openai.APIStatusError))
        assert error.code == failure.code
        assert failure.message in error.message
        if failure.retry_after_s is not None:
            assert client._should_retry(answer), name
            assert int(answer.headers["retry-after"]) == failure.retry_after_s
        elif failure.status < 500 and failure.status not in (408, 429):
            assert not client._should_retry(answer), name
    with anthropic.Anthropic(api_key="x", base_url="http://gateway") as other:
        told: Any = other._make_status_error_from_response(response(failure, b"/v1/messages")).body
        assert told["error"]["message"] == failure.message


def test_a_broken_stream_ends_in_its_own_apis_words() -> None:
    """Chat: OpenAI's error; Responses: the event ``error`` with the next number; Messages: Anthropic's error."""
    failure = e.stream_broken()
    chat = dialects.error_event(asked(b"/v1/chat/completions"), failure, b"")
    assert json.loads(chat.split(b"data: ")[1])["error"]["code"] == "stream_broken"
    before = b'event: response.output_text.delta\ndata: {"sequence_number":6,"delta":"a"}\n\n'
    told = json.loads(dialects.error_event(asked(b"/v1/responses"), failure, before).split(b"data: ")[1])
    assert (told["type"], told["sequence_number"], told["code"]) == ("error", 7, "stream_broken")
    assert told["error"]["message"] == told["message"] == failure.message
    message = dialects.error_event(asked(b"/v1/messages"), failure, b"")
    assert message.startswith(b"event: error\ndata: ")
    assert json.loads(message.split(b"data: ")[1])["error"]["type"] == "api_error"


def test_an_engines_error_body_ends_a_begun_stream_in_the_apis_words() -> None:
    """As it came where its shape is the API's own; as an event of Responses where that API has another one."""
    body = b'{"error":{"message":"too long",\n"type":"invalid_request_error","param":"input","code":"c"}}'
    chat = dialects.event_of_error_body(asked(b"/v1/chat/completions"), body)
    assert chat.count(b"\n") == 3
    assert json.loads(chat.split(b"data: ")[1])["error"]["message"] == "too long"
    told = json.loads(dialects.event_of_error_body(asked(b"/v1/responses"), body).split(b"data: ")[1])
    assert (told["type"], told["message"], told["param"], told["code"]) == ("error", "too long", "input", "c")
    for odd in (b"", b"<html>", b"[1]", b'{"error":1}', b'{"detail":"no"}'):
        assert (
            dialects.event_of_error_body(asked(b"/v1/responses"), odd) == b"event: error\ndata: %s\n\n" % odd
        )
