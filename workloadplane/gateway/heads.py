"""Heads of messages that the gateway writes: requests to replicas and peers, answers to clients. Bytes only.

Both ways go by an allow-list. Neither a client's key, its cookies nor an ``x-meridian-`` header of its own making
reaches an engine; of what an engine says about itself and its host nothing reaches a client.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from workloadplane.gateway.dialects import request_id_lines
from workloadplane.gateway.reader import Request
from workloadplane.gateway.statuses import status_line
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.protocol.usage import REQUEST_ID_CHARS_MAX

_FORWARDED = frozenset(
    {
        b"content-type",
        b"accept",
        b"accept-language",
        b"user-agent",
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"idempotency-key",
        b"openai-organization",
        b"openai-project",
        b"openai-beta",
        b"anthropic-version",
        b"anthropic-beta",
    }
)
_RETURNED = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-disposition",
        b"cache-control",
        b"allow",
        b"date",
        b"vary",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"x-accel-buffering",
        b"openai-model",
        b"openai-processing-ms",
        b"openai-version",
        b"traceresponse",
        b"server-timing",
    }
)

SERVED_REGION = b"x-meridian-served-region"
REPLICA = b"x-meridian-replica"
_SERVED_BY = b"x-meridian-served-by"
_REVISION_ID = b"x-meridian-revision-id"
_REVISION = b"x-meridian-revision"
_POOL = b"x-meridian-pool"
UNREADY = b"x-meridian-unready"


@dataclass(slots=True)
class Served:
    """Who serves a request. Between gateways it travels in headers, so that the origin can account for it.

    client_lines: what ``served_lines`` tells a client, where it is known ahead
    """

    cluster_id: str
    region: str
    replica_id: str | None
    revision_id: str
    revision: int
    pool_id: str | None
    client_lines: bytes = b""


def constant_lines(authority: str, credential: bytes) -> bytes:
    """From the target's end to the request's id: the same for all requests to one replica or peer.

    credential: the whole value of Authorization
    """
    lines = b" HTTP/1.1\r\nhost: %s\r\nauthorization: %s\r\nx-request-id: "
    return lines % (authority.encode(), credential)


def request_head(request: Request, lines: bytes, request_id: str) -> bytes:
    """A request's head up to its framing. ``lines``: of ``constant_lines``.

    A query goes on only with what has no body to say it in.
    """
    target = request.path
    if request.query and request.method == b"GET":
        target += b"?" + request.query
    derived = request.derived
    forwarded = derived.forwarded if derived is not None else None
    if forwarded is None:
        forwarded = _lines(request.headers.items(), _FORWARDED)
        if derived is not None:
            derived.forwarded = forwarded
    return b"%s %s%s%s\r\n%s" % (request.method, target, lines, request_id.encode(), forwarded)


def _lines(headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]) -> bytes:
    return b"".join([b"%s: %s\r\n" % (name, value) for name, value in headers if name in allowed])


def answer_head(
    upstream: ResponseHead,
    served: Served,
    request: Request,
    request_id: str,
    *,
    to_peer: bool,
    framing: bytes,
    close: bool,
) -> bytes:
    """A whole head for the client, or for the peer gateway that passed the request on."""
    returned = upstream.returned
    if returned is None:
        returned = upstream.returned = status_line(upstream.status) + _lines(upstream.headers, _RETURNED)
    end = b"connection: close\r\n\r\n" if close else b"\r\n"
    told = (
        served.client_lines if served.client_lines and not to_peer else served_lines(served, to_peer=to_peer)
    )
    return b"".join((returned, request_id_lines(request, request_id), told, framing, end))


def served_lines(served: Served, *, to_peer: bool) -> bytes:
    """Header lines that say who serves; a peer is told more than a client."""
    lines = f"{SERVED_REGION.decode()}: {served.region}\r\n"
    if served.replica_id is not None:
        lines += f"{REPLICA.decode()}: {served.replica_id}\r\n"
    if to_peer:
        lines += (
            f"{_SERVED_BY.decode()}: {served.cluster_id}\r\n"
            f"{_REVISION_ID.decode()}: {served.revision_id}\r\n"
            f"{_REVISION.decode()}: {served.revision}\r\n"
            f"{_POOL.decode()}: {served.pool_id or ''}\r\n"
        )
    return lines.encode()


def served_by_peer(head: ResponseHead, cluster_id: str, region: str) -> Served:
    """What a peer says of who served; the cluster is the one that we asked, whatever it says."""
    told = {name: value.decode("latin-1") for name, value in head.headers if name.startswith(b"x-meridian-")}
    revision = told.get(_REVISION, "")
    return Served(
        cluster_id=cluster_id,
        region=region,
        replica_id=told.get(REPLICA) or None,
        revision_id=told.get(_REVISION_ID, ""),
        revision=int(revision) if revision.isdecimal() and len(revision) < 10 else 0,
        pool_id=told.get(_POOL) or None,
    )


def acceptable_request_id(value: bytes | None) -> str | None:
    """The client's own request id, if it is short and harmless in a header, a log and a file."""
    if value is None or not 0 < len(value) <= REQUEST_ID_CHARS_MAX:
        return None
    text = value.decode("latin-1")
    return text if text.isascii() and text.replace("-", "").replace("_", "").isalnum() else None
