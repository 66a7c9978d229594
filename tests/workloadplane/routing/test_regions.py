"""Which other region is asked, by what its gateway said lately."""

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.routing.regions import RevisionLoad, rank


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 100), st.integers(1, 9))
def test_silence_is_never_preferred_to_a_replica(near: float, far: float, wait_s: float, ready: int) -> None:
    """However near it is, an unknown peer comes after one with a replica, and before one that has none."""
    assert rank(RevisionLoad(ready, wait_s), far) < rank(None, near) < rank(RevisionLoad(0, 0.0), near)


def test_a_queue_counts_as_its_time() -> None:
    """A region farther away is sooner when the nearer one has a long queue."""
    assert rank(RevisionLoad(1, 0.0), 200.0) < rank(RevisionLoad(1, 1.0), 80.0)
