"""The life of a replica: the table is the law."""

from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from workloadplane.health.replica import (
    ENDED,
    REPLICA_STATES,
    TRANSITIONS,
    ReplicaEvent,
    ReplicaState,
    Transition,
    step,
)
from workloadplane.protocol.refusal import Refusal


@settings(deadline=None)
@given(state=st.sampled_from(REPLICA_STATES), event=st.sampled_from(get_args(ReplicaEvent)))
def test_an_event_is_taken_or_refused_by_name(state: ReplicaState, event: ReplicaEvent) -> None:
    """What the table knows happens; anything else changes nothing and names what is known."""
    outcome = step(state, event)
    if (state, event) in TRANSITIONS:
        assert outcome == Transition(before=state, event=event, after=TRANSITIONS[state, event])
    else:
        assert isinstance(outcome, Refusal)
        assert state in outcome.subject
        assert outcome.value == event


def test_nothing_follows_an_end_and_every_life_can_end() -> None:
    """Ended states have no exits; every other state reaches one."""
    assert not [state for state, _ in TRANSITIONS if state in ENDED]
    reaching = set(ENDED)
    for _ in REPLICA_STATES:
        reaching |= {before for (before, _), after in TRANSITIONS.items() if after in reaching}
    assert reaching == set(REPLICA_STATES)


def test_an_asked_for_end_is_stopped_and_any_other_is_failed() -> None:
    """The two ends differ by whether the replica was draining."""
    ends = {before: after for (before, event), after in TRANSITIONS.items() if event == "exited"}
    assert ends == {"starting": "failed", "ready": "failed", "unhealthy": "failed", "draining": "stopped"}
