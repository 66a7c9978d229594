"""How a drain goes on, event by event and by the clock."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from controlplane.failover import (
    DRAIN_STATES,
    ENDED,
    DrainEvent,
    DrainFacts,
    DrainState,
    begins_at,
    drain_step,
    expected_s,
    next_event,
)
from controlplane.failover.drain import HANDOVER_S, UNKNOWN_MOVE_S
from workloadplane.protocol.refusal import Refusal

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def facts(state: DrainState, **fields) -> DrainFacts:
    values = {"starts_at": None, "ends_at": None, "expected_s": 60.0, "present": 3}
    return DrainFacts(state=state, **(values | fields))


def test_nothing_follows_an_end_and_what_is_unknown_changes_nothing() -> None:
    """Every pair of state and event has an answer; an ended drain knows no event, and the answer says what to do."""
    for state in DRAIN_STATES:
        for event in get_args(DrainEvent):
            after = drain_step(state, event)
            if state in ENDED:
                assert isinstance(after, Refusal)
                assert "start another drain" in after.remedy
            elif isinstance(after, Refusal):
                assert state in after.subject
                assert after.value == event
            else:
                assert after in DRAIN_STATES


def test_what_was_never_empty_is_cancelled_and_what_was_is_over() -> None:
    """One verb for an operator, at any point."""
    assert drain_step("planned", "lifted") == "cancelled"
    assert drain_step("moving", "lifted") == "cancelled"
    assert drain_step("drained", "lifted") == "over"


@pytest.mark.parametrize(
    ("given", "at", "event"),
    [
        (facts("planned", starts_at=NOON), NOON - timedelta(seconds=61), None),
        (facts("planned", starts_at=NOON), NOON - timedelta(seconds=60), "due"),
        (facts("planned", starts_at=NOON, short=True), NOON, "refused"),
        (facts("planned", starts_at=NOON, expected_s=None), NOON - timedelta(seconds=UNKNOWN_MOVE_S), "due"),
        (facts("planned", starts_at=NOON, ends_at=NOON + HOUR), NOON + HOUR, "over"),
        (facts("moving"), NOON, None),
        (facts("moving", present=0), NOON, "emptied"),
        (facts("moving", ends_at=NOON), NOON, "over"),
        (facts("drained", present=0), NOON, None),
        (facts("drained", present=1), NOON, "refilled"),
        (facts("drained", present=0, ends_at=NOON), NOON - HOUR, None),
        (facts("drained", present=0, ends_at=NOON), NOON, "over"),
        (facts("cancelled", ends_at=NOON), NOON + HOUR, None),
    ],
)
def test_the_clock_and_what_is_left_decide(given: DrainFacts, at: datetime, event: DrainEvent | None) -> None:
    """A window begins as long before as its move takes; it ends by itself; an empty place is drained."""
    assert next_event(given, now=at) == event
    if event is not None:
        assert not isinstance(drain_step(given.state, event), Refusal)


def test_a_move_takes_its_longest_start_and_the_hand_over() -> None:
    """Starts run side by side; one that nobody measured makes the whole unknown; no start leaves the hand-over."""
    assert expected_s([30.0, 90.0]) == 90.0 + HANDOVER_S
    assert expected_s([30.0, None]) is None
    assert expected_s([]) == HANDOVER_S
    assert begins_at(NOON, 90.0) == NOON - timedelta(seconds=90)
