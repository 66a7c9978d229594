"""When requests come: the course that a load takes, and moments drawn from it.

Pure: the seed is an argument. Arrivals are a Poisson process whose rate follows the course, for that is how the
requests of many clients who know nothing of each other come. They are drawn by thinning (Lewis and Shedler, 1979).
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

#: The rate of what was recorded is told over so long.
_RATE_OVER_S = 10.0
#: Levels of a flight of steps, as shares of the rate: up, and down again.
_STEPS = (0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25)


class Profile(StrEnum):
    """The course of a load over its duration.

    steady: the rate, all the time
    burst:  the rate for the first half of every period, the low rate for the other
    ramp:   from the low rate up to the rate, evenly
    steps:  up in four equal steps and down in three, each for a seventh of the time
    wave:   between the low rate and the rate, a cosine with the period; it begins low
    """

    STEADY = "steady"
    BURST = "burst"
    RAMP = "ramp"
    STEPS = "steps"
    WAVE = "wave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """``low_per_s`` at most ``rate_per_s``; all above or equal to 0, times above it."""

    profile: Profile
    rate_per_s: float
    low_per_s: float
    duration_s: float
    period_s: float

    def rate_at(self, at_s: float) -> float:
        """Requests a second, ``at_s`` seconds after the begin."""
        height = self.rate_per_s - self.low_per_s
        match self.profile:
            case Profile.STEADY:
                return self.rate_per_s
            case Profile.BURST:
                return self.rate_per_s if at_s % self.period_s < self.period_s / 2 else self.low_per_s
            case Profile.RAMP:
                return self.low_per_s + height * at_s / self.duration_s
            case Profile.STEPS:
                step = min(len(_STEPS) - 1, int(at_s / self.duration_s * len(_STEPS)))
                return max(self.low_per_s, self.rate_per_s * _STEPS[step])
            case Profile.WAVE:
                return self.low_per_s + height * (1 - math.cos(2 * math.pi * at_s / self.period_s)) / 2

    def arrivals(self, seed: int) -> Iterator[float]:
        """Seconds after the begin at which requests come, in order; the same for the same seed."""
        chance = random.Random(seed)  # noqa: S311
        at_s = 0.0
        while True:
            at_s += chance.expovariate(self.rate_per_s)
            if at_s >= self.duration_s:
                return
            if chance.random() * self.rate_per_s < self.rate_at(at_s):
                yield at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Requests of a trace, to be asked again: when, with so many tokens, for so many. ``at_s`` rises from 0."""

    at_s: Sequence[float]
    input_tokens: Sequence[int]
    output_tokens: Sequence[int]

    @property
    def duration_s(self) -> float:
        """Until the last one."""
        return self.at_s[-1]

    @property
    def rate_per_s(self) -> float:
        """In the mean."""
        return len(self.at_s) / max(self.duration_s, 1.0)

    def rate_at(self, at_s: float) -> float:
        """Requests a second, over the ten seconds before."""
        return (bisect_right(self.at_s, at_s) - bisect_right(self.at_s, at_s - _RATE_OVER_S)) / _RATE_OVER_S

    def arrivals(self, seed: int) -> Iterator[float]:
        """As they were recorded, whatever the seed."""
        return iter(self.at_s)
