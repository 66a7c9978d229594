"""The constants of the predictive policy; searched for on other days than ``make bench-scaling`` reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveTuning:
    """Times in seconds, loads in replicas.

    level_s:     time constant of the level
    trend_s:     time constant of the slope
    damping_s:   a slope is believed for about this long
    rise_gain:   how much more than it was measured a rise counts: to be late costs more than to be early
    quantile:    the share of past errors that the head-room covers, before the SLO corrects it
    hold_s:      a replica is kept so long after it was wanted last; the delay or a cold start if that is longer
    margin:      a replica is launched when the need exceeds the count by this much; at most 3 % of the need
    feedback_s:  so many seconds' budget of requests outside the SLO raise the head-room by the whole load
    burst_share: how much of the second highest burst of the last hour is kept as a floor
    """

    level_s: float = 30.0
    trend_s: float = 75.0
    damping_s: float = 600.0
    rise_gain: float = 2.0
    quantile: float = 0.7
    hold_s: float = 900.0
    margin: float = 0.3
    feedback_s: float = 2_592_000.0
    burst_share: float = 0.5
