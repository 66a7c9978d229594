"""What is learned of token work and cold starts."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.autoscaling import TokenWork, cold_start_seen, p90_s, work_seen
from workloadplane.autoscaling.coldstarts import MAX_COLD_STARTS
from workloadplane.autoscaling.work import MOST_FACTOR


def test_costs_of_tokens_are_found_from_what_engines_did() -> None:
    """Noisy busy times of mixed work give both costs within a tenth."""
    rng, state = Random(1), TokenWork()
    for _ in range(500):
        prefill, decode = rng.uniform(0, 80_000), rng.uniform(0, 20_000)
        busy_s = (prefill / 20_000 + decode / 900) * rng.uniform(0.9, 1.1)
        state = work_seen(state, prefill_tokens=prefill, decode_tokens=decode, busy_s=busy_s)
    assert state.prefill_s == pytest.approx(1 / 20_000, rel=0.1)
    assert state.decode_s == pytest.approx(1 / 900, rel=0.1)
    assert state.of(prefill_tokens=20_000, decode_tokens=900) == pytest.approx(2.0, rel=0.1)


def test_costs_follow_an_engine_that_becomes_slower() -> None:
    """The old costs are forgotten."""
    rng, state = Random(2), TokenWork()
    for decode_s in (1 / 2000, 1 / 500):
        for _ in range(1500):
            prefill, decode = rng.uniform(0, 8000), rng.uniform(0, 2000)
            busy_s = prefill / 8000 + decode * decode_s
            state = work_seen(state, prefill_tokens=prefill, decode_tokens=decode, busy_s=busy_s)
    assert state.decode_s == pytest.approx(1 / 500, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(allow_nan=True)),
        max_size=50,
    )
)
def test_costs_stay_finite_and_inside_their_bounds(numbers: list[tuple[float, float, float]]) -> None:
    """Whatever an engine reports, a token costs between a hundredth and a hundred times the first guess."""
    state = TokenWork()
    for prefill, decode, busy_s in numbers:
        state = work_seen(state, prefill_tokens=prefill, decode_tokens=decode, busy_s=busy_s)
        for cost, first in ((state.prefill_s, state.first_prefill_s), (state.decode_s, state.first_decode_s)):
            assert first / MOST_FACTOR * 0.999 <= cost <= first * MOST_FACTOR * 1.001


def test_nine_of_ten_cold_starts_are_no_longer() -> None:
    """The p90 of the last ones; of nothing it is unknown; nonsense is not remembered."""
    past: tuple[float, ...] = ()
    assert p90_s(past) is None
    for took_s in (
        [500.0] * 40 + [math.nan, -1.0, math.inf] + [float(n) for n in range(1, MAX_COLD_STARTS + 1)]
    ):
        past = cold_start_seen(past, took_s)
    assert len(past) == MAX_COLD_STARTS
    assert p90_s(past) == 29.0
