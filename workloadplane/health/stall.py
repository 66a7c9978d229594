"""When is silence too long? Measured against what the same replica usually takes.

A replica is stuck when it gives nobody anything for far longer than its own slow requests take: several times its
99th percentile, and never less than a floor. One request that waits while others are served is not evidence.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

_BUCKETS_PER_DOUBLING = 2
_SMALLEST_S = 0.001
_BOUNDS_S: Final = tuple(_SMALLEST_S * 2 ** (number / _BUCKETS_PER_DOUBLING) for number in range(42))
_HALVED_AT = 2_000


class Usual:
    """Durations as counts by bucket; old ones fade. Single owner."""

    __slots__ = ("_counts", "_p99_s", "count")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._p99_s: float | None = None
        self.count = 0

    def observe(self, value_s: float) -> None:
        self._counts[bisect_left(_BOUNDS_S, value_s)] += 1
        self.count += 1
        self._p99_s = None
        if self.count >= _HALVED_AT:
            self._counts = [count // 2 for count in self._counts]
            self.count = sum(self._counts)

    def p99_s(self) -> float:
        """The upper bound of the bucket in which the 99th percentile lies; 0 if nothing was seen."""
        if self._p99_s is None:
            self._p99_s = self._quantile_s(0.99)
        return self._p99_s

    def _quantile_s(self, share: float) -> float:
        left = self.count * (1.0 - share)
        for number in range(len(self._counts) - 1, -1, -1):
            left -= self._counts[number]
            if left < 0 and self._counts[number]:
                return _BOUNDS_S[min(number, len(_BOUNDS_S) - 1)]
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StallPolicy:
    """How much longer than usual is too long.

    times:       the 99th percentile
    samples_min: with fewer, nothing is usual yet, and the floor counts ``unknown_times``
    """

    times: float = 8.0
    samples_min: int = 20
    unknown_times: float = 2.0


def stuck_after_s(usual: Usual, floor_s: float, policy: StallPolicy) -> float:
    """After how long a silence counts as stuck."""
    if usual.count < policy.samples_min:
        return floor_s * policy.unknown_times
    return max(floor_s, usual.p99_s() * policy.times)
