"""What is believed of hazards and obtainability."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.procurement import FadingRate, FadingShare

H = 3600.0


def test_evidence_moves_a_rate_and_fades_back_to_the_prior():
    prior = FadingRate(prior_per_h=0.05, prior_h=24, half_life_h=48)
    assert prior.per_h(0) == pytest.approx(0.05)
    seen = prior.seen(now_s=0, exposure_h=24).seen(now_s=0, events=6)
    assert seen.per_h(0) == pytest.approx((0.05 * 24 + 6) / 48)
    assert seen.per_h(48 * H) == pytest.approx((0.05 * 24 + 3) / 36)
    assert seen.per_h(48 * H * 40) == pytest.approx(0.05, rel=1e-3)


def test_launches_move_a_share():
    share = FadingShare(prior=0.8, prior_trials=5, half_life_h=24).seen(now_s=0, had=0, asked=5)
    assert share.share(0) == pytest.approx(0.4)
    assert share.share(240 * H) == pytest.approx(0.8, rel=0.01)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 5), st.floats(0, 100)), max_size=20), st.floats(0, 2)
)
def test_a_rate_lies_between_the_prior_and_what_was_seen(rows, prior):
    rate = FadingRate(prior_per_h=prior, prior_h=1, half_life_h=10)
    for at_s, events, exposure_h in sorted(rows):
        rate = rate.seen(now_s=at_s, events=events, exposure_h=exposure_h)
    found = rate.per_h(1e6)
    assert 0 <= found <= prior + rate.events + 1e-9
    if not rate.exposure_h:
        assert found >= prior * 0.999


def test_a_prior_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="prior_h 0"):
        FadingRate(prior_per_h=1, prior_h=0, half_life_h=1)
    with pytest.raises(ValueError, match="prior 2"):
        FadingShare(prior=2, prior_trials=1, half_life_h=1)
