"""What usage shows of a demand: the rates that production would plan for.

As ``apps.telemetry`` counts and ``apps.placements`` looks at it: steps of five minutes over a day, the one that runs
left out; a rate is taken over where it has moved.
"""

import math
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.series import FloatArray

USAGE_STEP_S = 300.0
#: Usage goes back so far.
HORIZON_S = 86_400.0
#: Rates are taken over where a p95 moved by more than this share of the greater one.
MOVED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Rates:
    """Each origin's."""

    p50: FloatArray
    p95: FloatArray


def rates_of(usage: FloatArray) -> Rates:
    """Of means of five minutes: (steps, origins), one step at least."""
    steps = len(usage)
    middle, high = math.ceil(0.5 * steps) - 1, math.ceil(0.95 * steps) - 1
    ranked = np.partition(usage, (middle, high), axis=0)
    return Rates(p50=ranked[middle], p95=ranked[high])


def taken_over(held: Rates, found: Rates, *, least: float = 0.0) -> Rates:
    """Another demand where it moved, and only there: small moves add up to one that counts.

    ``least``: what moved by no more is the same in any case.
    """
    far = np.maximum(least, MOVED_SHARE * np.maximum(found.p95, held.p95))
    moved = np.abs(found.p95 - held.p95) > far
    return Rates(np.where(moved, found.p50, held.p50), np.where(moved, found.p95, held.p95))
