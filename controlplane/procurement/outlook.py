"""What demand to expect over a term, from what it was hour by hour.

Whole weeks where there is one, else whole days where there is one, so that no hour of the week counts twice; newer
hours count more. Older hours are brought to the present level; that goes on as it has moved of late, but only in part,
and nobody knows it well: each hour stands for several, some below and some above it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.procurement.reserved import DemandSample

DAY_H, WEEK_H = 24, 168
#: How the unknown level is spread: in standard deviations, with its weight (three-point Gauss-Hermite).
_LEVELS = ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlookPolicy:
    """half_life_h: an hour so long ago counts half; damping: of the level's trend, the share that goes on;
    trend_most: neither more than so many times the present level nor less than that part of it;
    spread: of the level, as a share of it (the standard deviation of its logarithm).
    """

    half_life_h: float = 336.0
    damping: float = 0.5
    trend_most: float = 1.5
    spread: float = 0.1

    def __post_init__(self) -> None:
        if not (
            self.half_life_h > 0 and 0 <= self.damping <= 1 and self.trend_most >= 1 and self.spread >= 0
        ):
            raise ValueError(
                f"half_life_h {self.half_life_h}, damping {self.damping}, trend_most {self.trend_most},"
                f" spread {self.spread}; give hours above 0, a damping from 0 to 1, trend_most of 1 or more"
            )


DEFAULT_POLICY = OutlookPolicy()


def outlook(
    instances_by_h: Sequence[float], *, term_h: float, policy: OutlookPolicy = DEFAULT_POLICY
) -> tuple[DemandSample, ...]:
    """Samples of the demand of a term that begins now. ``instances_by_h``: the oldest hour first.

    Raises ValueError where no hour is given.
    """
    if not instances_by_h:
        raise ValueError("no hour of demand is known; give at least one")
    whole = WEEK_H if len(instances_by_h) >= WEEK_H else DAY_H
    kept = len(instances_by_h) // whole * whole or len(instances_by_h)
    hours = instances_by_h[len(instances_by_h) - kept :]
    growth_per_h = _growth_per_h(hours)
    found = []
    for index, instances in enumerate(hours):
        age_h = len(hours) - index
        grown = math.exp(growth_per_h * (age_h + policy.damping * term_h / 2))
        factor = min(policy.trend_most, max(1 / policy.trend_most, grown))
        weight = 0.5 ** (age_h / policy.half_life_h)
        found += [
            DemandSample(
                instances=instances * factor * math.exp(level * policy.spread), weight=weight * share
            )
            for level, share in _LEVELS
        ]
    return tuple(found)


def _growth_per_h(hours: Sequence[float]) -> float:
    """Of the level, by its logarithm: the slope over whole weeks (or days), by least squares; 0 for fewer than two."""
    whole = WEEK_H if len(hours) >= 2 * WEEK_H else DAY_H
    parts = [sum(hours[start : start + whole]) / whole for start in range(0, len(hours) - whole + 1, whole)]
    if len(parts) < 2 or min(parts) <= 0 or (whole == DAY_H and len(parts) < 5):
        return 0.0
    levels = [math.log(part) for part in parts]
    middle, mean = (len(levels) - 1) / 2, sum(levels) / len(levels)
    slope = sum((i - middle) * (level - mean) for i, level in enumerate(levels))
    return slope / sum((i - middle) ** 2 for i in range(len(levels))) / whole
