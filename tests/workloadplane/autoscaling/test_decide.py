"""What the five factors promise, by Knative's algorithm."""

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from workloadplane.autoscaling import AutoscalingPolicy, LoadHistory, decide, first_state, record
from workloadplane.autoscaling.history import MAX_SLOTS


def policy(**changes: Any) -> AutoscalingPolicy:
    factors: dict[str, Any] = {
        "kind": "kpa",
        "min_replicas": 1,
        "max_replicas": 10,
        "autoscaling_window_s": 60.0,
        "scale_down_delay_s": 0.0,
        "concurrency_target": 8.0,
    }
    return AutoscalingPolicy(**{**factors, **changes})


def run(policy: AutoscalingPolicy, loads: list[tuple[float, float | None]], *, alive: int = 0) -> list[int]:
    """Counts decided at each (time, load), every replica being ready at once; None: nothing was reported."""
    history = LoadHistory(window_s=policy.autoscaling_window_s)
    state = first_state(replicas=alive, now=loads[0][0])
    counts = []
    for now, load in loads:
        if load is not None:
            history = record(history, now=now, concurrency=load)
        plan = decide(history, state, policy, now=now, ready_replicas=state.replicas)
        state = plan.state
        assert plan.reasons
        counts.append(plan.replicas)
    return counts


def every_two_seconds(load: float | None, seconds: int, begin: int = 0) -> list[tuple[float, float | None]]:
    return [(float(now), load) for now in range(begin, begin + seconds, 2)]


def test_replicas_follow_the_concurrency_target() -> None:
    """33 requests at hand with a target of 8 want five replicas."""
    assert run(policy(), every_two_seconds(33, 120))[-1] == 5


def test_a_waiting_request_wakes_from_zero_at_once() -> None:
    """The first observation of somebody waiting is enough."""
    counts = run(policy(min_replicas=0), [*every_two_seconds(0, 200), (200.0, 1)])
    assert counts[-2:] == [0, 1]


def test_the_last_replica_goes_after_window_delay_and_grace() -> None:
    """Idle for the window, then the delay, then the grace: not sooner, and then it goes."""
    factors = policy(min_replicas=0, scale_down_delay_s=30)
    counts = run(factors, [*every_two_seconds(4, 120), *every_two_seconds(0, 120, 120)])
    idle = counts[60:]
    first_zero = idle.index(0) * 2
    assert 60 + 30 + 10 - 4 <= first_zero <= 60 + 30 + 10 + 4
    assert set(idle[idle.index(0) :]) == {0}


def test_scale_down_waits_for_its_delay() -> None:
    """The highest count of the last scale_down_delay_s stands; each halving waits for it anew."""
    factors = policy(scale_down_delay_s=100)
    counts = run(factors, [*every_two_seconds(40, 80), *every_two_seconds(8, 320, 80)])
    assert counts[39] == 5
    assert counts[39 + 50] == 5
    assert counts[-1] == 1


def test_missing_load_scales_nothing_down() -> None:
    """No report for minutes: the count stands, as long as the bounds allow it."""
    counts = run(policy(min_replicas=0), [*every_two_seconds(40, 120), *every_two_seconds(None, 600, 120)])
    assert set(counts[60:]) == {5}


def test_nonsense_load_is_no_load() -> None:
    """NaN, infinities and negative numbers neither scale up nor down."""
    for nonsense in (math.nan, math.inf, -math.inf, -1.0):
        counts = run(policy(), [*every_two_seconds(40, 120), *every_two_seconds(nonsense, 60, 120)])
        assert set(counts[60:]) == {5}


def test_a_restart_neither_panics_nor_forgets() -> None:
    """With an empty history the adopted replicas stay for a window, whatever the first moments say."""
    counts = run(policy(min_replicas=0), every_two_seconds(8, 58), alive=6)
    assert set(counts) == {6}


@settings(deadline=None)
@given(
    loads=st.lists(
        st.one_of(st.none(), st.floats(0, 1e6), st.floats(allow_nan=True)), min_size=1, max_size=80
    ),
    minimum=st.integers(0, 5),
    extra=st.integers(0, 20),
    window_s=st.sampled_from([1.0, 60.0, 600.0]),
    alive=st.integers(0, 40),
)
def test_never_outside_the_bounds(
    loads: list[float | None], minimum: int, extra: int, window_s: float, alive: int
) -> None:
    """Whatever is reported, the count is inside [min_replicas, max_replicas]."""
    factors = policy(min_replicas=minimum, max_replicas=minimum + extra, autoscaling_window_s=window_s)
    steps = [(2.0 * index, load) for index, load in enumerate(loads)]
    assert all(minimum <= count <= minimum + extra for count in run(factors, steps, alive=alive))


def test_history_is_bounded() -> None:
    """A week of reports with an hour's window keeps a bounded number of slots."""
    history = LoadHistory(window_s=3600.0)
    for second in range(0, 20_000, 2):
        history = record(history, now=float(second), concurrency=1.0)
    assert len(history.slots) <= MAX_SLOTS + 1
    assert history.average(now=19_998.0, over_s=3600.0) == 1.0
