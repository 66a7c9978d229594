"""Who is avoided, for how long, and how trust comes back."""

import dataclasses
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.ejection import (
    SOUND,
    Ejection,
    EjectionPolicy,
    Event,
    avoided,
    requests_max,
    step,
)

POLICY = EjectionPolicy()
EVENTS: tuple[Event, ...] = get_args(Event)


FOUR: tuple[Event, ...] = ("failed",) * 4
WRONG: tuple[Event, ...] = ("sent", "withdrawn") * 100
LOST: tuple[Event, ...] = ("unreachable", "broken", "stuck")


def after(*events: Event, state: Ejection = SOUND, now_s: float = 0.0) -> Ejection:
    for event in events:
        state = step(state, event, now_s, POLICY)
    return state


def test_one_lost_connection_is_enough_and_one_error_is_not() -> None:
    """Errors count in a row; a good answer in between starts the count anew."""
    for decisive in LOST:
        assert after(decisive).phase == "ejected"
    four = after(*FOUR)
    assert four.phase == "sound"
    assert after("failed", state=four).phase == "ejected"
    assert after("answered", *FOUR, state=four).phase == "sound"


def test_a_clients_fault_is_no_evidence() -> None:
    """However many requests were wrong or were left by their clients."""
    assert after(*WRONG) == SOUND
    assert after("withdrawn", state=after(*FOUR)).failures == 4


def test_one_request_is_the_probe_and_trust_grows_with_answers() -> None:
    """Nothing before its time, one at its time, few after the first answer, all at the end of the ramp."""
    out = after("broken")
    assert requests_max(out, 0.9, POLICY) == 0
    assert requests_max(out, 1.0, POLICY) == 1
    probing = after("sent", state=out, now_s=1.0)
    assert requests_max(probing, 1.5, POLICY) == 0
    assert requests_max(probing, 31.0, POLICY) == 1  # its answer was lost somewhere
    back = after("answered", state=probing, now_s=1.5)
    assert requests_max(back, 1.5, POLICY) == 3
    assert requests_max(after("answered", "answered", state=back, now_s=2.0), 2.0, POLICY) == 5
    assert requests_max(back, 11.5, POLICY) is None
    assert after("answered", state=back, now_s=11.5).phase == "sound"


def test_a_probe_that_its_client_left_is_none() -> None:
    """The next request is the probe, at once."""
    left = after("withdrawn", state=after("sent", state=after("broken"), now_s=1.0), now_s=2.0)
    assert requests_max(left, 2.0, POLICY) == 1


def test_each_ejection_lasts_longer_until_there_was_none_for_long() -> None:
    """One, two, four seconds and so on, bounded; after a good while one second again."""
    state, now_s, lasted = SOUND, 0.0, []
    for _ in range(8):
        state = after("broken", state=after("sent", state=state, now_s=now_s), now_s=now_s)
        lasted.append(state.until_s - now_s)
        now_s = state.until_s
    assert lasted == [1, 2, 4, 8, 16, 30, 30, 30]
    state = after("sent", "answered", state=state, now_s=now_s)
    state = after("answered", state=state, now_s=now_s + POLICY.ramp_s)
    again = after("broken", state=state, now_s=now_s + POLICY.ramp_s + 1)
    assert again.until_s - again.since_s == 30
    much_later = now_s + POLICY.ramp_s + POLICY.forget_s
    assert after("broken", state=state, now_s=much_later).until_s == much_later + 1
    assert after("answered", state=state, now_s=much_later) == SOUND


def test_where_most_look_dead_only_those_that_refuse_connections_are_avoided() -> None:
    """Half may be out; of more, those that can be connected to are used all the same."""
    names = {"a", "b", "c", "d"}
    out = {"a": after("stuck"), "b": after("unreachable")}
    assert avoided(out, names, 4, in_flight={}, now_s=0.5, policy=POLICY) == {"a", "b"}
    out["c"] = after("broken")
    assert avoided(out, names, 4, in_flight={}, now_s=0.5, policy=POLICY) == {"b"}


def test_a_recovering_one_gets_as_many_as_it_may_have() -> None:
    """What already runs there counts."""
    back = after("sent", "answered", state=after("broken"), now_s=1.0)
    assert avoided({"a": back}, {"a", "b"}, 2, in_flight={"a": 2}, now_s=1.5, policy=POLICY) == set()
    assert avoided({"a": back}, {"a", "b"}, 2, in_flight={"a": 3}, now_s=1.5, policy=POLICY) == {"a"}


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0, 50)), max_size=60))
def test_nobody_is_avoided_for_ever(course: list[tuple[Event, float]]) -> None:
    """Whatever happened: after the longest ejection and a probe's time, a request is let through again."""
    state, now_s = SOUND, 0.0
    for event, pause_s in course:
        now_s += pause_s
        state = step(state, event, now_s, POLICY)
        assert state.until_s <= now_s + POLICY.back_off_s_max
    later_s = now_s + max(POLICY.back_off_s_max, POLICY.probe_s) + 1.0
    assert requests_max(state, later_s, POLICY) != 0
    state = after("sent", "answered", state=state, now_s=later_s)
    assert requests_max(state, later_s + POLICY.ramp_s + 1.0, POLICY) is None


@given(st.lists(st.sampled_from(("sent", "answered", "withdrawn")), max_size=60))
def test_without_failures_nobody_is_ejected(course: list[Event]) -> None:
    """Good answers and clients' faults alone leave no trace."""
    assert after(*course) == SOUND


@given(st.sampled_from(EVENTS), st.floats(0, 100))
def test_states_are_values(event: Event, now_s: float) -> None:
    """A step makes a new state and leaves the old one as it was."""
    before = after("broken")
    copy = dataclasses.replace(before)
    step(before, event, now_s, POLICY)
    assert before == copy
