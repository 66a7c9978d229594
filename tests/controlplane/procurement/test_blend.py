"""The blend keeps what it promises, whatever the markets do."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.procurement import (
    Blend,
    BlendPolicy,
    DoorPolicy,
    Launch,
    Lost,
    NotObtained,
    Obtained,
    Priced,
    Ready,
    Stop,
    Wanted,
)
from tests.controlplane.procurement.markets import TICK_S, Chance, looks, market, stops

MARKETS = (market("g@a1"), market("g@a2", spot=250_000), market("g@b1", spot=400_000, on_demand=1_100_000))
#: All of it stands in the first.
CHEAP = (market("g@a1", spot=100_000), market("g@b1", spot=500_000))
SPOT_LAUNCHES = {Launch(one.market_id, "spot") for one in CHEAP}
chances = st.builds(
    Chance,
    rng=st.integers(0, 2**32).map(Random),
    obtain=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    lose=st.sampled_from([0.0, 0.02, 0.3]),
)
demands = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 30)), min_size=1, max_size=5).map(
    lambda parts: [count for count, ticks in parts for _ in range(ticks)]
)
policies = st.builds(
    BlendPolicy,
    floor=st.integers(0, 3),
    extra_most=st.integers(0, 4),
    short_worth=st.sampled_from([0.0, 10.0, 100.0]),
    hold_s=st.sampled_from([0.0, 300.0, 900.0]),
    extra_hold_s=st.sampled_from([60.0, 3600.0]),
    move_share=st.sampled_from([None, 0.2]),
)


def fixed(**given: object) -> Blend:
    """One market, nothing extra, no prior: what is asked for is what is told."""
    policy = BlendPolicy(extra_most=0, move_share=None, prior_per_h=0.0, **given)  # type: ignore[arg-type]
    return Blend(markets=(market(),), policy=policy)


@settings(max_examples=60, deadline=None)
@given(policies, chances, demands)
def test_the_floor_and_what_spot_lacks_are_always_held_or_asked_for_on_demand(policy, chance, wanted):
    for look in looks(Blend(markets=MARKETS, policy=policy), chance, wanted):
        on_demand = len(look.after.rows("on_demand")) + look.after.asked_of("on_demand")
        assert on_demand >= policy.floor
        assert on_demand >= look.wanted - len(look.after.rows("spot"))


@settings(max_examples=60, deadline=None)
@given(policies, chances, demands)
def test_on_demand_is_asked_only_for_the_lack_and_leaves_only_for_spot_that_has_lasted(
    policy, chance, wanted
):
    for look in looks(Blend(markets=MARKETS, policy=policy), chance, wanted):
        asked = sum(isinstance(action, Launch) and action.rented == "on_demand" for action in look.actions)
        spot = look.after.rows("spot")
        if asked:
            held = len(look.before.rows("on_demand")) + look.before.asked_of("on_demand") + asked
            assert held <= max(policy.floor, look.wanted + policy.extra_most - len(spot))
        if any(look.before.held[name].rented == "on_demand" for name in stops(look)):
            settled = [
                row for row in spot if row.ready_s is not None and look.now_s - row.ready_s >= policy.hold_s
            ]
            assert len(look.after.rows("on_demand")) + len(settled) >= look.wanted


@settings(max_examples=60, deadline=None)
@given(policies, chances, demands)
def test_spot_is_never_asked_for_beyond_what_is_wanted_and_worth_it(policy, chance, wanted):
    for look in looks(Blend(markets=MARKETS, policy=policy), chance, wanted):
        if any(isinstance(action, Launch) and action.rented == "spot" for action in look.actions):
            spot = len(look.before.rows("spot")) + look.after.asked_of("spot")
            assert spot <= max(0, look.wanted + policy.extra_most - policy.floor) + 1  # one may be moving


@settings(max_examples=30, deadline=None)
@given(policies, st.integers(0, 2**32), demands)
def test_the_same_history_gives_the_same_answers(policy, seed, wanted):
    once, twice = (
        [
            (look.actions, look.reasons)
            for look in looks(Blend(markets=MARKETS, policy=policy), chance, wanted)
        ]
        for chance in (Chance(rng=Random(seed)), Chance(rng=Random(seed)))
    )
    assert once == twice


@pytest.mark.parametrize("wanted", [1, 4, 8, 12])
def test_where_markets_always_have_some_it_comes_to_rest(wanted):
    chance = Chance(rng=Random(1), obtain=1.0, lose=0.0)
    found = list(looks(Blend(markets=CHEAP), chance, [wanted] * 600))
    spot = [action for look in found for action in look.actions if action in SPOT_LAUNCHES]
    assert len(spot) <= 2 * (wanted + BlendPolicy().extra_most)  # and not as many each hour of ten


@settings(max_examples=15, deadline=None)
@given(st.floats(30, 600), st.floats(1, 20), st.integers(60, 600))
def test_a_market_that_has_nothing_is_asked_ever_more_seldom(first_s, times, ticks):
    door = DoorPolicy(first_s=first_s, most_s=first_s * times)
    policy = fixed(spot=door)
    asked_s = [
        look.now_s
        for look in looks(policy, Chance(rng=Random(1), obtain=0.0), [3] * ticks)
        for action in look.actions
        if isinstance(action, Launch) and action.rented == "spot"
    ]
    waits = [late - early for early, late in pairwise(asked_s)]
    assert all(wait >= door.first_s for wait in waits)  # and one at a time: no two are asked at once
    assert all(late >= early - 2 * TICK_S for early, late in pairwise(waits))
    assert all(wait <= door.most_s + 2 * TICK_S for wait in waits)


def test_after_a_refusal_one_launch_tries_it_and_more_follow_a_success():
    policy = fixed(spot=DoorPolicy(first_s=300.0, most_s=3600.0))
    state, actions, _ = policy.step(policy.start(), Wanted(4), 0.0)
    assert actions.count(Launch("g@a1", "spot")) == 1
    state, _, _ = policy.step(state, NotObtained("g@a1", "spot"), 60.0)
    state, actions, _ = policy.step(state, Wanted(4), 120.0)
    assert Launch("g@a1", "spot") not in actions  # closed until 360
    state, actions, _ = policy.step(state, Wanted(4), 360.0)
    assert actions.count(Launch("g@a1", "spot")) == 1
    state, actions, _ = policy.step(state, Wanted(4), 420.0)
    assert Launch("g@a1", "spot") not in actions  # the first is not answered yet
    state, _, _ = policy.step(state, Obtained("i1", "g@a1", "spot"), 420.0)
    _, actions, _ = policy.step(state, Wanted(4), 480.0)
    assert actions.count(Launch("g@a1", "spot")) == 2


def test_spot_returns_and_on_demand_leaves_after_the_hold():
    policy = fixed(hold_s=900.0)
    state, actions, reasons = policy.step(policy.start(), Wanted(1), 0.0)
    assert set(actions) == {Launch("g@a1", "spot"), Launch("g@a1", "on_demand")}
    assert any("1 are lacking beside 0 of spot" in reason for reason in reasons)
    for event in (
        Obtained("d1", "g@a1", "on_demand"),
        Obtained("s1", "g@a1", "spot"),
        Ready("d1"),
        Ready("s1"),
    ):
        state, _, _ = policy.step(state, event, 60.0)
    state, actions, _ = policy.step(state, Wanted(1), 900.0)
    assert actions == ()
    _, actions, _ = policy.step(state, Wanted(1), 960.0)
    assert actions == (Stop("d1"),)


def test_a_zone_that_takes_back_is_believed_to_be_risky_and_one_bunch_is_one_event():
    policy = fixed(prior_h=24.0, half_life_h=1e6)
    state = policy.start()
    for name in ("s1", "s2", "s3"):
        state, _, _ = policy.step(state, Obtained(name, "g@a1", "spot"), 0.0)
    for hour in range(11):
        state, _, _ = policy.step(state, Wanted(3), hour * 3600.0)
    assert policy.hazard_per_h(state, "g@a1", 36000.0) == 0
    for name, at_s in (("s1", 36000.0), ("s2", 36060.0), ("s3", 36120.0)):
        state, _, _ = policy.step(state, Lost(name), at_s)
    # One event in ten hours of watching, and 24 of a prior of none; evidence has faded a little.
    assert policy.hazard_per_h(state, "g@a1", 36120.0) == pytest.approx(1 / (24 + 10), rel=0.05)


def test_a_cheaper_market_is_preferred_until_its_losses_cost_more():
    policy = Blend(
        markets=(market("g@a1", spot=300_000), market("g@b1", spot=310_000)),
        policy=BlendPolicy(extra_most=0, prior_per_h=0.01, move_share=None, interruption_h=1.0),
    )
    state, actions, _ = policy.step(policy.start(), Wanted(1), 0.0)
    assert Launch("g@a1", "spot") in actions
    state, _, _ = policy.step(state, Obtained("s1", "g@a1", "spot"), 0.0)
    state, _, _ = policy.step(state, Lost("s1"), 3600.0)
    _, actions, _ = policy.step(state, Wanted(1), 36000.0)
    assert Launch("g@b1", "spot") in actions


def test_what_serves_moves_where_it_costs_a_third_less_and_not_for_a_sixth():
    """A start is paid twice, and a launch where none was had yet may be refused; then it is cheaper for as long as it
    lasts.
    """
    policy = Blend(markets=(market("g@a1", spot=350_000),), policy=BlendPolicy(extra_most=0))
    state = policy.start()
    for event in (Obtained("s1", "g@a1", "spot"), Ready("s1"), Priced(market("g@b1", spot=300_000))):
        state, _, _ = policy.step(state, event, 0.0)
    _, actions, _ = policy.step(state, Wanted(1), 60.0)
    assert actions == ()
    state, _, _ = policy.step(state, Priced(market("g@b1", spot=240_000)), 60.0)
    state, actions, reasons = policy.step(state, Wanted(1), 60.0)
    assert actions == (Launch("g@b1", "spot"),)
    assert any("would cost less there" in reason for reason in reasons)
    for event in (Obtained("s2", "g@b1", "spot"), Ready("s2")):
        state, _, _ = policy.step(state, event, 300.0)
    _, actions, _ = policy.step(state, Wanted(1), 300.0)
    assert actions == (Stop("s1"),)


def test_spot_that_costs_as_much_as_on_demand_is_not_rented():
    policy = Blend(markets=(market(spot=1_000_000),))
    _, actions, _ = policy.step(policy.start(), Wanted(2), 0.0)
    assert actions == (Launch("g@a1", "on_demand"),) * 2
    state, _, _ = policy.step(policy.start(), Priced(market(spot=100_000)), 0.0)
    _, actions, _ = policy.step(state, Wanted(2), 0.0)
    assert Launch("g@a1", "spot") in actions


def test_a_setting_out_of_range_is_named():
    with pytest.raises(ValueError, match="hold_s is -1"):
        BlendPolicy(hold_s=-1)
    with pytest.raises(ValueError, match="first_s"):
        DoorPolicy(first_s=10, most_s=5)
    with pytest.raises(ValueError, match="-1 instances"):
        Wanted(-1)
