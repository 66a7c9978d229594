"""How long may an answer be overdue before its sender is doubted, and before it counts as lost? Phi-accrual.

After Hayashibara, Défago, Yared and Katayama, "The phi accrual failure detector" (SRDS 2004): the times between
two answers are learned, and phi = -log10 of the chance that the next one is later still. A normal distribution is
assumed, as there. Two things differ. A pause that any process may take (its garbage collector, a busy machine) is
forgiven before phi begins to rise. And the patience has a bound, so that a noisy past can't put off a finding for ever.
"""

from math import erfc, inf, log10, sqrt
from typing import Final

import msgspec

#: Standard deviations beyond the mean at which phi, of a normal distribution, is 1 and 8.
_DEVIATIONS_AT_PHI_1: Final = 1.2816
_DEVIATIONS_AT_PHI_8: Final = 5.6120
_ROOT_OF_2: Final = sqrt(2.0)


class SilencePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient an observer is; times in seconds.

    interval_s, interval_s_max: between two answers, before any was seen, and what is believed at most
    deviation_s_min:  the times are taken to vary by this at least
    weight:           of the latest interval in the mean of all
    pause_s:          forgiven to everybody
    lost_s_max:       after so long a silence it is lost, however irregular its answers were
    """

    interval_s: float = 0.4
    interval_s_max: float = 1.0
    deviation_s_min: float = 0.1
    weight: float = 0.0625
    pause_s: float = 0.5
    lost_s_max: float = 2.2


class Rhythm(msgspec.Struct, frozen=True, gc=False):
    """Of one sender's answers. ``doubt_s``, ``lost_s``: the silences at which phi is 1 and 8."""

    mean_s: float
    variance: float
    doubt_s: float
    lost_s: float


def unheard(policy: SilencePolicy) -> Rhythm:
    """Of a sender that has not answered yet."""
    return _rhythm(policy.interval_s, 0.0, policy)


def beat(rhythm: Rhythm, interval_s: float, policy: SilencePolicy) -> Rhythm:
    """One more answer came, so long after the one before."""
    off_s = min(interval_s, policy.interval_s_max) - rhythm.mean_s
    variance = (1.0 - policy.weight) * (rhythm.variance + policy.weight * off_s * off_s)
    return _rhythm(rhythm.mean_s + policy.weight * off_s, variance, policy)


def phi(rhythm: Rhythm, silent_s: float, policy: SilencePolicy) -> float:
    """How surprising a silence is: at 1 one in ten, at 8 one in a hundred million."""
    deviation_s = max(policy.deviation_s_min, sqrt(rhythm.variance))
    chance = 0.5 * erfc((silent_s - policy.pause_s - rhythm.mean_s) / (deviation_s * _ROOT_OF_2))
    return -log10(chance) if chance > 0.0 else inf


def _rhythm(mean_s: float, variance: float, policy: SilencePolicy) -> Rhythm:
    deviation_s = max(policy.deviation_s_min, sqrt(variance))
    likely_s = mean_s + policy.pause_s
    lost_s = min(policy.lost_s_max, likely_s + _DEVIATIONS_AT_PHI_8 * deviation_s)
    return Rhythm(mean_s, variance, min(lost_s, likely_s + _DEVIATIONS_AT_PHI_1 * deviation_s), lost_s)
