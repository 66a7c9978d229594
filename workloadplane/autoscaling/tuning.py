"""The constants of the predictive policy; searched for on other days than ``make bench-scaling`` reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveTuning:
    """Times in seconds, loads in replicas.

    level_s:         time constant of the level; what deviates to one side is followed faster, down to ``fast_s``
    fast_s:          time constant of the load that counts as now: never fewer replicas are wanted
    trend_s:         time constant of the slope
    damping_s:       a slope is believed for about this long
    quantile:        the share of past errors that the head-room covers, before the SLO corrects it
    hold_cold_starts: a replica is kept for as many cold starts after it was wanted last; the delay if that is longer
    feedback_s:      requests outside the SLO change the head-room by a factor of e when they persist for so long at
                     twice their budget
    burst_share:     how much of the second highest burst of the last hour is kept as a floor
    """

    level_s: float = 120.0
    fast_s: float = 20.0
    trend_s: float = 600.0
    damping_s: float = 900.0
    quantile: float = 0.95
    hold_cold_starts: float = 1.0
    feedback_s: float = 86_400.0
    burst_share: float = 0.5
