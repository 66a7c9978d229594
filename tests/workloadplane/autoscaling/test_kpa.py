"""The KPA algorithm on cases worked out by hand: (time, ready, stable load, panic load) -> wanted."""

import pytest

from workloadplane.autoscaling.kpa import KpaPolicy, KpaState, kpa

TEN = KpaPolicy(target=10, scale_up_rate=10, scale_down_rate=10)
ONE = KpaPolicy(target=1, scale_up_rate=10, scale_down_rate=10)

CASES = {
    "nothing to do is zero": (TEN, [(0, 1, 0, 0, 0)]),
    "the stable window is rounded up": (TEN, [(0, 1, 41, 41, 5)]),
    "a rise above twice the ready ones is a panic": (TEN, [(0, 1, 50, 100, 10)]),
    "a panic never falls, and ends a window after its last cause": (
        TEN,
        [(0, 1, 100, 100, 10), (0, 10, 100, 1000, 100), (30, 10, 1, 1, 100), (61, 10, 1, 1, 1)],
    ),
    "a panic is prolonged by another cause": (
        ONE,
        [(0, 10, 11, 25, 25), (30, 40, 30, 80, 80), (62, 80, 9, 9, 80)],
    ),
    "the way up is bounded by a factor": (TEN, [(0, 1, 1000, 1001, 10), (0, 10, 1000, 1001, 100)]),
    "the way down is bounded by a factor": (TEN, [(0, 100, 1, 1, 10), (0, 10, 1, 1, 1)]),
    "none ready counts as one": (TEN, [(0, 0, 1000, 888, 10)]),
    "the higher window wins in a panic": (ONE, [(0, 5, 20, 30, 30)]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_count_wanted(name: str) -> None:
    """Each case is one rule of the algorithm."""
    policy, steps = CASES[name]
    state = KpaState()
    for now, ready, stable, panic, wanted in steps:
        count, state = kpa(stable=stable, panic=panic, ready=ready, state=state, policy=policy, now=now)
        assert count == wanted, f"at {now} s"


def test_the_delay_keeps_the_highest_count_of_its_time() -> None:
    """Every lower count waits until the higher ones before it are old enough."""
    policy = KpaPolicy(target=10, scale_up_rate=10, scale_down_rate=10, panic_threshold=100, delay_s=300)
    state = KpaState()
    counts = []
    for now, load in [(540, 40), (600, 30), (660, 0), (840, 0), (899, 0), (900, 0)]:
        count, state = kpa(stable=load, panic=load, ready=0, state=state, policy=policy, now=now)
        counts.append(count)
    assert counts == [4, 4, 4, 3, 3, 0]


def test_without_traffic_routed_there_is_no_bound_on_the_way_down() -> None:
    """Unreachable replicas are let go at once."""
    slow = KpaPolicy(target=10, scale_down_rate=1.1)
    bounded, _ = kpa(stable=1, panic=1, ready=100, state=KpaState(), policy=slow, now=0)
    unbounded, _ = kpa(stable=1, panic=1, ready=100, state=KpaState(), policy=slow, now=0, reachable=False)
    assert (bounded, unbounded) == (90, 1)
