"""Who may ask: the key that a request comes with, and what a peer gateway says that passed it on.

Keys are checked offline: the SHA-256 of what was sent is looked up in the key set, so no comparison runs over
the secret itself, and one that is not there is unknown, revoked or another cluster's alike.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.peers import PEER_HEADER, PeerStatement, verify
from workloadplane.gateway.reader import Request
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import ApiKeyEntry

INFERENCE_SCOPE = "inference"
_KEY_BYTES_MAX = 512


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Whose request it is. ``statement``: the peer gateway's that passed it on; ``None`` = it met us first."""

    api_key: ApiKeyEntry
    statement: PeerStatement | None


def authorise(registry: Registry, request: Request, *, now: float) -> Caller | Failure:
    """Check key, scope and, if a peer passed the request on, what it says. ``now``: seconds since 1970."""
    headers = request.headers
    secret = _secret(headers)
    if secret is None:
        return errors.missing_key()
    if not registry.has_tables:
        return (
            errors.tables_missing()
        )  # nobody is told that a key or a model does not exist who was not looked up
    entry = _in_force(registry, hashlib.sha256(secret).digest(), now)
    if entry is None:
        return errors.wrong_key()
    if INFERENCE_SCOPE not in entry.scopes:
        return errors.scope_missing(INFERENCE_SCOPE)
    value = headers.get(PEER_HEADER)
    if value is None:
        return Caller(entry, None)
    audience = registry.identity.cluster_id if registry.identity else ""
    statement = verify(value, audience=audience, now=now, peer=registry.peer)
    if isinstance(statement, Refusal):
        return errors.peer_refused(statement)
    if statement.api_key_id != entry.api_key_id:
        return errors.peer_refused(
            Refusal(
                rule="peer_statement",
                subject="x-meridian-peer",
                value="wrong api_key_id",
                remedy="it must name the key that comes with it",
            )
        )
    return Caller(entry, statement)


def is_revoked(registry: Registry, caller: Caller, *, now: float) -> bool:
    """Whether the key of a request that has waited is no longer good. ``now``: seconds since 1970."""
    return _in_force(registry, caller.api_key.sha256, now) is None


def _in_force(registry: Registry, sha256: bytes, now: float) -> ApiKeyEntry | None:
    entry = registry.api_key(sha256)
    if entry is None or entry.expires_at is None or entry.expires_at > now:
        return entry
    return None


def _secret(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key as sent: a bearer token, or the header that Anthropic's clients use."""
    value = headers.get(b"authorization")
    if value is not None:
        scheme, _, secret = value.partition(b" ")
        secret = secret.strip()
        if scheme.lower() != b"bearer":
            return None
    else:
        secret = headers.get(b"x-api-key", b"")
    return secret if 0 < len(secret) <= _KEY_BYTES_MAX else None
