"""What one gateway tells another about a request that it passes on, and how the other one knows it is true.

The header ``x-meridian-peer`` is ``v1.<statement>.<signature>``: base64url JSON, signed with the Ed25519 key of
the sending cluster, for one receiving cluster and a short time. The receiver knows the sender's public key from
its own routing table. An answer about load is signed the same way (``sign_answer``), together with the question's
own header: it proves who answers even where TLS ends before the gateway, and can't be given to another question.
A statement only ever *narrows*: its request is served here or refused, never passed on
again (one hop), and its usage is counted where the client was met. It lets nobody in: the client's API key
travels along and is checked by the receiver against its own key set, as are scope and residency.

Expiry is by wall clock. Clocks of clusters may differ, so the receiver allows ``CLOCK_SKEW_S`` on both sides; a
replayed statement is worth nothing without the API key that it names.
"""

import base64
import binascii
import re
from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import Peer
from workloadplane.protocol.usage import REQUEST_ID_CHARS_MAX

PEER_HEADER = b"x-meridian-peer"
LIFETIME_S = 30.0
CLOCK_SKEW_S = 330.0
STATEMENT_BYTES_MAX = 4096
_VERSION = "v1"
_REQUEST_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{REQUEST_ID_CHARS_MAX}}}")
_HOLD_MARK = re.compile(r"[A-Za-z0-9]{0,32}")


class PeerStatement(msgspec.Struct, frozen=True, kw_only=True):
    """Who passes which request on to whom.

    may_hold:        wait for a replica to start or to have room, there is none anywhere
    priority:        the class that its client asked for, as ``queueing.priority`` numbers them
    answer_within_s: of its arrival at the receiver; ``None`` = at any time
    revision_id:     the only revision that may serve it, as it is the rest of an answer of that; empty = any
    may_resume:      the client has not opted out of having its stream resumed
    hold_mark:       what is in a comment that the receiver sends while the stream waits for a seat there, and which
                     nobody else knows; empty: the sender would take that silence for a stall
    """

    sender: str
    audience: str
    expires_at: float
    request_id: str
    api_key_id: str
    origin_region: str
    residency: tuple[str, ...]
    may_hold: bool
    priority: int = 1
    answer_within_s: float | None = None
    revision_id: str = ""
    may_resume: bool = True
    hold_mark: str = ""


_statements = msgspec.json.Decoder(PeerStatement)


def hold_comment(mark: str) -> bytes:
    """The line that says of a stream that it waits for a seat."""
    return b": held %s\n" % mark.encode()


def sign(statement: PeerStatement, private_key: Ed25519PrivateKey) -> bytes:
    """The header's value."""
    payload = base64.urlsafe_b64encode(msgspec.json.encode(statement)).rstrip(b"=")
    signed = _VERSION.encode() + b"." + payload
    return signed + b"." + base64.urlsafe_b64encode(private_key.sign(_message(signed))).rstrip(b"=")


def verify(
    value: bytes, *, audience: str, now: float, peer: Callable[[str], Peer | None]
) -> PeerStatement | Refusal:
    """The statement, if a peer that we know made it for this cluster and it has not expired.

    ``now``: seconds since 1970; ``peer``: the routing table's peer by cluster id.
    """
    signed, _, signature = value.rpartition(b".")
    version, _, payload = signed.partition(b".")
    if len(value) > STATEMENT_BYTES_MAX or version != _VERSION.encode():
        return _refused("version", "send a statement of version v1")
    try:
        statement = _statements.decode(_decode(payload))
        raw_signature = _decode(signature)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return _refused("shape", "send what the peer protocol describes")
    sender = peer(statement.sender)
    if sender is None:
        return _refused("sender", "only peers of the routing table may pass requests on")
    try:
        Ed25519PublicKey.from_public_bytes(sender.public_key).verify(raw_signature, _message(signed))
    except (InvalidSignature, ValueError):
        return _refused("signature", "sign with the key that the cluster enrolled with")
    if statement.audience != audience:
        return _refused("audience", f"this is cluster {audience}")
    if not _REQUEST_ID.fullmatch(statement.request_id):
        return _refused("request_id", f"up to {REQUEST_ID_CHARS_MAX} letters, digits, '-' and '_'")
    if not _HOLD_MARK.fullmatch(statement.hold_mark):
        return _refused("hold_mark", "up to 32 letters and digits")
    if not now - CLOCK_SKEW_S < statement.expires_at < now + LIFETIME_S + CLOCK_SKEW_S:
        return _refused("expiry", "sign it anew; check the clocks")
    return statement


def sign_answer(question: bytes, body: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """The ``x-meridian-peer`` of the answer ``body`` to a question that came with that header's value."""
    return base64.urlsafe_b64encode(private_key.sign(_answer_message(question, body))).rstrip(b"=")


def is_answer_of(peer: Peer, question: bytes, body: bytes, value: bytes) -> bool:
    """Whether this peer, and nobody in its place, gave this answer to this question."""
    try:
        Ed25519PublicKey.from_public_bytes(peer.public_key).verify(
            _decode(value), _answer_message(question, body)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def _answer_message(question: bytes, body: bytes) -> bytes:
    return b"meridian-peer-answer-1\n" + question + b"\n" + body


def _message(signed: bytes) -> bytes:
    return b"meridian-peer-1\n" + signed


def _decode(part: bytes) -> bytes:
    return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _refused(what: str, remedy: str) -> Refusal:
    return Refusal(rule="peer_statement", subject="x-meridian-peer", value=f"wrong {what}", remedy=remedy)
