"""Where requests go: exact against brute force, and the plain cases by hand."""

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import Latency
from controlplane.placement.rules.traffic import traffic, transported
from tests.controlplane.placement.rules.test_cost import demand
from tests.controlplane.placement.worlds import problem, wanted
from tests.support.examples import examples


def _cheapest(loads: list[int], room: list[int], costs: list[list[int]]) -> float:
    """By trying every way to hand out whole units; unit costs make an integral optimum the optimum."""

    def ways(load: int, left: tuple[int, ...]):
        for split in product(*(range(min(load, most) + 1) for most in left)):
            if sum(split) == load:
                yield split

    def best(index: int, left: tuple[int, ...]) -> float:
        if index == len(loads):
            return 0.0
        return min(
            (
                sum(part * costs[index][j] for j, part in enumerate(split))
                + best(index + 1, tuple(a - b for a, b in zip(left, split, strict=True)))
                for split in ways(loads[index], left)
            ),
            default=float("inf"),
        )

    return best(0, tuple(room))


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_traffic_costs_the_least_that_it_can(data: st.DataObject) -> None:
    """Against brute force over whole units, with just enough room or more."""
    targets = data.draw(st.integers(1, 3))
    loads = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    room = data.draw(st.lists(st.integers(0, 6), min_size=targets, max_size=targets))
    room[0] += max(0, sum(loads) - sum(room))
    unit = data.draw(
        st.lists(
            st.lists(st.integers(0, 9), min_size=targets, max_size=targets),
            min_size=len(loads),
            max_size=len(loads),
        )
    )
    whole = [[cost * load for cost in row] for row, load in zip(unit, loads, strict=True)]
    found = transported([float(load) for load in loads], [float(one) for one in room], whole)
    for row in found:
        assert sum(row) == pytest.approx(1)
    for target in range(targets):
        sent = sum(row[target] * load for row, load in zip(found, loads, strict=True))
        assert sent <= room[target] + 1e-6
    price = sum(
        part * cost
        for parts, row in zip(found, whole, strict=True)
        for part, cost in zip(parts, row, strict=True)
    )
    assert price == pytest.approx(_cheapest(loads, room, unit))


def test_each_origin_goes_to_its_nearest_cluster_until_that_is_full() -> None:
    """Paris and Rome are near eu, which takes three quarters of the demand: the one that loses less goes to us."""
    world = problem(
        wanted(),
        demands=(demand("paris"), demand("rome")),
        latencies=(
            Latency(origin_region="paris", target_region="eu", rtt_ms=120),
            Latency(origin_region="paris", target_region="us", rtt_ms=200),
            Latency(origin_region="rome", target_region="eu", rtt_ms=120),
            Latency(origin_region="rome", target_region="us", rtt_ms=260),
        ),
    )
    shares = {
        (one.origin_region, one.cluster_id): one.share
        for one in traffic(world, world.deployments[0], {"c-eu": 0.75, "c-us": 1.0})
    }
    assert shares == {("paris", "c-eu"): 0.5, ("paris", "c-us"): 0.5, ("rome", "c-eu"): 1.0}


def test_where_nothing_is_known_of_capacity_the_nearest_takes_all() -> None:
    """Without profiles no cluster has a part; within what is free the nearer one is still the better one."""
    world = problem(
        wanted(),
        demands=(demand("paris"),),
        latencies=(
            Latency(origin_region="paris", target_region="eu", rtt_ms=15),
            Latency(origin_region="paris", target_region="us", rtt_ms=80),
        ),
    )
    (share,) = traffic(world, world.deployments[0], {"c-us": 0.0, "c-eu": 0.0})
    assert (share.cluster_id, share.share) == ("c-eu", 1.0)


def test_capacity_that_is_short_is_used_in_proportion() -> None:
    """Half the demand fits: everything is sent all the same, to where the replicas are."""
    world = problem(wanted(), demands=(demand("paris"),))
    shares = {
        one.cluster_id: one.share for one in traffic(world, world.deployments[0], {"c-eu": 0.1, "c-us": 0.3})
    }
    assert shares == pytest.approx({"c-eu": 0.25, "c-us": 0.75})


def test_every_origin_goes_somewhere_however_large_the_sums() -> None:
    """At 10^9 micro-USD/h a difference of sums that are equal is more than nothing, by rounding alone."""
    for seed in range(300):
        rng = Random(seed)
        loads = [rng.random() for _ in range(4)]
        loads = [load / sum(loads) for load in loads]
        room = [rng.random() for _ in range(3)]
        room = [1.001 * one / sum(room) for one in room]
        costs = [[rng.uniform(1e7, 1e9) for _ in room] for _ in loads]
        flow = transported(loads, room, costs)
        assert all(sum(parts) == pytest.approx(1) for parts in flow)
        for number, most in enumerate(room):
            assert sum(load * parts[number] for load, parts in zip(loads, flow, strict=True)) <= most + 1e-6


def test_every_origin_goes_somewhere_among_costs_that_are_nearly_equal() -> None:
    """Two clusters that are as good for three origins; the fourth finds its way all the same."""
    flow = transported(
        [0.5919799407890762, 0.056861821038003746, 0.2618621231345538, 0.08929611503836628],
        [0.45798682859041756, 0.581068213401003],
        [
            [183155.91674002178, 183155.91665762177],
            [20109.12448937801, 20109.12460257801],
            [117741.6668808186, 117741.66676201859],
            [40446.974480800985, 8988.216676355774],
        ],
    )
    assert [sum(parts) for parts in flow] == pytest.approx([1, 1, 1, 1])
