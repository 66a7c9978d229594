"""The fluid mode on series whose answer is known, and the bound that no schedule may beat."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from controlplane.simulation.serving import LoadSeries, play
from controlplane.simulation.serving.clairvoyant import clairvoyant
from controlplane.simulation.serving.series import series_of
from workloadplane.autoscaling import AutoscalingPolicy, PolicyKind, PolicyScaler, Seen


@dataclass
class Scheduled:
    """Counts by time: the last one whose time has come."""

    counts: dict[float, int]

    @dataclass(frozen=True)
    class Answer:
        replicas: int

    def step(self, seen: Seen) -> "Scheduled.Answer":
        return self.Answer([count for at, count in self.counts.items() if at <= seen.now][-1])


def steady(load: float, bins: int, bin_s: float = 5.0) -> LoadSeries:
    """``load`` replicas' worth, ten requests in each bin."""
    return LoadSeries(bin_s=bin_s, requests=np.full(bins, 10.0), work_s=np.full(bins, load * bin_s))


def test_enough_replicas_keep_nobody_waiting() -> None:
    """Three replicas serve a load of 2.5; an hour of them costs three replica-hours."""
    outcome = play(
        steady(2.5, 720),
        Scheduled({0: 3}),
        cold_start_s=60,
        wait_slo_s=5,
        decide_every_s=10,
        first_replicas=3,
    )
    assert outcome.within_slo == 1.0
    assert outcome.replica_hours == pytest.approx(3.0)
    assert outcome.launches == 0


def test_a_queue_grows_until_the_launched_replica_is_ready() -> None:
    """A load of 2 on one replica: late after the SLO's five seconds, until what was launched at once has drained it."""
    outcome = play(
        steady(2.0, 120),
        Scheduled({0: 1, 10: 4}),
        cold_start_s=50,
        wait_slo_s=5,
        decide_every_s=10,
        first_replicas=1,
    )
    late = np.flatnonzero(outcome.late > 0)
    # the queue grows by a second of work a second: after ten seconds, a wait of ten on one replica
    assert late[0] <= 2
    # ready at 60 s with 60 s of work waiting, drained at two a second: nobody is late after 90 s
    assert 60 / 5 - 1 <= late[-1] <= 95 / 5
    assert outcome.launches == 3
    assert outcome.ready[11] == 1
    assert outcome.ready[12] == 4
    assert outcome.starting[2:12].tolist() == [3.0] * 10


def test_what_was_launched_last_is_ended_first() -> None:
    """A count that falls while replicas start takes those, and is paid for them only until then."""
    outcome = play(
        steady(0.5, 60),
        Scheduled({0: 2, 10: 5, 30: 1}),
        cold_start_s=100,
        wait_slo_s=5,
        decide_every_s=10,
        first_replicas=2,
    )
    assert outcome.starting[2:6].tolist() == [3.0] * 4
    assert outcome.ready[6:].tolist() == [1.0] * 54
    assert outcome.figures((30, 300)).replica_hours == pytest.approx(270 / 3600)


def test_the_production_policies_run_and_keep_a_steady_load() -> None:
    """Both policies end an hour of a steady load with what it needs and nobody late."""
    kinds: tuple[PolicyKind, ...] = ("predictive", "kpa")
    for kind in kinds:
        policy = AutoscalingPolicy(
            kind=kind,
            min_replicas=1,
            max_replicas=20,
            autoscaling_window_s=60,
            scale_down_delay_s=0,
            concurrency_target=4,
        )
        outcome = play(
            steady(6.5, 2880),
            PolicyScaler(policy, replicas=8, now=0.0),
            cold_start_s=60,
            wait_slo_s=5,
            decide_every_s=10,
            first_replicas=8,
            concurrency_target=4,
        )
        assert outcome.within_slo == 1.0
        assert outcome.ready[-1] == 7


def test_bad_series_are_refused_with_a_reason() -> None:
    """Unequal lengths, empty ones, NaN, negative numbers and bins of no width."""
    good = np.ones(3)
    for requests, work_s, bin_s in (
        (good, np.ones(2), 5.0),
        (np.ones(0), np.ones(0), 5.0),
        (good, np.array([1.0, math.nan, 1.0]), 5.0),
        (np.array([1.0, -1.0, 1.0]), good, 5.0),
        (good, good, 0.0),
    ):
        with pytest.raises(ValueError, match="give"):
            LoadSeries(bin_s=bin_s, requests=requests, work_s=work_s)


def test_single_requests_become_bins() -> None:
    """Each request counts in the bin in which it arrived."""
    series = series_of(np.array([0.0, 4.9, 5.0, 12.0]), np.array([1.0, 2.0, 3.0, 4.0]), bin_s=5.0, end_s=20.0)
    assert series.requests.tolist() == [2, 1, 1, 0]
    assert series.work_s.tolist() == [3, 3, 4, 0]


def test_the_bound_of_a_steady_load_is_the_load() -> None:
    """A load of exactly three replicas needs three, whoever plans it."""
    bound = clairvoyant(steady(3.0, 240), cold_start_s=60, slo_attainment=0.999)
    assert 2.95 / 3 <= bound.replica_hours <= 3.0 / 3


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    """Without late requests, the cheaper of keeping replicas through a gap and of starting them anew."""
    busy, short, long = np.full(30, 10.0), np.full(6, 0.0), np.full(60, 0.0)
    cold_start_s = 120.0
    costs = []
    for gap in (short, long):
        load = np.concatenate((busy, gap, busy))
        series = LoadSeries(bin_s=5.0, requests=np.full(load.size, 10.0), work_s=load * 5.0)
        bound = clairvoyant(series, cold_start_s=cold_start_s, slo_attainment=0.9999)
        costs.append(bound.replica_hours * 3600 - 10 * 300)
    # the last bin's work may wait beyond the end: 50 replica-seconds that the bound need not pay
    assert costs[0] == pytest.approx(10 * 30 - 50, abs=15)
    assert costs[1] == pytest.approx(10 * 120 - 50, abs=15)


def test_no_static_count_that_keeps_the_slo_is_cheaper_than_the_bound() -> None:
    """Random load: the fewest replicas that keep 99 % inside the SLO cost at least the bound."""
    rng = np.random.default_rng(3)
    load = 6.0 + 3.0 * np.sin(np.arange(240) / 20.0) + rng.normal(0.0, 1.0, 240)
    series = LoadSeries(bin_s=5.0, requests=np.full(240, 50.0), work_s=np.maximum(load, 0.0) * 5.0)
    bound = clairvoyant(series, cold_start_s=60, slo_attainment=0.99)
    for count in range(5, 14):
        outcome = play(
            series,
            Scheduled({0: count}),
            cold_start_s=0,
            wait_slo_s=5,
            decide_every_s=3600,
            first_replicas=count,
        )
        if outcome.within_slo >= 0.99:
            assert outcome.replica_hours >= bound.replica_hours
            break
    else:
        pytest.fail("no count keeps the SLO")
