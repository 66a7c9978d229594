"""Token work in replica-seconds: what a prefilled and a generated token cost, learned from what engines did.

Requests are not equal; tokens nearly are. Over an interval an engine prefilled and generated so many tokens and was
busy for so long (its running requests over the concurrency target, times the interval, at most its length): the two
costs are fitted by recursive least squares with a forgetting factor (Plackett, 1950; Ljung, *System Identification*),
kept inside bounds around what was known before. One state for each ModelVersion on each GPU type.
"""

import math
from dataclasses import dataclass

#: Weight that an observation keeps after each further one: about the last 200 count.
FORGETTING = 0.995
#: The costs stay within this factor of the first guess.
MOST_FACTOR = 100.0
#: No interval has more tokens or seconds; what says so is broken.
MOST_SEEN = 1e9
#: The covariance is kept below its first value: it would grow while nothing is learned.
MOST_COVARIANCE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWork:
    """Replica-seconds for each token, and the scaled covariance of the fit.

    The first guess is a replica that prefills 8,000 tokens a second or generates 2,000: what an 8-billion-parameter
    model does on a GPU of 2023, and soon replaced by what is measured.
    """

    prefill_s: float = 1 / 8000
    decode_s: float = 1 / 2000
    first_prefill_s: float = 1 / 8000
    first_decode_s: float = 1 / 2000
    covariance: tuple[float, float, float] = (100.0, 0.0, 100.0)
    observations: int = 0

    def of(self, *, prefill_tokens: float, decode_tokens: float) -> float:
        """Replica-seconds of so many tokens."""
        return self.prefill_s * prefill_tokens + self.decode_s * decode_tokens


def work_seen(state: TokenWork, *, prefill_tokens: float, decode_tokens: float, busy_s: float) -> TokenWork:
    """The costs after one interval of one replica; one without tokens or with impossible numbers teaches nothing."""
    numbers = (prefill_tokens, decode_tokens, busy_s)
    if not all(0 <= number <= MOST_SEEN for number in numbers) or busy_s == 0:
        return state
    if prefill_tokens + decode_tokens <= 0:
        return state
    # In units of the first guess the two costs are near 1 and the regressors near seconds.
    x, y = prefill_tokens * state.first_prefill_s, decode_tokens * state.first_decode_s
    a, b = state.prefill_s / state.first_prefill_s, state.decode_s / state.first_decode_s
    xx, xy, yy = state.covariance
    px, py = xx * x + xy * y, xy * x + yy * y
    denominator = FORGETTING + x * px + y * py
    gain_x, gain_y = px / denominator, py / denominator
    missed = busy_s - (a * x + b * y)
    covariance = _bounded(
        (xx - gain_x * px) / FORGETTING, (xy - gain_x * py) / FORGETTING, (yy - gain_y * py) / FORGETTING
    )
    return TokenWork(
        prefill_s=state.first_prefill_s * _clipped(a + gain_x * missed),
        decode_s=state.first_decode_s * _clipped(b + gain_y * missed),
        first_prefill_s=state.first_prefill_s,
        first_decode_s=state.first_decode_s,
        covariance=covariance,
        observations=state.observations + 1,
    )


def _clipped(factor: float) -> float:
    return min(max(factor, 1.0 / MOST_FACTOR), MOST_FACTOR)


def _bounded(xx: float, xy: float, yy: float) -> tuple[float, float, float]:
    """Positive, not above its first size, and no correlation beyond what two variances allow."""
    xx, yy = (min(max(value, 1e-9), MOST_COVARIANCE) for value in (xx, yy))
    most = 0.999 * math.sqrt(xx * yy)
    return xx, min(max(xy, -most), most), yy
