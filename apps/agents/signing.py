"""The key with which this control plane signs tables. Its private half is in the settings, never in the database."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from workloadplane.protocol.envelope import Envelope, seal


@dataclass(frozen=True)
class Signer:
    """Signs; ``public_key`` is raw Ed25519, ``key_id`` names it on the wire."""

    key_id: str
    public_key: bytes
    private_key: Ed25519PrivateKey

    def sealed(
        self, payload: bytes, *, kind: str, audience: str, plane_epoch: int, generation: int
    ) -> Envelope:
        """The payload in an envelope for one cluster."""
        return seal(
            payload,
            kind=kind,
            key_id=self.key_id,
            private_key=self.private_key,
            audience=audience,
            plane_epoch=plane_epoch,
            generation=generation,
        )


def key_id_of(public_key: bytes) -> str:
    """How a signing key is named: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def signer_from_pem(pem: str, *, source: str) -> Signer:
    """Raises ImproperlyConfigured, naming ``source``, if this is no Ed25519 private key."""
    try:
        private_key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ImproperlyConfigured(
            f"{source} is no private key in PEM (PKCS8, without a password)"
        ) from error
    if not isinstance(private_key, Ed25519PrivateKey):
        raise ImproperlyConfigured(
            f"{source} is no Ed25519 key: make one with openssl genpkey -algorithm ed25519"
        )
    public_key = private_key.public_key().public_bytes_raw()
    return Signer(key_id=key_id_of(public_key), public_key=public_key, private_key=private_key)


_parsed = lru_cache(maxsize=4)(signer_from_pem)


def signer() -> Signer:
    """The one in the settings. Raises ImproperlyConfigured if there is none or it cannot be read."""
    pem = settings.MERIDIAN_SIGNING_KEY
    if not pem:
        raise ImproperlyConfigured(
            "MERIDIAN_SIGNING_KEY is empty: name a file with an Ed25519 private key in MERIDIAN_SIGNING_KEY_FILE"
        )
    return _parsed(pem, source="MERIDIAN_SIGNING_KEY")
