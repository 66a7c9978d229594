"""What is usual for a replica, and what is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.stall import StallPolicy, Usual, stuck_after_s

POLICY = StallPolicy()


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=300))
def test_the_percentile_is_within_a_bucket_of_the_true_one(values: list[float]) -> None:
    """Never below it, and at most half a doubling above."""
    usual = Usual()
    for value in values:
        usual.observe(value)
    true = sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
    assert true * 0.999 <= usual.p99_s() <= true * 1.415


def test_a_slow_replica_is_given_more_time_and_an_unknown_one_too() -> None:
    """Several times its own percentile, at least the floor; without enough samples a multiple of the floor."""
    usual = Usual()
    assert stuck_after_s(usual, 5.0, POLICY) == 10.0
    for _ in range(100):
        usual.observe(0.05)
    assert stuck_after_s(usual, 5.0, POLICY) == 5.0
    for _ in range(100):
        usual.observe(3.0)
    assert stuck_after_s(usual, 5.0, POLICY) == pytest.approx(8 * 3.0, rel=0.45)


def test_what_was_usual_once_fades() -> None:
    """After a few thousand quick answers nobody waits for what was slow before."""
    usual = Usual()
    for _ in range(1000):
        usual.observe(10.0)
    for _ in range(20_000):
        usual.observe(0.01)
    assert usual.p99_s() < 1.0
