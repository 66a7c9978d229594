"""The opening handshake (RFC 6455, section 4), both sides of it. Pure: bytes and mappings.

A client that cannot set headers (a browser) sends its key as the subprotocol ``openai-insecure-api-key.<key>``:
it is taken for an ``Authorization`` header and goes no further.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote_plus

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure

#: Paths at which engines speak WebSocket. Each may be followed by ``/<model>``. Nothing else is upgraded.
PATHS = (b"/v1/realtime",)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_PROTOCOL = b"openai-insecure-api-key."
_API_PROTOCOL = b"realtime"
_MODEL_CHARS_MAX = 256
_FORWARDED = (
    b"user-agent",
    b"traceparent",
    b"tracestate",
    b"baggage",
    b"openai-beta",
    b"accept-language",
)


class UpgradeRequest(Protocol):
    """What is read of a request."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    http_1_0: bool


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A sound handshake of a client.

    model:     as the query or the path names it; ``None`` = the first message will
    query:     the other members, as they came
    protocols: offered, without the key; ``None`` = no such header
    """

    path: bytes
    model: str | None
    query: tuple[bytes, ...]
    key: bytes
    protocols: tuple[bytes, ...] | None
    extensions: bytes | None


def is_upgrade(request: UpgradeRequest) -> bool:
    """Whether this is a request to switch to WebSocket at a place that offers it, without a body."""
    headers = request.headers
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and engine_path(request.path) is not None
        and request.method == b"GET"
        and not request.http_1_0
        and b"content-length" not in headers
        and b"transfer-encoding" not in headers
    )


def engine_path(path: bytes) -> bytes | None:
    """The engine's path for a client's, if WebSocket is offered there."""
    for each in PATHS:
        if path == each or (path.startswith(each + b"/") and b"/" not in path[len(each) + 1 :]):
            return each
    return None


def take_key(headers: dict[bytes, bytes]) -> None:
    """Move a key out of the subprotocols into ``Authorization``, where nothing else names one."""
    offered = headers.get(b"sec-websocket-protocol")
    if offered is None or _KEY_PROTOCOL not in offered:
        return
    kept = []
    for each in _tokens(offered):
        if not each.startswith(_KEY_PROTOCOL):
            kept.append(each)
        elif b"authorization" not in headers and b"x-api-key" not in headers:
            headers[b"authorization"] = b"Bearer " + each[len(_KEY_PROTOCOL) :]
    headers[b"sec-websocket-protocol"] = b", ".join(kept)


def read(request: UpgradeRequest) -> Upgrade | Failure:
    """The handshake, or what is wrong with it. ``take_key`` comes first."""
    headers = request.headers
    path = engine_path(request.path)
    if path is None:
        return errors.unknown_route("GET", request.path.decode("latin-1"))
    if headers.get(b"sec-websocket-version") != b"13":
        return errors.websocket_version()
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        return errors.bad_request("Header Sec-WebSocket-Key is not 16 bytes in base64; send one.")
    members = [each for each in request.query.split(b"&") if each]
    named = [each.partition(b"=")[2] for each in members if each.partition(b"=")[0] == b"model"]
    if len(request.path) > len(path):
        named.append(request.path[len(path) + 1 :].replace(b"+", b"%2B"))
    models = {unquote_plus(each.decode("latin-1")) for each in named}
    if len(models) > 1:
        return errors.bad_request("The model is named more than once; name it once.", param="model")
    model = models.pop() if models else None
    if model is not None and not 0 < len(model) <= _MODEL_CHARS_MAX:
        return errors.bad_request(
            f"The model's name is empty or over {_MODEL_CHARS_MAX} characters; give its name.", param="model"
        )
    offered = headers.get(b"sec-websocket-protocol")
    return Upgrade(
        path=path,
        model=model,
        query=tuple(each for each in members if each.partition(b"=")[0] != b"model"),
        key=key,
        protocols=_tokens(offered) if offered is not None else None,
        extensions=headers.get(b"sec-websocket-extensions"),
    )


def request_head(
    upgrade: Upgrade,
    *,
    model: str,
    authority: str,
    credential: bytes,
    headers: Mapping[bytes, bytes],
    request_id: str,
) -> tuple[bytes, bytes]:
    """A handshake for the engine, without its last line end, and the ``Sec-WebSocket-Accept`` it must answer.

    If the client has been answered already (no model was named), nothing is offered that it could not be told.
    """
    key = upgrade.key if upgrade.model is not None else base64.b64encode(secrets.token_bytes(16))
    query = b"&".join((b"model=" + quote(model, safe="").encode(), *upgrade.query))
    parts = [
        b"GET %s?%s HTTP/1.1\r\nhost: %s\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: %s\r\nauthorization: %s\r\nx-request-id: %s\r\n"
        % (upgrade.path, query, authority.encode(), key, credential, request_id.encode())
    ]
    if upgrade.model is not None:
        if upgrade.protocols:
            parts.append(b"sec-websocket-protocol: %s\r\n" % b", ".join(upgrade.protocols))
        if upgrade.extensions:
            parts.append(b"sec-websocket-extensions: %s\r\n" % upgrade.extensions)
    for name in _FORWARDED:
        value = headers.get(name)
        if value is not None:
            parts.append(b"%s: %s\r\n" % (name, value))
    return b"".join(parts), accept(key)


def answer_head(
    upgrade: Upgrade, protocol: bytes | None, extensions: bytes | None, served_lines: bytes
) -> bytes:
    """The 101 for the client. Where the engine chose no subprotocol, the API's own is said if it was offered:
    a browser breaks off if it offered some and hears of none.
    """
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %s\r\n" % accept(upgrade.key)
    )
    if protocol is None and upgrade.protocols and _API_PROTOCOL in upgrade.protocols:
        protocol = _API_PROTOCOL
    if protocol is not None:
        head += b"sec-websocket-protocol: %s\r\n" % protocol
    if extensions is not None:
        head += b"sec-websocket-extensions: %s\r\n" % extensions
    return head + served_lines + b"\r\n"


def is_sound_answer(upgrade: Upgrade, headers: Mapping[bytes, bytes], expected_accept: bytes) -> bool:
    """Whether an engine's 101 is one: the right key, and nothing chosen that was not offered."""
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        return False
    if headers.get(b"sec-websocket-accept") != expected_accept:
        return False
    offered = upgrade if upgrade.model is not None else None
    protocol = headers.get(b"sec-websocket-protocol")
    if protocol is not None and (offered is None or protocol not in (offered.protocols or ())):
        return False
    return b"sec-websocket-extensions" not in headers or (
        offered is not None and offered.extensions is not None
    )


def accept(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _tokens(value: bytes) -> tuple[bytes, ...]:
    return tuple(token for each in value.split(b",") if (token := each.strip(b" \t")))
