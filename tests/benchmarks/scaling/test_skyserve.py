"""The policy that is compared with behaves as published."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.procurement import Launch, NotObtained, Wanted
from tests.benchmarks.scaling.skyserve import SkyServe
from tests.controlplane.procurement.markets import Chance, looks, market

MARKETS = (market("g@a1"), market("g@a2", spot=250_000), market("g@b1", spot=400_000))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 3), st.integers(1, 8))
def test_on_demand_is_what_ready_spot_lacks_of_wanted_and_extra(seed, obtain, extra, wanted):
    chance = Chance(rng=Random(seed), obtain=obtain)
    for look in looks(SkyServe(markets=MARKETS, extra=extra), chance, [wanted] * 60):
        ready = sum(row.ready_s is not None for row in look.after.rows("spot"))
        on_demand = len(look.after.rows("on_demand")) + look.after.asked_of("on_demand")
        assert on_demand == max(0, min(wanted, wanted + extra - ready))
        assert len(look.after.rows("spot")) + look.after.asked_of("spot") == wanted + extra


def test_it_spreads_over_zones_the_cheapest_first_and_avoids_one_that_refused():
    policy = SkyServe(markets=MARKETS, extra=0)
    state, actions, _ = policy.step(policy.start(), Wanted(2), 0.0)
    assert actions[:2] == (Launch("g@a2", "spot"), Launch("g@a1", "spot"))
    state, _, _ = policy.step(state, NotObtained("g@a2", "spot"), 60.0)
    state, actions, _ = policy.step(state, Wanted(2), 60.0)
    assert actions[0] == Launch("g@b1", "spot")
    state, _, _ = policy.step(
        state, NotObtained("g@a1", "spot"), 120.0
    )  # fewer than two are left: all open again
    _, actions, _ = policy.step(state, Wanted(2), 120.0)
    assert actions[0] == Launch("g@a2", "spot")
