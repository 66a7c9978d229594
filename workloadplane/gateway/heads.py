"""Heads of messages that the gateway writes: requests to replicas and peers, answers to clients. Bytes only.

What a client sends goes on by an allow-list, so neither its key, its cookies nor an ``x-meridian-`` header of
its own making reaches an engine. What an engine answers goes back except for hop-by-hop headers, framing and
its own ``x-meridian-`` headers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from workloadplane.gateway.server import status_line
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.protocol.usage import REQUEST_ID_CHARS_MAX

_FORWARDED = (
    b"content-type",
    b"accept",
    b"user-agent",
    b"traceparent",
    b"tracestate",
    b"baggage",
    b"idempotency-key",
    b"anthropic-version",
    b"anthropic-beta",
)
_NOT_RETURNED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"server",
        b"set-cookie",
        b"x-request-id",
    }
)

SERVED_REGION = b"x-meridian-served-region"
REPLICA = b"x-meridian-replica"
_SERVED_BY = b"x-meridian-served-by"
_REVISION_ID = b"x-meridian-revision-id"
_REVISION = b"x-meridian-revision"
_POOL = b"x-meridian-pool"
UNREADY = b"x-meridian-unready"


@dataclass(frozen=True, slots=True)
class Served:
    """Who serves a request. Between gateways it travels in headers, so that the origin can account for it."""

    cluster_id: str
    region: str
    replica_id: str | None
    revision_id: str
    revision: int
    pool_id: str | None


def request_head(
    path: bytes, authority: str, credential: bytes, headers: Mapping[bytes, bytes], request_id: str
) -> bytes:
    """A request's head up to its framing. ``credential``: the whole value of Authorization."""
    parts = [
        b"POST %s HTTP/1.1\r\nhost: %s\r\nauthorization: %s\r\nx-request-id: %s\r\n"
        % (path, authority.encode(), credential, request_id.encode())
    ]
    for name in _FORWARDED:
        value = headers.get(name)
        if value is not None:
            parts.append(b"%s: %s\r\n" % (name, value))
    return b"".join(parts)


def answer_head(
    upstream: ResponseHead, served: Served, request_id: str, *, to_peer: bool, framing: bytes, close: bool
) -> bytes:
    """A whole head for the client, or for the peer gateway that passed the request on."""
    parts = [status_line(upstream.status)]
    for name, value in upstream.headers:
        if name not in _NOT_RETURNED and not name.startswith(b"x-meridian-"):
            parts.append(b"%s: %s\r\n" % (name, value))
    parts.append(served_lines(served, request_id, to_peer=to_peer))
    parts.append(framing)
    parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    return b"".join(parts)


def served_lines(served: Served, request_id: str, *, to_peer: bool) -> bytes:
    """Header lines that say who serves; a peer is told more than a client."""
    lines = f"x-request-id: {request_id}\r\n{SERVED_REGION.decode()}: {served.region}\r\n"
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
