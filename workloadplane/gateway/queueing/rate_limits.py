"""What a key and its project may use: requests and tokens a minute, and requests at once.

Token buckets that hold a minute's worth: a burst of that much, then an even flow. Tokens are taken by estimate
when a request comes and corrected when its usage is known; a bucket may then be in debt. A request is let in only
if all limits of its key and of its project let it in, and only then is anything taken.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from workloadplane.protocol.routing import ApiKeyEntry, RateLimits

_IDLE_S = 120.0
_CONCURRENT_RETRY_S = 1


class _Bucket:
    """``level``: what is left; ``per_minute``: its size, and what flows in within a minute; 0 = no limit."""

    __slots__ = ("at_s", "level", "per_minute")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.at_s = now_s

    def refill(self, now_s: float) -> None:
        self.level = min(self.per_minute, self.level + (now_s - self.at_s) * self.per_minute / 60)
        self.at_s = now_s

    def missing_s(self, wanted: float) -> float:
        """Until ``wanted`` is there; what is more than the whole bucket is let in when it is full."""
        if not self.per_minute:
            return 0.0
        return (min(wanted, self.per_minute) - self.level) * 60 / self.per_minute

    def take(self, amount: float) -> None:
        """Give back with an amount below 0; the bucket never holds more than its size."""
        if self.per_minute:
            self.level = min(self.per_minute, self.level - amount)

    def resize(self, per_minute: int) -> None:
        """Another limit is in force: what was used stays used."""
        if per_minute != self.per_minute:
            self.level = min(float(per_minute), self.level + per_minute - self.per_minute)
            self.per_minute = per_minute

    @property
    def full_in_s(self) -> float:
        return (self.per_minute - self.level) * 60 / self.per_minute


class _Allowance:
    """Of one key or one project."""

    __slots__ = ("limits", "requests", "running", "tokens")

    def __init__(self, limits: RateLimits, now_s: float) -> None:
        self.limits = limits
        self.requests = _Bucket(limits.requests_per_minute, now_s)
        self.tokens = _Bucket(limits.tokens_per_minute, now_s)
        self.running = 0

    def update(self, limits: RateLimits, now_s: float) -> None:
        if limits is not self.limits:
            self.limits = limits
            self.requests.resize(limits.requests_per_minute)
            self.tokens.resize(limits.tokens_per_minute)
        self.requests.refill(now_s)
        self.tokens.refill(now_s)

    def take(self, tokens: float) -> None:
        self.running += 1
        self.requests.take(1)
        self.tokens.take(tokens)


@dataclass(slots=True, eq=False)
class Charge:
    """What one request has taken. ``headers``: the lines that tell the client what is left."""

    allowances: tuple[_Allowance, ...]
    tokens: float
    headers: bytes
    settled: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Limited:
    """It must come again. ``rule``: ``requests`` | ``tokens`` | ``concurrency``; ``limit``: the number it met."""

    rule: str
    limit: int
    subject: str
    retry_after_s: int
    headers: bytes


class RateLimiter:
    """See the module. One per process."""

    def __init__(self) -> None:
        self._keys: dict[str, _Allowance] = {}
        self._projects: dict[str, _Allowance] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._projects)

    def admit(self, key: ApiKeyEntry, tokens: float, now_s: float) -> Charge | Limited | None:
        """Take one request of about ``tokens``; ``None`` if this key has no limits at all."""
        if key.limits is None and key.project_limits is None:
            return None
        allowances = tuple(self._allowances(key, now_s))
        for allowance in allowances:
            subject = "key" if allowance.limits is key.limits else "project"
            limits = allowance.limits
            if 0 < limits.concurrent_requests <= allowance.running:
                return Limited(
                    "concurrency",
                    limits.concurrent_requests,
                    subject,
                    _CONCURRENT_RETRY_S,
                    _headers(allowances),
                )
            for rule, bucket, wanted in (
                ("requests", allowance.requests, 1.0),
                ("tokens", allowance.tokens, tokens),
            ):
                missing_s = bucket.missing_s(wanted)
                if missing_s > 1e-9:
                    retry_after_s = math.ceil(missing_s)
                    return Limited(rule, bucket.per_minute, subject, retry_after_s, _headers(allowances))
        for allowance in allowances:
            allowance.take(tokens)
        return Charge(allowances, tokens, _headers(allowances))

    def spend(self, charge: Charge, tokens: float) -> None:
        """It runs on and has used so many tokens beyond what was charged."""
        for allowance in charge.allowances:
            allowance.tokens.take(tokens)

    def settle(self, charge: Charge, tokens: float) -> None:
        """It has ended and used so many tokens. A second call changes nothing."""
        if charge.settled:
            return
        charge.settled = True
        for allowance in charge.allowances:
            allowance.running -= 1
            allowance.tokens.take(tokens - charge.tokens)

    def forget(self, now_s: float) -> None:
        """Let go of those whose buckets are full again and that nobody uses."""
        for held in (self._keys, self._projects):
            for name in [name for name, each in held.items() if _is_idle(each, now_s)]:
                del held[name]

    def _allowances(self, key: ApiKeyEntry, now_s: float) -> Iterator[_Allowance]:
        for held, name, limits in (
            (self._keys, key.api_key_id, key.limits),
            (self._projects, key.project_id, key.project_limits),
        ):
            if limits is None:
                continue
            allowance = held.get(name)
            if allowance is None:
                allowance = held[name] = _Allowance(limits, now_s)
            allowance.update(limits, now_s)
            yield allowance


def _is_idle(allowance: _Allowance, now_s: float) -> bool:
    if allowance.running or now_s - allowance.requests.at_s < _IDLE_S:
        return False
    allowance.tokens.refill(now_s)
    return allowance.tokens.level >= allowance.tokens.per_minute


def _headers(allowances: tuple[_Allowance, ...]) -> bytes:
    """OpenAI's; of a key's and its project's bucket the one with less left."""
    lines = b""
    for name in ("requests", "tokens"):
        buckets: list[_Bucket] = [getattr(each, name) for each in allowances]
        buckets = [bucket for bucket in buckets if bucket.per_minute]
        if buckets:
            bucket = min(buckets, key=lambda bucket: bucket.level)
            label = name.encode()
            lines += b"x-ratelimit-limit-%b: %d\r\n" % (label, bucket.per_minute)
            lines += b"x-ratelimit-remaining-%b: %d\r\n" % (label, max(0, math.floor(bucket.level)))
            lines += b"x-ratelimit-reset-%b: %b\r\n" % (label, duration_text(bucket.full_in_s).encode())
    return lines


def duration_text(duration_s: float) -> str:
    """As OpenAI writes it: ``20ms``, ``1.5s``, ``6m0s``, ``1h2m0s``."""
    thousandths = math.ceil(max(0.0, duration_s) * 1000 - 1e-6)
    if thousandths < 1000:
        return f"{thousandths}ms"
    if thousandths < 60_000:
        return f"{thousandths / 1000:g}s"
    seconds = math.ceil(thousandths / 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"
