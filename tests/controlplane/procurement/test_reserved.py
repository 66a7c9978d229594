"""The number to reserve is the cheapest one, against what is truly to be had instead."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.procurement import Alternative, DemandSample, OutlookPolicy, outlook, plan_cost, reserve

samples = st.lists(
    st.builds(DemandSample, instances=st.floats(0, 30), weight=st.floats(0.1, 3)), min_size=1, max_size=30
)
alternatives = st.builds(
    Alternative,
    on_demand_micro_usd_per_h=st.floats(1, 100),
    spot_micro_usd_per_h=st.none() | st.floats(1, 100),
    spot_instances=st.integers(0, 20).map(float),
    spot_share=st.floats(0, 1),
)


@settings(max_examples=40, deadline=None)
@given(samples, alternatives, st.floats(0, 120))
def test_no_other_number_is_cheaper(demand, alternative, price):
    plan = reserve(demand, alternative, reserved_micro_usd_per_h=price)
    costs = [plan_cost(demand, alternative, n, reserved_micro_usd_per_h=price) for n in range(33)]
    assert plan.micro_usd_per_h == pytest.approx(costs[plan.instances])
    assert costs[plan.instances] <= min(costs) * (1 + 1e-9) + 1e-6


def test_against_on_demand_alone_it_is_the_newsvendors_quantile():
    demand = [DemandSample(instances=n) for n in range(1, 101)]
    alternative = Alternative(on_demand_micro_usd_per_h=100.0)
    # The 61st instance is used for 40 % of the time: not worth 60 % of on demand's price. So is the 41st: 60 %.
    plan = reserve(demand, alternative, reserved_micro_usd_per_h=60.0)
    assert plan.instances == 40
    assert plan.next_use_share == pytest.approx(0.6)


def test_where_spot_serves_the_peaks_fewer_are_reserved():
    demand = [DemandSample(instances=n) for n in range(1, 101)]
    listed = Alternative(on_demand_micro_usd_per_h=100.0)
    mixed = Alternative(
        on_demand_micro_usd_per_h=100.0, spot_micro_usd_per_h=30.0, spot_instances=30, spot_share=0.8
    )
    alone = reserve(demand, listed, reserved_micro_usd_per_h=60.0).instances
    beside = reserve(demand, mixed, reserved_micro_usd_per_h=60.0).instances
    assert beside < alone
    cheap = Alternative(on_demand_micro_usd_per_h=None, spot_micro_usd_per_h=30.0, spot_instances=1e6)
    assert reserve(demand, cheap, reserved_micro_usd_per_h=60.0).instances == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="nothing is rented"):
        Alternative(on_demand_micro_usd_per_h=None)
    with pytest.raises(ValueError, match="no demand is known"):
        reserve([], Alternative(on_demand_micro_usd_per_h=1.0), reserved_micro_usd_per_h=1.0)
    with pytest.raises(ValueError, match="weight"):
        DemandSample(instances=math.nan)
    with pytest.raises(ValueError, match="no hour"):
        outlook([], term_h=24)
    with pytest.raises(ValueError, match="damping"):
        OutlookPolicy(damping=2)


def _mean(found: tuple[DemandSample, ...]) -> float:
    return sum(s.instances * s.weight for s in found) / sum(s.weight for s in found)


def test_the_outlook_goes_on_with_part_of_a_trend():
    flat = [4 + 2 * math.sin(hour * math.tau / 24) for hour in range(4 * 168)]
    rising = [value * 1.1 ** (hour / 168) for hour, value in enumerate(flat)]
    policy = OutlookPolicy(spread=0.0)
    assert _mean(outlook(flat, term_h=168, policy=policy)) == pytest.approx(4, rel=0.01)
    last_week = sum(rising[-168:]) / 168
    half = _mean(outlook(rising, term_h=168, policy=policy)) / last_week
    assert 1.0 < half < 1.1
    assert (
        max(s.instances for s in outlook(rising, term_h=168 * 500, policy=policy)) <= max(rising) * 1.5 + 1e-9
    )


def test_hours_that_are_no_whole_day_do_not_count_twice():
    day = [0.0] * 12 + [10.0] * 12
    found = outlook([*day[-6:], *day, *day], term_h=24, policy=OutlookPolicy(spread=0.0, half_life_h=1e9))
    assert _mean(found) == pytest.approx(5.0)
