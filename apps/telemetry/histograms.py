"""Reading quantiles from the wire's fixed, mergeable histograms. Pure."""

from collections.abc import Sequence

from workloadplane.protocol.usage import LATENCY_BUCKETS_S


def quantile_s(counts: Sequence[float], q: float) -> float | None:
    """The q-quantile in seconds (0 < q <= 1), by linear interpolation inside its bucket; None if nothing was counted.

    Buckets grow by a factor of 2^(1/2), so the answer is within that factor of the true value. What lies in the open
    bucket is said to be its lower bound: errs low there, and only there.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted = q * total
    below = 0.0
    for index, count in enumerate(counts[: len(LATENCY_BUCKETS_S)]):
        if count > 0 and below + count >= wanted:
            lower = LATENCY_BUCKETS_S[index - 1] if index else 0.0
            return lower + (LATENCY_BUCKETS_S[index] - lower) * (wanted - below) / count
        below += count
    return LATENCY_BUCKETS_S[-1]
