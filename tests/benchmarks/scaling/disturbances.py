"""Metrics as they are in bad hours: missing, or wrong."""

import math
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from workloadplane.autoscaling import Seen


def missing(share: float | None, seed: int) -> Callable[[Seen], Seen]:
    """A share of the reports is lost; None: all of them for the first ten minutes of each hour."""
    rng = Random(seed)

    def disturbed(seen: Seen) -> Seen:
        lost = seen.now % 3600.0 < 600.0 if share is None else rng.random() < share
        return replace(seen, concurrency=None, work=None, slo=None) if lost else seen

    return disturbed


def noisy(deviation: float, seed: int) -> Callable[[Seen], Seen]:
    """Every report of load is wrong by a factor, lognormal."""
    rng = Random(seed)

    def disturbed(seen: Seen) -> Seen:
        factor = math.exp(rng.gauss(0.0, deviation))
        work = seen.work and replace(seen.work, arrived_s=seen.work.arrived_s * factor)
        concurrency = None if seen.concurrency is None else seen.concurrency * factor
        return replace(seen, work=work, concurrency=concurrency)

    return disturbed
