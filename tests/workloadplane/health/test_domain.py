"""The states of a region in the eyes of an observer: every arrow of the table, and no other."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.domain import (
    DOMAIN_STATES,
    TRANSITIONS,
    UNHEARD,
    DomainEvent,
    RampPolicy,
    Standing,
    Transition,
    held_until_s,
    share,
    step,
)
from workloadplane.protocol.refusal import Refusal

POLICY = RampPolicy()
GOOD_NEWS: tuple[DomainEvent, ...] = ("cleared", "returned", "trusted", "advanced")
standings = st.builds(
    Standing,
    state=st.sampled_from(DOMAIN_STATES),
    since_s=st.floats(0.0, 1000.0),
    rung=st.integers(0, 3),
    ejections=st.integers(0, 60),
    ejected_at_s=st.floats(0.0, 1000.0),
)
events = st.sampled_from(get_args(DomainEvent))


def after(standing: Standing, event: DomainEvent, now_s: float) -> Standing:
    taken = step(standing, event, now_s, POLICY)
    assert isinstance(taken, Transition), taken
    return taken.after


@given(standings, events, st.floats(0.0, 5000.0))
def test_states_move_along_the_table_alone(standing: Standing, event: DomainEvent, now_s: float) -> None:
    """A step is an arrow of the table, or a Refusal that names the event and what to do."""
    taken = step(standing, event, now_s, POLICY)
    if isinstance(taken, Refusal):
        assert taken.value == event
        assert taken.remedy
    else:
        assert TRANSITIONS[standing.state, event] == taken.after.state
        assert taken.after.since_s == now_s


@given(standings, st.lists(st.tuples(events, st.floats(0.0, 20.0)), max_size=60))
def test_trust_takes_every_rung_for_as_long_as_it_must(
    standing: Standing, then: list[tuple[DomainEvent, float]]
) -> None:
    """Between an ejection and health lie the holds of all four rungs, whatever comes in between."""
    now_s, ejected_s = 1000.0, None
    for event, passed_s in then:
        now_s += passed_s
        taken = step(standing, event, now_s, POLICY)
        if isinstance(taken, Transition):
            standing = taken.after
        if standing.state == "ejected":
            ejected_s = standing.since_s
        elif standing.state == "healthy" and ejected_s is not None:
            # suspect -> healthy is open to one that was not ejected since
            assert now_s - ejected_s >= POLICY.ejected_s + 4 * POLICY.rung_s or event == "cleared"
            ejected_s = None


@given(standings)
def test_there_is_a_way_back_from_everywhere(standing: Standing) -> None:
    """No state is a dead end: good news that come late enough lead to health."""
    now_s, order = 5000.0, GOOD_NEWS
    for _ in range(8):
        if standing.state == "healthy":
            return
        now_s += 100.0
        taken = next(
            t for event in order if isinstance(t := step(standing, event, now_s, POLICY), Transition)
        )
        standing = taken.after
    raise AssertionError(f"never healthy: {standing}")


def test_a_new_one_is_not_healthy_until_it_is_heard() -> None:
    assert UNHEARD.state == "suspect"
    assert after(UNHEARD, "cleared", 0.0).state == "healthy"


def test_the_ramp_is_1_5_25_and_100_percent() -> None:
    """Each rung is held; a doubt leads back to the first."""
    now_s = 100.0
    standing = after(Standing("ejected", 90.0, ejections=1), "returned", now_s)
    shares = [share(standing, POLICY)]
    for _ in range(3):
        early = step(standing, "advanced", now_s + 4.9, POLICY)
        assert isinstance(early, Refusal)
        assert early.rule == "domain_hold"
        now_s += 5.0
        standing = after(standing, "advanced", now_s)
        shares.append(share(standing, POLICY))
    assert shares == [0.01, 0.05, 0.25, 1.0]
    fallen = after(standing, "doubted", now_s + 1.0)
    assert (fallen.state, share(fallen, POLICY)) == ("probation", 0.01)
    assert after(standing, "trusted", now_s + 5.0).state == "healthy"


def test_who_flaps_stays_out_longer_each_time() -> None:
    """2, 4, 8 s and so on up to a minute; after ten minutes of peace it counts as the first time again."""
    standing, now_s, held = Standing("healthy"), 0.0, []
    for _ in range(7):
        standing = after(after(standing, "doubted", now_s), "condemned", now_s)
        held.append(held_until_s(standing, POLICY) - now_s)
        now_s += held[-1]
        standing = after(standing, "returned", now_s)
        standing = after(standing, "condemned", now_s)
        standing = Standing("healthy", now_s, ejections=standing.ejections - 1, ejected_at_s=now_s)
    assert held == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    rested = after(after(standing, "doubted", now_s + 601.0), "condemned", now_s + 601.0)
    assert rested.ejections == 1
