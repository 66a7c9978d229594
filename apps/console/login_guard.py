"""Slows down whoever guesses passwords: counts failed logins by name and by address, and refuses for a while.

The counts live in the shared cache. Where that is away they live in this process: a lost cache must neither open the
door to guessing nor lock everybody out.
"""

import hashlib
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest
from redis.exceptions import RedisError

WINDOW_S = 300
MAX_FAILURES_BY_NAME_AND_ADDRESS = 5
MAX_FAILURES_BY_ADDRESS = 30
MAX_FAILURES_BY_NAME = 50

_fallback = LocMemCache("login-guard", {})


@dataclass(frozen=True)
class Attempt:
    """A try to log in. Names are hashed: what somebody types there by mistake may be a password."""

    username: str
    address: str

    @property
    def limits(self) -> tuple[tuple[str, int], ...]:
        name = hashlib.sha256(self.username.lower().encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return (
            (f"login:pair:{self.address}:{name}", MAX_FAILURES_BY_NAME_AND_ADDRESS),
            (f"login:address:{self.address}", MAX_FAILURES_BY_ADDRESS),
            (f"login:name:{name}", MAX_FAILURES_BY_NAME),
        )


def client_address(request: HttpRequest) -> str:
    """Who is at the other end. Behind the proxy that production trusts, the last hop is what that proxy has seen."""
    if settings.SECURE_PROXY_SSL_HEADER is not None:
        last_hop = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        if last_hop:
            return last_hop[:45]
    return str(request.META.get("REMOTE_ADDR", ""))


def can_try(attempt: Attempt) -> bool:
    """Whether this attempt may be judged at all."""
    return all(_count(key) < limit for key, limit in attempt.limits)


def failure_record(attempt: Attempt) -> None:
    """Count a failed attempt; each count starts a window of its own and ends with it."""
    for key, _ in attempt.limits:
        _raise(key)


def success_record(attempt: Attempt) -> None:
    """Who knows the password starts afresh. Counts of the address stay: others may share it."""
    key, _ = attempt.limits[0]
    try:
        caches["default"].delete(key)
    except RedisError:
        _fallback.delete(key)


def _count(key: str) -> int:
    try:
        return int(caches["default"].get(key, 0))
    except RedisError:
        return int(_fallback.get(key, 0))


def _raise(key: str) -> None:
    try:
        caches["default"].add(key, 0, timeout=WINDOW_S)
        caches["default"].incr(key)
    except ValueError:  # its window ended between the two
        caches["default"].set(key, 1, timeout=WINDOW_S)
    except RedisError:
        _fallback.add(key, 0, timeout=WINDOW_S)
        _fallback.incr(key)
