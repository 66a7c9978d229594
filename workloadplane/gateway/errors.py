"""Every way in which the gateway says no, in OpenAI's error format.

Cut by what the caller must do: 4xx mend the request, 429 and 503 come again after ``Retry-After``, 502 and 504
a replica failed and it was not the client's fault. The texts name field, value and remedy; a value that came
from the client is shortened and never put into a header.
"""

from dataclasses import dataclass

import msgspec

from workloadplane.gateway.queueing.rate_limits import Limited
from workloadplane.gateway.queueing.waiting_room import NoRoom
from workloadplane.protocol.refusal import Refusal

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_LIMITED = "rate_limit_error"
#: Rules that no waiting helps against, and what they are called at OpenAI.
_DOES_NOT_FIT = {"context_length": "context_length_exceeded", "modality": "unsupported_modality"}
_WEBSOCKET = b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error.

    unready: told to a peer gateway that it may ask elsewhere
    retry:   whether the same request may succeed soon; ``None`` = as its status says
    headers: further header lines
    """

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    unready: bool = False
    retry: bool | None = None
    headers: bytes = b""


def encode(failure: Failure) -> bytes:
    """The JSON body."""
    return msgspec.json.encode(
        {
            "error": {
                "message": failure.message,
                "type": failure.type,
                "param": failure.param,
                "code": failure.code,
            }
        }
    )


def error_event(failure: Failure) -> bytes:
    """The event that ends a stream which can't be finished; no ``[DONE]`` follows it."""
    return b"event: error\ndata: " + encode(failure) + b"\n\n"


def _shown(value: str) -> str:
    return value if len(value) <= 100 else value[:100] + "…"


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> Failure:
    return Failure(400, _INVALID, code, message, param)


def body_too_deep() -> Failure:
    return bad_request("The body is nested too deeply; send a flatter one.", code="body_too_deep")


def bad_http(reason: str) -> Failure:
    return Failure(400, _INVALID, "invalid_http", f"The request is not valid HTTP/1.1: {reason}.")


def headers_too_large(header_bytes_max: int) -> Failure:
    return Failure(
        431,
        _INVALID,
        "headers_too_large",
        f"The headers are larger than {header_bytes_max} bytes; send fewer or shorter ones.",
    )


def body_too_large(body_bytes_max: int) -> Failure:
    return Failure(
        413,
        _INVALID,
        "request_too_large",
        f"The body is larger than {body_bytes_max} bytes; send a smaller one.",
    )


def too_slow(what: str, timeout_s: float) -> Failure:
    return Failure(
        408, _INVALID, "request_timeout", f"The {what} did not arrive within {timeout_s:g} s; send again."
    )


def unknown_route(method: str, path: str) -> Failure:
    return Failure(
        404,
        _INVALID,
        "unknown_url",
        f"There is no {_shown(method)} {_shown(path)} here; see GET /v1/models and the OpenAI API.",
    )


def not_explained(request_id: str) -> Failure:
    return Failure(
        404,
        _INVALID,
        "not_explained",
        f"No choice for the request '{_shown(request_id)}' is kept at this gateway; only the latest ones are.",
    )


def method_not_allowed(method: str, allowed: str) -> Failure:
    return Failure(
        405,
        _INVALID,
        "method_not_allowed",
        f"Method {_shown(method)} is not allowed here; use {allowed}.",
        headers=f"allow: {allowed.replace(' or ', ', ')}\r\n".encode(),
    )


def upgrade_required() -> Failure:
    return Failure(
        426,
        _INVALID,
        "upgrade_required",
        "This route speaks WebSocket; connect with a WebSocket client.",
        headers=_WEBSOCKET,
    )


def websocket_version() -> Failure:
    return Failure(
        426,
        _INVALID,
        "websocket_version",
        "Only version 13 of WebSocket is spoken here; use that.",
        headers=_WEBSOCKET,
    )


def websocket_declined(status: int) -> Failure:
    return Failure(
        502, _SERVER, "websocket_declined", f"The replica declined the session with HTTP {status}."
    )


def expectation_failed() -> Failure:
    return Failure(417, _INVALID, "expectation_failed", "Only Expect: 100-continue is understood; drop it.")


def missing_key() -> Failure:
    return Failure(
        401,
        _INVALID,
        "invalid_api_key",
        "No API key was given; send it as 'Authorization: Bearer <key>'.",
    )


def wrong_key() -> Failure:
    return Failure(
        401,
        _INVALID,
        "invalid_api_key",
        "The API key is unknown, revoked, expired or without the scope inference; use another.",
    )


def tables_missing() -> Failure:
    return Failure(
        503,
        _SERVER,
        "gateway_starting",
        "This gateway does not know yet which keys and models there are; try again shortly.",
        retry_after_s=1,
        unready=True,
    )


def scope_missing(scope: str) -> Failure:
    return Failure(
        403,
        _INVALID,
        "insufficient_scope",
        f"The API key does not have the scope '{scope}'; use one that has it.",
    )


def peer_refused(refusal: Refusal) -> Failure:
    return Failure(
        403, _INVALID, refusal.rule, f"Header {refusal.subject}: {refusal.value}; {refusal.remedy}."
    )


def model_not_found(model: str) -> Failure:
    return Failure(
        404,
        _INVALID,
        "model_not_found",
        f"The model '{_shown(model)}' does not exist or you do not have access to it; see GET /v1/models.",
        param="model",
    )


def response_not_found(response_id: str) -> Failure:
    return Failure(
        404,
        _INVALID,
        "response_not_found",
        f"The response '{_shown(response_id)}' does not exist here: a response lives in the memory of the replica "
        "that made it, for as long as that runs; send the whole conversation as a new request.",
        param="previous_response_id",
    )


def background_unsupported() -> Failure:
    return Failure(
        400,
        _INVALID,
        "background_unsupported",
        "A response in the background would be lost with its replica; send background: false, and stream: true "
        "for a long answer.",
        param="background",
    )


def too_many_connections() -> Failure:
    return Failure(
        503,
        _SERVER,
        "too_many_connections",
        "This gateway has no connection left; try again shortly.",
        retry_after_s=1,
    )


def memory_bound() -> Failure:
    return Failure(
        503,
        _SERVER,
        "overloaded",
        "The bodies at hand fill this gateway's bound; try again shortly.",
        retry_after_s=2,
    )


def no_room(told: NoRoom) -> Failure:
    """The queue took it not, or there is no hope that its turn comes in time."""
    if told.rule == "queue_full":
        return displaced(told.retry_after_s)
    due_s = told.predicted_s or 0.0
    return Failure(
        429,
        _LIMITED,
        "deadline",
        f"Its answer would come in about {due_s:.1f} s, later than it may; try again in {told.retry_after_s} s.",
        retry_after_s=told.retry_after_s,
    )


def displaced(retry_after_s: int) -> Failure:
    """All places are taken, and fairness or priority gave the last one to another."""
    return Failure(
        429,
        _LIMITED,
        "queue_full",
        f"As many requests as allowed wait for a replica; try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def deadline_passed() -> Failure:
    return Failure(
        504,
        _SERVER,
        "deadline",
        "No answer had begun within x-meridian-deadline-ms; send again with more time or a higher priority.",
        retry_after_s=1,
    )


def rate_limited(limited: Limited) -> Failure:
    """A limit of the key or its project is met, as OpenAI says it."""
    what = "requests at once" if limited.rule == "concurrency" else f"{limited.rule} per minute"
    return Failure(
        429,
        limited.rule if limited.rule != "concurrency" else "requests",
        "rate_limit_exceeded",
        f"Rate limit reached for this {limited.subject}: {limited.limit} {what}. "
        f"Please try again in {limited.retry_after_s}s.",
        retry_after_s=limited.retry_after_s,
        headers=limited.headers,
    )


def hold_expired(hold_timeout_s: float) -> Failure:
    return Failure(
        503,
        _SERVER,
        "no_replica_ready",
        f"No replica of the model could take the request within {hold_timeout_s:g} s; try again later.",
        retry_after_s=30,
    )


def not_ready_here() -> Failure:
    return Failure(
        503,
        _SERVER,
        "no_replica_ready",
        "No replica of the model is ready in this region; try again shortly.",
        retry_after_s=5,
        unready=True,
    )


def refused(refusal: Refusal, param: str = "") -> Failure:
    """A Refusal of the routing room, as clients see it. ``param``: the body's member that holds the prompt."""
    if refusal.rule in {"residency", "residency_ingress"}:
        message = f"Refused by {refusal.rule}: this gateway's {refusal.subject} is {refusal.value}; {refusal.remedy}."
        return Failure(451, _INVALID, refusal.rule, message, param="model")
    if refusal.rule in _DOES_NOT_FIT:
        message = (
            f"What is in {param or 'the prompt'} does not fit this model ({refusal.value}); {refusal.remedy}."
        )
        return bad_request(message, param=param or None, code=_DOES_NOT_FIT[refusal.rule])
    message = f"No replica can take the request ({refusal.value}); {refusal.remedy}."
    if refusal.rule == "stored_response":
        return Failure(503, _SERVER, refusal.rule, message, param="previous_response_id", retry=False)
    return Failure(503, _SERVER, refusal.rule, message, retry_after_s=5)


def not_served(deployment: str, refusal: Refusal) -> Failure:
    """It exists, and no cluster serves it now: the control plane says why."""
    return Failure(
        503,
        _SERVER,
        refusal.rule,
        f"The model '{_shown(deployment)}' is not served now ({refusal.subject}: {refusal.value});"
        f" {refusal.remedy}.",
        param="model",
        retry_after_s=2 if refusal.rule == "handing_over" else 10,
    )


def upstream_unreachable() -> Failure:
    return Failure(
        502,
        _SERVER,
        "upstream_unreachable",
        "The replica broke the connection before it answered; try again.",
        retry_after_s=1,
    )


def upstream_invalid() -> Failure:
    return Failure(502, _SERVER, "upstream_invalid", "The replica's answer was not valid HTTP; try again.")


def upstream_refused() -> Failure:
    """The engine's 401: our key is wrong there, and the client's is not."""
    return Failure(
        502,
        _SERVER,
        "upstream_refused",
        "The replica did not accept this gateway's own key; try again.",
        retry_after_s=1,
    )


def upstream_timeout(timeout_s: float) -> Failure:
    return Failure(
        504, _SERVER, "upstream_timeout", f"The replica sent nothing for {timeout_s:g} s; try again."
    )


def stream_broken() -> Failure:
    return Failure(
        502, _SERVER, "stream_broken", "The replica was lost in mid-stream; the answer is incomplete."
    )


def not_resumable(reason: str) -> Failure:
    """``reason``: what was sent that can't be gone on with; from a fixed list."""
    return Failure(
        502,
        _SERVER,
        "stream_broken",
        f"The replica was lost in mid-stream and {reason} can't be continued elsewhere; the answer is incomplete.",
    )


def internal() -> Failure:
    return Failure(500, _SERVER, "internal_error", "The gateway failed at this request; try again.")


def shutting_down() -> Failure:
    return Failure(
        503,
        _SERVER,
        "shutting_down",
        "The gateway's time to finish running requests is over; the answer is incomplete.",
        retry_after_s=1,
    )
