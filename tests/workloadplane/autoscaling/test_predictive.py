"""The predictive policy: what it foresees, what it never does."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from workloadplane.autoscaling import (
    AutoscalingPolicy,
    LoadHistory,
    PolicyScaler,
    Seen,
    SloSeen,
    WorkSeen,
    decide,
    first_state,
)
from workloadplane.autoscaling.forecast import BURST_SLOTS, MAX_PENDING
from workloadplane.autoscaling.season import SLOTS

STEP_S = 10.0


def policy(**changes: Any) -> AutoscalingPolicy:
    factors: dict[str, Any] = {
        "min_replicas": 1,
        "max_replicas": 50,
        "autoscaling_window_s": 60.0,
        "scale_down_delay_s": 0.0,
        "concurrency_target": 8.0,
    }
    return AutoscalingPolicy(**{**factors, **changes})


def seen(now: float, load: float | None, ready: int, **more: Any) -> Seen:
    """``load`` in replicas, as work that arrived in the last ten seconds; None: nobody can tell."""
    work = None if load is None else WorkSeen(arrived_s=load * STEP_S, over_s=STEP_S)
    concurrency = None if load is None else load * 8.0
    return Seen(now=now, ready=ready, work=work, concurrency=concurrency, **{"cold_start_s": 120.0, **more})


def waiting(now: float, load: float, waiting_s: float) -> Seen:
    """A look after two seconds at two replicas of a short cold start, before which so much work waits."""
    work = WorkSeen(arrived_s=2.0 * load, over_s=2.0, waiting_s=waiting_s)
    return Seen(now=now, ready=2, work=work, concurrency=8.0 * load, cold_start_s=10.0)


def run(policy: AutoscalingPolicy, loads: Sequence[float | None], *, alive: int = 0) -> list[int]:
    """Counts decided for loads ten seconds apart, every replica being ready at once."""
    scaler, count, counts = PolicyScaler(policy, replicas=alive, now=0.0), alive, []
    for index, load in enumerate(loads):
        plan = scaler.step(seen(index * STEP_S, load, count))
        assert plan.reasons
        count = plan.replicas
        counts.append(count)
    return counts


class Liquid(NamedTuple):
    """At the end of a step: the count wanted, and how long the last of the queue waits."""

    wanted: int
    waits_s: float


def poured(
    factors: AutoscalingPolicy, loads: Sequence[float], *, ready: int, cold_start_s: float
) -> list[Liquid]:
    """Loads ten seconds apart, in replicas, against replicas that serve a cold start after they were wanted."""
    scaler, due, queue_s, seconds = PolicyScaler(factors, replicas=ready, now=0.0), list[float](), 0.0, []
    for index, load in enumerate(loads, 1):
        now = index * STEP_S
        ready += sum(at <= now for at in due)
        due = [at for at in due if at > now]
        queue_s = max(0.0, queue_s + (load - ready) * STEP_S)
        late = 100.0 if queue_s > 5.0 * ready else 0.0
        wanted = scaler.step(
            Seen(
                now=now,
                ready=ready,
                starting=len(due),
                work=WorkSeen(arrived_s=load * STEP_S, over_s=STEP_S, waiting_s=queue_s),
                slo=SloSeen(inside=100.0 - late, outside=late),
                cold_start_s=cold_start_s,
            )
        ).replicas
        due += [now + cold_start_s] * (wanted - ready - len(due))
        due = due[: max(0, wanted - ready)]
        ready = min(ready, wanted)
        seconds.append(Liquid(wanted, queue_s / max(1, ready)))
    return seconds


def test_a_steady_load_gets_its_replicas_and_little_head_room() -> None:
    """Once the errors are known to be none, head-room shrinks to nothing."""
    counts = run(policy(), [9.5] * 2000, alive=10)
    assert counts[0] >= 10
    assert counts[-1] == 10


def test_a_rise_is_met_before_it_comes() -> None:
    """A load that climbs by a replica in two minutes has more replicas than load at every moment."""
    loads = [5.0] * 360 + [5.0 + index / 12.0 for index in range(240)]
    counts = run(policy(), loads, alive=6)
    late = [count for count, load in zip(counts[420:], loads[420:], strict=True) if count < load]
    assert not late


def test_noise_gets_more_head_room_than_calm() -> None:
    """Alternating between 4 and 16 wants more than 10 all the time."""
    noisy = run(policy(), [4.0, 16.0] * 600, alive=10)
    calm = run(policy(), [10.0] * 1200, alive=10)
    assert noisy[-1] > calm[-1] + 2


def test_a_jump_is_answered_at_once_and_held_for_a_while() -> None:
    """What jumps is wanted within a minute, and stays for a quarter of an hour: what dips often comes back."""
    counts = run(policy(), [3.0] * 120 + [30.0] * 30 + [3.0] * 180, alive=4)
    assert counts[126] > 10
    assert min(counts[150:235]) >= 30
    assert counts[-1] < 10


def test_what_only_the_forecast_wanted_goes_sooner_than_what_the_load_needed() -> None:
    """A rise that ends was believed to go on; that is over in eight minutes, not in a quarter of an hour."""
    loads = [4.0] * 120 + [4.0 + step for step in range(1, 13)] + [16.0] * 90
    counts = run(policy(), loads, alive=5)
    most = max(counts)
    assert most >= 20
    assert counts[132 + 40] == most
    assert 16 <= counts[132 + 70] < most


def test_a_level_is_steady_while_the_load_is_and_moves_with_it() -> None:
    """Noise of a fifth moves the quick level more than the steady one; a jump moves both within two minutes."""
    scaler = PolicyScaler(policy(), replicas=12, now=0.0)
    levels = []
    for index in range(400):
        load = (10.0 if index < 388 else 20.0) + 2.0 * math.sin(1.7 * index) + 2.0 * math.sin(0.6 * index)
        scaler.step(seen(index * STEP_S, load, 12))
        forecast = scaler.state.predictive.forecast
        levels.append((forecast.fast, forecast.level))
    fast, steady = (max(values) - min(values) for values in zip(*levels[200:380], strict=True))
    assert steady < 0.25 * fast
    assert levels[-1][1] > 16.0


def test_bursts_that_came_twice_leave_a_floor() -> None:
    """Between two bursts more is kept than the quiet load needs."""
    quiet, burst = [1.0] * 60, [12.0] * 3
    counts = run(policy(), [*quiet, *burst, *quiet, *burst, *quiet, *burst, *quiet], alive=2)
    assert counts[-1] >= 4


def test_misses_of_the_slo_raise_the_head_room_and_their_absence_lowers_it() -> None:
    """Integral feedback: twenty minutes with 5 % late requests raise it, hours with none take some of that back."""
    scaler = PolicyScaler(policy(), replicas=12, now=0.0)

    def after(outside: float, steps: range) -> float:
        for index in steps:
            load = 10.0 + 2.0 * (-1) ** index
            slo = SloSeen(inside=100.0 - outside, outside=outside)
            scaler.step(seen(index * STEP_S, load, 12, slo=slo))
        return scaler.state.predictive.feedback.correction

    raised = after(5.0, range(120))
    assert raised > 0.02
    assert 0.0 < after(0.0, range(120, 120 + 4_000)) < raised


@pytest.mark.parametrize(
    ("load", "cold_start_s", "slo_attainment", "told", "kept"),
    [
        (9.9, 180.0, 0.999, True, 11),
        (9.9, 180.0, 0.999, False, 11),
        (9.6, 180.0, 0.999, True, 10),
        (9.6, 480.0, 0.999, True, 11),
        (9.9, 180.0, 0.95, True, 10),
    ],
)
def test_a_calm_day_leaves_a_little_head_room_where_few_may_be_late(
    load: float, cold_start_s: float, slo_attainment: float, told: bool, kept: int
) -> None:
    """A day of one load, nobody late, or no word of it: 3 % stay for three minutes' cold start, 5 % for eight.

    Where one in twenty may be late nothing of it stays.
    """
    scaler = PolicyScaler(policy(slo_attainment=slo_attainment), replicas=12, now=0.0)
    work, slo = WorkSeen(arrived_s=60.0 * load, over_s=60.0), SloSeen(inside=600.0, outside=0.0)
    for minute in range(24 * 60):
        looked = Seen(
            now=60.0 * minute, ready=12, work=work, slo=slo if told else None, cold_start_s=cold_start_s
        )
        plan = scaler.step(looked)
    assert plan.replicas == kept


def test_a_queue_asks_for_more_until_it_is_drained() -> None:
    """Work that waits beyond what is there in time wants replicas of its own."""

    def counted(waiting_s: float) -> int:
        state = first_state(replicas=5, now=0.0)
        work = WorkSeen(arrived_s=50.0, over_s=10.0, waiting_s=waiting_s)
        plan = decide(
            LoadHistory(window_s=60.0),
            state,
            policy(),
            now=100.0,
            ready_replicas=5,
            work=work,
            cold_start_s=60.0,
        )
        return plan.replicas

    assert counted(600.0) >= counted(0.0) + 8


@pytest.mark.parametrize("utilisation", [0.5, 1.0, 1.5, 2.3, 10.0])
@pytest.mark.parametrize("cold_start_s", [20.0, 60.0, 180.0, 480.0])
def test_a_load_that_doubles_is_answered_whatever_utilisation_was_set(
    utilisation: float, cold_start_s: float
) -> None:
    """All that it lacks is wanted within three minutes, the queue is gone in time, and nothing comes several times."""
    before, after = [8.0] * 720, [16.0] * 360
    factors = policy(max_replicas=500, target_utilisation=utilisation)
    seconds = poured(factors, before + after, ready=11, cold_start_s=cold_start_s)
    assert max(second.waits_s for second in seconds[60:720]) <= 5.0
    answered = next(index for index, second in enumerate(seconds[720:]) if second.wanted >= 16)
    assert answered * STEP_S <= 180.0
    drained = int((2.0 * cold_start_s + 60.0) / STEP_S)
    assert max(second.waits_s for second in seconds[720 + drained :]) <= 5.0
    assert max(second.wanted for second in seconds[720:]) <= 3 * 16 / min(utilisation, 1.0)


def test_reasons_tell_that_the_mean_load_is_the_least() -> None:
    """A utilisation of 3 would want four replicas for a load of ten."""
    scaler = PolicyScaler(policy(target_utilisation=3.0), replicas=10, now=0.0)
    plan = [scaler.step(seen(index * STEP_S, 10.0, 10)) for index in range(600)][-1]
    assert plan.replicas == 10
    assert any("10.00 for the mean load" in reason for reason in plan.reasons)


def test_without_work_the_requests_at_hand_are_the_load() -> None:
    """33 requests at hand with a target of 8 are 4.1 replicas' load."""
    scaler, count = PolicyScaler(policy(), replicas=5, now=0.0), 5
    for index in range(1500):
        count = scaler.step(Seen(now=index * STEP_S, ready=count, concurrency=33.0)).replicas
    assert count == 5


def test_the_first_window_never_scales_down() -> None:
    """A restart with an empty past keeps what was adopted for a window."""
    assert set(run(policy(min_replicas=0), [0.5] * 6, alive=9)) == {9}


def test_idle_goes_to_zero_and_a_request_wakes_at_once() -> None:
    """After window and grace without load nothing is left; the first load wants one at the next look."""
    counts = run(policy(min_replicas=0), [2.0] * 60 + [0.0] * 120 + [0.1], alive=3)
    assert 0 in counts[60:80]
    assert counts[-2:] == [0, 1]


def test_each_further_wake_of_an_hour_stays_longer() -> None:
    """Wakes in a row keep the replica ever longer, so that nobody pays for a cold start every two minutes."""
    loads: list[float | None] = []
    for _ in range(4):
        loads += [0.2] + [0.0] * 90
    counts = run(policy(min_replicas=0), loads)
    stays = [sum(counts[start : start + 91]) for start in range(0, len(loads), 91)]
    assert stays == sorted(stays)
    assert stays[-1] > 2 * stays[0]


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0])
def test_nonsense_is_no_load(nonsense: float) -> None:
    """Work that is no finite number >= 0 neither scales up nor down."""
    counts = run(policy(min_replicas=0), [6.0] * 100 + [nonsense] * 100, alive=7)
    assert len(set(counts[100:])) == 1


def test_state_is_bounded_after_weeks() -> None:
    """What is remembered does not grow with time."""
    scaler = PolicyScaler(policy(), replicas=5, now=0.0)
    for index in range(3000):
        scaler.step(seen(index * 300.0, 5.0 + (index % 7), 5))
    forecast = scaler.state.predictive.forecast
    assert len(forecast.pending) <= MAX_PENDING
    assert len(forecast.bursts) <= BURST_SLOTS
    assert len(forecast.season.profile) == SLOTS
    assert len(scaler.state.predictive.wanted) <= policy().max_replicas


def test_the_course_of_the_day_is_believed_only_after_days_of_being_right() -> None:
    """A load that jumps every day at the same time is foreseen from the fourth day on, not before."""
    scaler = PolicyScaler(policy(), replicas=5, now=0.0)
    trusted = {}
    for index in range(6 * 1440):
        now = index * 60.0
        hour = now % 86_400.0 / 3600.0
        scaler.step(seen(now, 15.0 if 8.0 <= hour < 18.0 else 5.0, 20))
        if index % 1440 == 1439:
            trusted[index // 1440] = scaler.state.predictive.forecast.season.trusted
    assert not trusted[0]
    assert not trusted[1]
    assert trusted[5]


Loads = st.lists(st.one_of(st.none(), st.floats(0, 100), st.floats(allow_nan=True)), min_size=1, max_size=60)


@settings(deadline=None)
@given(loads=Loads, minimum=st.integers(0, 5), extra=st.integers(0, 20), alive=st.integers(0, 40))
def test_never_outside_the_bounds(loads: list[float | None], minimum: int, extra: int, alive: int) -> None:
    """Whatever is reported, the count is inside [min_replicas, max_replicas]."""
    factors = policy(min_replicas=minimum, max_replicas=minimum + extra)
    assert all(minimum <= count <= minimum + extra for count in run(factors, loads, alive=alive))


@settings(deadline=None)
@given(loads=Loads, alive=st.integers(0, 40), gap=st.integers(1, 100))
def test_missing_metrics_scale_nothing_down(loads: list[float | None], alive: int, gap: int) -> None:
    """However long nobody can tell the load, the count stands."""
    counts = run(policy(min_replicas=0), [*loads, *[None] * gap], alive=alive)
    assert set(counts[len(loads) :]) == {counts[len(loads) - 1]}


@settings(deadline=None)
@given(
    loads=st.lists(st.floats(0, 40), min_size=7, max_size=60),
    ready=st.integers(0, 30),
    starting=st.integers(1, 20),
)
def test_starting_replicas_are_not_cancelled_while_some_are_wanted(
    loads: list[float], ready: int, starting: int
) -> None:
    """The count is at most what is ready, or at least everything that there is."""
    scaler = PolicyScaler(policy(), replicas=ready + starting, now=0.0)
    plan = None
    for index, load in enumerate(loads):
        plan = scaler.step(seen(index * STEP_S, load, ready, starting=starting))
    assert plan is not None
    assert plan.replicas <= max(1, ready) or plan.replicas >= min(50, ready + starting)


@settings(deadline=None)
@given(loads=Loads, alive=st.integers(0, 40))
def test_the_same_past_decides_the_same(loads: list[float | None], alive: int) -> None:
    """No clock, no chance: two runs are equal, reasons and state too."""
    first, second = (PolicyScaler(policy(), replicas=alive, now=0.0) for _ in range(2))
    for index, load in enumerate(loads):
        one, other = (scaler.step(seen(index * STEP_S, load, alive)) for scaler in (first, second))
        assert repr(one) == repr(other)


@settings(deadline=None)
@given(
    loads=st.lists(st.floats(0, 40), min_size=1, max_size=40), last=st.floats(0, 40), more=st.floats(0, 40)
)
def test_more_load_now_never_wants_fewer(loads: list[float], last: float, more: float) -> None:
    """After the same past a higher load wants at least as many replicas."""
    scaler = PolicyScaler(policy(min_replicas=0), replicas=5, now=0.0)
    for index, load in enumerate(loads):
        scaler.step(seen(index * STEP_S, load, 5))
    state, now = scaler.state, len(loads) * STEP_S
    counts = []
    for load in (last, last + more):
        what = seen(now, load, 5)
        plan = decide(
            LoadHistory(window_s=60.0),
            replace(state),
            policy(min_replicas=0),
            now=now,
            ready_replicas=5,
            work=what.work,
            cold_start_s=120.0,
        )
        counts.append(plan.replicas)
    assert counts[0] <= counts[1]


def test_no_window_ends_more_than_half_also_on_the_way_to_zero() -> None:
    """Decisions every two seconds after a load is gone: eight, four, two, one and none, a window between each."""
    factors = policy(min_replicas=0, scale_down_rate=2.0)
    scaler, count, fell = PolicyScaler(factors, replicas=8, now=0.0), 8, []
    for index in range(1000):
        now = 2.0 * index
        before, count = count, scaler.step(seen(now, 7.0 if now < 100 else 0.0, count)).replicas
        if count < before:
            fell.append((now, before, count))
    assert count == 0
    assert all(after >= before // 2 for _, before, after in fell)
    halvings = [now for now, before, _ in fell if before <= 8]
    assert all(later - sooner >= 58 for sooner, later in pairwise(halvings))


def test_requests_that_wait_without_a_pause_are_answered_in_cold_starts_of_seconds() -> None:
    """A load that doubles for good: with a cold start of ten seconds all that it lacks is wanted within six."""
    scaler = PolicyScaler(policy(), replicas=2, now=0.0)
    for index in range(300):
        scaler.step(waiting(2.0 * index, 1.6, 0.0))
    counts = [scaler.step(waiting(600.0 + 2.0 * index, 3.6, 3.0 * index)).replicas for index in range(1, 4)]
    assert counts[-1] >= 4
    plan = scaler.step(waiting(608.0, 3.6, 40.0))
    assert any("without a pause" in reason for reason in plan.reasons)
    assert not any("without a pause" in reason for reason in scaler.step(waiting(610.0, 3.6, 0.0)).reasons)


def test_one_bad_day_is_one_lesson_and_the_rise_does_not_depend_on_how_often_one_looks() -> None:
    """Hours of nothing but misses raise the head-room by no more than 0.4 of the load."""

    def corrected(step_s: float, seconds: float) -> float:
        scaler = PolicyScaler(policy(), replicas=12, now=0.0)
        for index in range(int(seconds / step_s) + 1):
            slo = SloSeen(inside=0.0, outside=10.0 * step_s)
            work = WorkSeen(arrived_s=10.0 * step_s, over_s=step_s)
            scaler.step(Seen(now=index * step_s, ready=12, work=work, slo=slo, cold_start_s=120.0))
        return scaler.state.predictive.feedback.correction

    assert corrected(10.0, 100.0) == pytest.approx(0.0625, rel=0.01)
    assert corrected(2.0, 100.0) == pytest.approx(0.0625, rel=0.01)
    assert 0.4 <= corrected(10.0, 4 * 3600.0) < 0.5


def test_a_short_cold_start_is_answered_by_a_quicker_level() -> None:
    """The same jump is in the level sooner where a replica is soon there."""

    def level(cold_start_s: float) -> float:
        scaler = PolicyScaler(policy(), replicas=12, now=0.0)
        for index in range(200):
            scaler.step(seen(index * STEP_S, 5.0 if index < 198 else 10.0, 12, cold_start_s=cold_start_s))
        return scaler.state.predictive.forecast.fast

    assert level(15.0) > 9.0 > level(480.0)


def test_reasons_tell_the_load_of_now_beside_its_mean() -> None:
    """Right after a load has gone: none now, some in the mean."""
    scaler = PolicyScaler(policy(), replicas=6, now=0.0)
    for index in range(60):
        scaler.step(seen(index * STEP_S, 5.0, 6))
    told = scaler.step(seen(600.0, 0.0, 6)).reasons[0]
    assert told.startswith("0.00 replicas' worth of load now, ")
    assert ", 0.00 in the mean" not in told
