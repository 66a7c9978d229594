"""Drills: how they go on, what ends them, and what their report says beside the promise."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.failover import (
    DRILL_OPEN,
    DRILL_STATES,
    METHODS,
    NOTHING_LOST,
    DrillCourse,
    DrillLimits,
    DrillPromise,
    Sample,
    drill_report,
    drill_step,
    guard,
    next_window,
)
from workloadplane.protocol.refusal import Refusal

EU, US = "eu-west-1", "us-east4"
LIMITS = DrillLimits(error_budget_share=0.02, ttft_s_max=1.0, duration_s_max=60.0)
COURSE = DrillCourse(
    method="faults",
    injected_at_s=5.0,
    repaired_at_s=25.0,
    ended_at_s=35.0,
    detected_at_s=6.2,
    lost_regions=(EU,),
    idle_micro_usd_per_h=3_600_000,
)
SURVIVES = DrillPromise(
    basis="certificate", promised=True, served_share=1.0, margin_share=0.5, recovery_s=25.0
)


def samples() -> list[Sample]:
    """Two a second for 35 s: before the fault in eu, from then on in us, and home again after it."""
    at_s = [half / 2 for half in range(70)]
    return [
        Sample(at_s=s, ttft_s=0.1 if s < 5 else 0.2, outcome="ok", region=EU if s < 5 or s >= 30 else US)
        for s in at_s
    ]


def with_one(found: list[Sample], at_s: float, **fields: object) -> list[Sample]:
    return [replace(one, **fields) if one.at_s == at_s else one for one in found]  # type: ignore[arg-type]


def rules(found: list[Sample], promise: DrillPromise = SURVIVES, **course: object) -> list[str]:
    report = drill_report(replace(COURSE, **course), found, promise, LIMITS)  # type: ignore[arg-type]
    return [difference.rule for difference in report.differences]


def test_every_state_answers_every_event_and_an_end_stays_one() -> None:
    """An open drill can always be aborted."""
    for state in DRILL_STATES:
        aborted = drill_step(state, "aborted")
        assert aborted == "aborted" if state in DRILL_OPEN else isinstance(aborted, Refusal)
    refused = drill_step("before", "repaired")
    assert isinstance(refused, Refusal)
    assert refused.remedy == "it knows aborted, injected"


def test_only_a_loss_of_capacity_can_be_drilled_by_weights() -> None:
    """The rest breaks something, which nobody does to a production system."""
    assert {kind for kind, methods in METHODS.items() if "weights" in methods} == {
        "lose-region",
        "lose-provider",
    }


def test_a_report_says_how_long_what_went_where_and_what_it_cost() -> None:
    """Against the fault's own moment, phase by phase."""
    found = with_one(samples(), 5.5, outcome="again")
    found = with_one(found, 6.0, region=EU)
    report = drill_report(COURSE, found, SURVIVES, LIMITS)
    assert report.differences == ()
    assert report.detected_s == pytest.approx(1.2)
    assert (report.moved_s, report.last_failed_s, report.served_share) == (1.0, 0.5, 1.0)
    assert (report.fault_s, report.cost_micro_usd) == (20.0, 20_000)
    before, during, after = report.phases
    assert (before.requests, during.requests, after.requests) == (10, 40, 20)
    assert (before.ttft_s_p50, during.ttft_s_p99) == (0.1, 0.2)
    assert (during.failed_first, during.failed) == (1, 0)
    assert during.regions == ((US, 39 / 40), (EU, 1 / 40))
    assert dict(after.regions)[EU] == 0.5


def test_what_was_promised_and_did_not_happen_is_a_difference() -> None:
    """Each rule by itself: one that fails late, too many that fail, a region that may not serve, a late token."""
    assert rules(samples()) == []
    assert rules(with_one(samples(), 20.0, outcome="again")) == ["recovery"]
    assert rules(with_one(samples(), 5.5, outcome="failed")) == ["served_share"]
    assert rules(samples(), replace(SURVIVES, regions=(EU,))) == ["residency"]
    assert rules(with_one(samples(), 9.0, ttft_s=1.5)) == ["ttft"]
    assert rules(with_one(samples(), 7.0, outcome="broken"), NOTHING_LOST) == ["served_share"]


def test_by_weights_what_had_to_stay_breaks_the_promise_of_room() -> None:
    """Nobody is refused for a drill; so too little room shows in what the drained region still served."""
    stayed = [replace(one, region=EU) if one.at_s % 2 == 0 else one for one in samples()]
    assert rules(stayed, method="weights") == ["moved"]
    assert rules(stayed, replace(SURVIVES, served_share=0.7), method="weights") == []
    early = [replace(one, region=EU) if one.at_s < 7 else one for one in samples()]
    assert rules(early, method="weights") == []


def test_a_loss_that_was_never_promised_may_fail_as_far_as_was_said() -> None:
    """Half of the demand, for as long as the replacement takes to start."""
    half = [replace(one, outcome="failed") if 5 <= one.at_s < 15 else one for one in samples()]
    said = replace(SURVIVES, promised=False, served_share=0.4, recovery_s=12.0)
    assert rules(half, said) == []
    assert rules(half, replace(said, recovery_s=4.0)) == ["recovery"]
    assert rules(half, replace(said, recovery_s=None)) == []


def test_the_guard_ends_what_costs_too_much() -> None:
    """By errors, by late tokens and by time; one bad request is no reason."""
    good = samples()
    assert guard(LIMITS, good, elapsed_s=40.0) is None
    assert rule_of(guard(LIMITS, good, elapsed_s=61.0)) == "duration"
    assert (
        guard(LIMITS, with_one(with_one(good, 6.0, outcome="failed"), 7.0, outcome="broken"), elapsed_s=1.0)
        is None
    )
    bad = [replace(one, outcome="failed") if 6.0 <= one.at_s <= 7.0 else one for one in good]
    assert rule_of(guard(LIMITS, bad, elapsed_s=1.0)) == "error_budget"
    late = [replace(one, ttft_s=2.0) if one.at_s >= 25 else one for one in good]
    assert rule_of(guard(LIMITS, late, elapsed_s=1.0)) == "ttft"
    assert guard(LIMITS, [*late[:-1], replace(late[-1], ttft_s=0.1)], elapsed_s=1.0) is None


def rule_of(refusal: Refusal | None) -> str:
    return refusal.rule if refusal else ""


@given(
    st.lists(
        st.builds(
            Sample,
            at_s=st.floats(0, 40),
            ttft_s=st.none() | st.floats(0, 30),
            outcome=st.sampled_from(["ok", "again", "failed", "broken"]),
            region=st.sampled_from(["", EU, US]),
        ),
        max_size=30,
    )
)
def test_whatever_was_measured_every_request_is_in_one_phase(found: list[Sample]) -> None:
    """And shares are shares."""
    report = drill_report(COURSE, found, SURVIVES, LIMITS)
    assert sum(phase.requests for phase in report.phases) == len(found)
    assert 0 <= report.served_share <= 1
    assert 0 <= report.last_failed_s <= report.fault_s
    for phase in report.phases:
        assert phase.failed_first + phase.broken <= phase.requests
        assert sum(share for _, share in phase.regions) == pytest.approx(1 if phase.regions else 0)


@given(
    after_s=st.integers(0, 366 * 86_400),
    late_days=st.integers(0, 40),
    every_days=st.integers(1, 30),
)
def test_the_next_window_is_the_first_one_that_is_still_to_come(
    after_s: int, late_days: int, every_days: int
) -> None:
    """At its time of day, a whole number of turns after the last one, none left out that is still ahead."""
    now, at = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=after_s), time(3, 30)
    first = next_window(now, every_days=every_days, starts_at_utc=at, last=None)
    assert now < first <= now + timedelta(days=1)
    assert (first.hour, first.minute) == (3, 30)
    last = first - timedelta(days=late_days)
    found = next_window(now, every_days=every_days, starts_at_utc=at, last=last)
    assert found > now
    assert (found - last).days % every_days == 0
    assert (found - last) >= timedelta(days=every_days)
    assert found - timedelta(days=every_days) <= max(now, last)
