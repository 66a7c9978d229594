"""What is to have happened by when, once capacity is known to vanish."""

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.notices import HAND_OVER_S, MARGIN_S, departure, departure_of
from workloadplane.protocol.observed import Notice


def notice(pool: str = "spot", node: str | None = None) -> Notice:
    return Notice(pool=pool, node=node, deadline_at=0.0, reason="", provider="aws")


@given(left_s=st.floats(-1e6, 1e6), now=st.floats(0, 1e6))
def test_streams_move_and_processes_end_in_time(left_s: float, now: float) -> None:
    """In this order, never before now, and before the deadline where that is still to come."""
    found = departure(notice(), left_s=left_s, now=now)
    deadline = now + max(0.0, left_s)
    assert now <= found.hand_over_since <= found.stop_since <= deadline
    assert deadline - found.stop_since <= MARGIN_S + 1e-6
    assert deadline - found.hand_over_since <= HAND_OVER_S + 1e-6
    if left_s > 0.001:
        assert found.stop_since < deadline


def test_of_thirty_seconds_half_is_left_for_streams_to_end() -> None:
    found = departure(notice(), left_s=30.0, now=100.0)
    assert (found.hand_over_since, found.stop_since) == (115.0, 125.0)
    found = departure(notice(), left_s=120.0, now=100.0)
    assert (found.hand_over_since, found.stop_since) == (200.0, 215.0)


def test_the_first_that_concerns_something_counts() -> None:
    """A pool's notice concerns all of it, a node's what is there; another pool's nothing."""
    whole = departure(notice(), left_s=120.0, now=0.0)
    node = departure(notice(node="node-1"), left_s=30.0, now=0.0)
    other = departure(notice("other"), left_s=1.0, now=0.0)
    assert departure_of([whole, node, other], "spot", ("node-1",)) is node
    assert departure_of([whole, node, other], "spot", ("node-2",)) is whole
    assert departure_of([node, other], "spot", ()) is None
