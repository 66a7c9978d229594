"""What the SLO adds to the head-room: integral control of the requests outside it.

Over time they are to be the budget's share of all requests at most.
"""

import math

from msgspec import Struct

from workloadplane.autoscaling.policy import AutoscalingPolicy
from workloadplane.autoscaling.signals import SloSeen

#: Bounds of what the SLO adds to the head-room, in shares of the load.
LEAST_CORRECTION, MOST_CORRECTION = -0.2, 1.0
#: With a budget up to the first nothing is taken from the head-room, with one from the second on as much as may be. A
#: calm week spends a small budget by going without, and the first rise, met without, is many times that budget.
STRICT_BUDGET, EASY_BUDGET = 0.001, 0.05
#: The most that a day may add: one bad hour is one lesson, however bad.
MOST_RISE_A_DAY = 0.4
DAY_S = 86_400.0
#: The share of the SLO's budget that the head-room aims at: a finite window should keep the SLO too.
BUDGET_AIM = 0.8
#: Over how long the mean number of requests is taken that the budget is a share of.
REQUESTS_MEAN_S = 6 * 3600.0


class Feedback(Struct, frozen=True, kw_only=True):
    """What was learned of the SLO.

    correction:     what it has added to the head-room, a share of the load
    risen:          by how much misses have raised that lately, forgotten over a day
    requests_per_s: the mean rate of requests
    seen_s:         over how long it was seen
    """

    correction: float = 0.0
    risen: float = 0.0
    requests_per_s: float = 0.0
    seen_s: float = 0.0


def fed_back(state: Feedback, slo: SloSeen | None, step_s: float, policy: AutoscalingPolicy) -> Feedback:
    """The state after ``step_s`` seconds whose requests are told; nothing is learned of what nobody can tell."""
    if slo is None or step_s <= 0 or not slo.valid:
        return state
    seen = slo.inside + slo.outside
    seen_s = state.seen_s + step_s
    rate = state.requests_per_s
    rate += min(1.0, step_s / min(seen_s, REQUESTS_MEAN_S)) * (seen / step_s - rate)
    change, risen = 0.0, state.risen * math.exp(-step_s / DAY_S)
    if rate > 0:
        budget = (1.0 - policy.slo_attainment) * BUDGET_AIM
        over_s = (slo.outside / budget - seen) / rate  # budget, in seconds, that this step took too much
        change = min(over_s / policy.tuning.feedback_s, max(0.0, MOST_RISE_A_DAY - risen))
    return Feedback(
        correction=min(max(state.correction + change, _least_correction(policy)), MOST_CORRECTION),
        risen=risen + max(0.0, change),
        requests_per_s=rate,
        seen_s=seen_s,
    )


def _least_correction(policy: AutoscalingPolicy) -> float:
    easy = (1.0 - policy.slo_attainment - STRICT_BUDGET) / (EASY_BUDGET - STRICT_BUDGET)
    return LEAST_CORRECTION * min(max(easy, 0.0), 1.0)
