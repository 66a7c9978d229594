"""The control plane's keys, made once and kept readable by their owner only."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.embedded.layout import Layout, write_private


def secret_key_file(layout: Layout) -> Path:
    """File with Django's secret key."""
    path = layout.control / "secret_key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48) + "\n")
    return path


def signing_key_file(layout: Layout) -> Path:
    """File with the Ed25519 private key (PKCS #8, PEM) that signs what goes to the workload planes."""
    path = layout.control / "signing_key"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(path, pem.decode())
    return path


def instance_mark(layout: Layout) -> str:
    """The mark in the environment of everything that is started for this state folder."""
    if not layout.instance.exists():
        write_private(layout.instance, secrets.token_hex(16) + "\n")
    return layout.instance.read_text().strip()
