"""Who is to serve: the first in line for as long as it can, else one that surely can, else nobody new."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.failover import Candidate, Promotion, PromotionPolicy, promotion

POLICY = PromotionPolicy(silent_s=6.0, heard_s=4.0, unable_s=3.0)


def candidate(name: str, silent_s: float = 0.0, unready_s: float = 0.0, ungated_s: float = 0.0) -> Candidate:
    return Candidate(name, silent_s, unready_s, ungated_s)


SOUND = candidate("b")


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (candidate("a", silent_s=6.0), "silent"),
        (candidate("a", silent_s=math.inf), "silent"),
        (candidate("a", unready_s=3.0), "no_replica"),
        (candidate("a", ungated_s=3.0), "no_gateway"),
    ],
)
def test_one_that_cannot_is_left_for_one_that_can(first: Candidate, cause: str) -> None:
    """Its silence, or its lack of a replica or a gateway, has lasted."""
    found = promotion([first, candidate("c", unready_s=0.1), SOUND], POLICY)
    assert found is not None
    assert (found.cluster_id, found.cause) == ("b", cause)


@pytest.mark.parametrize(
    "first", [candidate("a"), candidate("a", silent_s=5.9), candidate("a", unready_s=2.9, ungated_s=2.9)]
)
def test_one_that_may_still_come_round_is_kept(first: Candidate) -> None:
    """Its agent mends it, or its next call is on its way."""
    assert promotion([first, SOUND], POLICY) == Promotion("a", "")


def test_an_observer_that_hears_nobody_distrusts_itself() -> None:
    """All silent: more likely the observer is cut off."""
    silent = [candidate(name, silent_s=60.0) for name in "abc"]
    assert promotion(silent, POLICY) == Promotion("a", "")
    assert promotion([], POLICY) is None


times = st.floats(0.0, 20.0) | st.just(0.0) | st.just(math.inf)


@given(st.lists(st.builds(Candidate, st.sampled_from("abcd"), times, times, times), min_size=1, max_size=4))
def test_nobody_is_promoted_who_may_not_be_able(candidates: list[Candidate]) -> None:
    """Whoever is chosen over the first was heard just now, has a ready replica and a gateway."""
    found = promotion(candidates, POLICY)
    assert found is not None
    if not found.cause:
        assert found.cluster_id == candidates[0].cluster_id
        return
    assert any(
        one.cluster_id == found.cluster_id
        and (one.silent_s <= POLICY.heard_s, one.unready_s, one.ungated_s) == (True, 0.0, 0.0)
        for one in candidates[1:]
    )
