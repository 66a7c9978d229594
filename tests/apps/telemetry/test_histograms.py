"""Quantiles from mergeable histograms."""

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.telemetry.histograms import quantile_s
from workloadplane.protocol.usage import LATENCY_BUCKETS_S


def counted(observations: list[float]) -> list[int]:
    counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
    for observation in observations:
        counts[bisect.bisect_left(LATENCY_BUCKETS_S, observation)] += 1
    return counts


@given(st.lists(st.floats(0.0011, 500), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_is_within_its_bucket_of_the_true_one(observations: list[float], q: float) -> None:
    """Never further off than one bucket's width, a factor of the square root of two."""
    true = sorted(observations)[max(0, -(-round(q * 1000) * len(observations) // 1000) - 1)]
    read = quantile_s(counted(observations), q)
    assert read is not None
    assert true / 1.4143 <= read <= true * 1.4143


def test_nothing_counted_has_no_quantile() -> None:
    """Null, never 0."""
    assert quantile_s([0] * 40, 0.5) is None


def test_what_is_beyond_all_buckets_is_said_low() -> None:
    """The open bucket has no upper bound to say."""
    assert quantile_s(counted([10_000.0]), 0.5) == pytest.approx(LATENCY_BUCKETS_S[-1])
