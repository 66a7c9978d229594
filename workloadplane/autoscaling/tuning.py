"""The constants of the predictive policy; searched for on other days than ``make bench-scaling`` reports."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveTuning:
    """Times in seconds, loads in replicas.

    level_s:     time constant of the quick level for a cold start of three minutes
    steady_s:    time constant of the steady level for it
    steady_deviations: how many mean deviations the steady level may be from the quick one
    noise_s:     over how long those deviations, and the load's from the level, are learned
    noise_share: how much of the load's mean deviation from the level is head-room
    trend_s:     time constant of the slope for it; all three grow with the root of the cold start
    damping_s:   a slope is believed for about this long
    most_growth: no rise is believed beyond this share of the level: one jump is not the first of many
    rise_gain:   how much more than it was measured a rise counts: to be late costs more than to be early
    quantile:    the share of past errors that the head-room covers, before the SLO corrects it
    least_head_room: what is added to that before the SLO's part, as a share of the load, for a cold start of three
                 minutes; it grows with the root of the cold start too
    hold_s:      a replica is kept so long after the load needed it last; the policy's delay if that is longer
    hold_cold_starts: and so many cold starts longer
    foreseen_hold_s: so long one is kept that only the forecast wanted
    margin:      a replica is launched when the need exceeds the count by this much
    margin_share: which is at most this share of the need: small counts are met to the full
    feedback_s:  so many seconds' budget of requests outside the SLO raise the head-room by the whole load
    burst_share: how much of the second highest burst of the last hour is kept as a floor
    """

    level_s: float = 34.0
    steady_s: float = 120.0
    steady_deviations: float = 3.9
    noise_s: float = 600.0
    noise_share: float = 0.67
    trend_s: float = 75.0
    damping_s: float = 1_130.0
    most_growth: float = 1.5
    rise_gain: float = 1.1
    quantile: float = 0.4
    least_head_room: float = 0.03
    hold_s: float = 975.0
    hold_cold_starts: float = 2.0
    foreseen_hold_s: float = 500.0
    margin: float = 0.9
    margin_share: float = 0.03
    feedback_s: float = 2_000_000.0
    burst_share: float = 0.6

    def pace(self, cold_start_s: float) -> float:
        """By what time constants grow: who looks further ahead must be surer, who is soon helped may be quick."""
        return math.sqrt(cold_start_s / 180.0)
