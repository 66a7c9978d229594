"""Signed envelopes: every table that is sent or kept on a disk is one.

The signature covers a fixed header and the payload *bytes as received*; nothing is re-encoded to be verified.
An envelope says for whom it is (``audience``: a cluster's id), in which plane epoch and generation it was made,
and by which key. Ed25519 (RFC 8032).
"""

from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workloadplane.protocol.refusal import Refusal


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A payload and the proof of who made it, for whom and when in the order of things."""

    kind: str
    payload: bytes
    key_id: str
    signature: bytes
    audience: str
    plane_epoch: int
    generation: int


def signed_bytes(
    *, kind: str, payload: bytes, key_id: str, audience: str, plane_epoch: int, generation: int
) -> bytes:
    """What the signature covers: a header whose fields cannot run into one another, then the payload."""
    header = msgspec.json.encode(
        ["meridian-envelope-1", kind, key_id, audience, plane_epoch, generation, len(payload)]
    )
    return header + b"\n" + payload


def seal(
    payload: bytes,
    *,
    kind: str,
    key_id: str,
    private_key: Ed25519PrivateKey,
    audience: str,
    plane_epoch: int,
    generation: int,
) -> Envelope:
    """Sign a payload for one audience."""
    signature = private_key.sign(
        signed_bytes(
            kind=kind,
            payload=payload,
            key_id=key_id,
            audience=audience,
            plane_epoch=plane_epoch,
            generation=generation,
        )
    )
    return Envelope(
        kind=kind,
        payload=payload,
        key_id=key_id,
        signature=signature,
        audience=audience,
        plane_epoch=plane_epoch,
        generation=generation,
    )


def open_envelope(
    envelope: Envelope, *, kind: str, audience: str, trusted: Mapping[str, Ed25519PublicKey]
) -> bytes | Refusal:
    """The payload, if the envelope is of this kind, for this audience and signed by a trusted key."""
    if envelope.kind != kind:
        return Refusal(
            rule="envelope_kind",
            subject="kind",
            value=envelope.kind,
            remedy=f"send an envelope of kind {kind}",
        )
    if envelope.audience != audience:
        return Refusal(
            rule="envelope_audience",
            subject="audience",
            value=envelope.audience,
            remedy=f"send one made for {audience}",
        )
    key = trusted.get(envelope.key_id)
    if key is None:
        return Refusal(
            rule="envelope_key",
            subject="key_id",
            value=envelope.key_id,
            remedy="sign with a key that this cluster has been told to trust",
        )
    message = signed_bytes(
        kind=envelope.kind,
        payload=envelope.payload,
        key_id=envelope.key_id,
        audience=envelope.audience,
        plane_epoch=envelope.plane_epoch,
        generation=envelope.generation,
    )
    try:
        key.verify(envelope.signature, message)
    except InvalidSignature:
        return Refusal(
            rule="envelope_signature",
            subject=envelope.kind,
            value=f"generation {envelope.generation}",
            remedy="the bytes were changed or forged; fetch the table again",
        )
    return envelope.payload


def refuse_older(*, held_epoch: int, held_generation: int, epoch: int, generation: int) -> Refusal | None:
    """Epoch and generation only rise; an older one is refused by naming the one that is held."""
    if (epoch, generation) >= (held_epoch, held_generation):
        return None
    return Refusal(
        rule="generation_rises",
        subject="plane_epoch, generation",
        value=f"{epoch}, {generation}",
        remedy=f"this side holds epoch {held_epoch}, generation {held_generation}; send that or a later one",
    )
