"""Work on spot instances is done by its deadline, whatever spot does."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.procurement.deadline import Looked, Progress, Work, expected_s, step

works = st.builds(
    Work,
    work_s=st.floats(600, 36_000),
    deadline_s=st.floats(600, 72_000),
    restart_s=st.floats(0, 600),
    look_s=st.floats(60, 300),
)


class Machine:
    """What a real machine would do with these answers, told apart from what the rule believes."""

    def __init__(self, work: Work) -> None:
        self.work, self.state, self.done_s, self.starting_s, self.now_s = work, Progress(), 0.0, 0.0, 0.0
        self.finished_s: float | None = None
        self.seconds = {"idle": 0.0, "spot": 0.0, "on_demand": 0.0}

    def look(self, spot: bool, for_s: float) -> str:
        before = self.state.place
        self.state, place, reason = step(self.work, self.state, Looked(spot), self.now_s)
        assert place != "spot" or spot
        if place not in ("idle", before) or (before == "spot" and not spot and place != "idle"):
            self.starting_s = self.work.restart_s
        if place != "idle":
            started_s = min(self.starting_s, for_s)
            self.starting_s -= started_s
            self.done_s += for_s - started_s
            if self.finished_s is None and self.done_s >= self.work.work_s:
                self.finished_s = self.now_s + for_s - (self.done_s - self.work.work_s)
        self.seconds[place] += for_s
        self.now_s += for_s
        return reason


@settings(max_examples=60, deadline=None)
@given(works.filter(lambda work: work.feasible), st.integers(0, 2**32), st.floats(0, 1))
def test_the_deadline_is_kept_whenever_it_can_be(work, seed, share):
    machine, spot, rng = Machine(work), False, Random(seed)
    while machine.state.done_s < work.work_s:
        assert machine.now_s <= work.deadline_s + work.look_s + 1e-6
        if rng.random() < 0.1:
            spot = rng.random() < share
        machine.look(spot, rng.uniform(work.look_s / 2, work.look_s))
        assert machine.state.done_s <= machine.done_s + 1e-6  # it never believes more than was done
    assert machine.finished_s is not None
    assert machine.finished_s <= work.deadline_s + 1e-6


def test_with_spot_all_the_time_nothing_runs_on_demand():
    work = Work(work_s=7200, deadline_s=10_800, restart_s=120)
    machine = Machine(work)
    while machine.state.done_s < work.work_s:
        machine.look(True, 60)
    assert machine.seconds["on_demand"] == 0


def test_without_spot_it_keeps_pace_and_waits_where_it_is_ahead():
    work = Work(work_s=3600, deadline_s=36_000, restart_s=60)
    machine, reasons = Machine(work), []
    while machine.state.done_s < work.work_s:
        reasons.append(machine.look(False, 60))
        assert machine.state.done_s >= expected_s(work, machine.now_s) - 2 * work.restart_s - 2 * work.look_s
    assert machine.seconds["on_demand"] < 1.3 * work.work_s
    assert machine.now_s <= work.deadline_s + work.look_s
    assert any("behind" in reason for reason in reasons)


def test_a_spot_instance_that_lasts_is_kept_and_done_work_rents_nothing():
    work = Work(work_s=600, deadline_s=36_000, restart_s=60)
    state, place, _ = step(work, Progress(), Looked(True), 0.0)
    assert place == "spot"
    state, place, reason = step(work, state, Looked(True), 300.0)
    assert (place, reason[:12]) == ("spot", "exploitation")
    _, place, reason = step(work, state, Looked(True), 700.0)
    assert (place, reason[:7]) == ("idle", "thrifty")


def test_work_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="work_s 0"):
        Work(work_s=0, deadline_s=10, restart_s=0)
    assert not Work(work_s=100, deadline_s=100, restart_s=10).feasible
