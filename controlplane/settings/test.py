"""Tests: a throw-away PostgreSQL that tests/conftest.py starts; tasks run when a test calls them."""

import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

os.environ.setdefault("MERIDIAN_SECRET_KEY", "for-tests-only-" + "x" * 50)

from controlplane.settings.base import *  # noqa: F403

ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
MERIDIAN_SIGNING_KEY = (
    Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
