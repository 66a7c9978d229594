"""Clusters that are to get nothing for now: traffic stays away from them as far as others can take it."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloadplane.routing.test_pick import HERE, chosen, snapshot
from workloadplane.routing import (
    PeerFacts,
    Policy,
    RequestFacts,
    Snapshot,
    ToPeer,
    ToReplica,
    only_revision,
    pick,
    withholding,
)
from workloadplane.routing.regions import RevisionLoad

ROOM = {"r1": RevisionLoad(ready=2, seats=8)}
FULL = {"r1": RevisionLoad(ready=2, seats=8, in_flight=8, waiting=3, request_s=1.0)}


def peers(**loads: object) -> dict[str, PeerFacts]:
    return {
        "c-us": PeerFacts("c-us", "us-east", "us", 80.0, loads=loads.get("us")),  # type: ignore[arg-type]
        "c-jp": PeerFacts("c-jp", "ap-northeast", "jp", 200.0, loads=loads.get("jp")),  # type: ignore[arg-type]
    }


def test_what_comes_to_a_withheld_cluster_goes_on_to_one_with_room() -> None:
    """Though it has free replicas itself; the reasons say why."""
    choice = chosen(withholding(snapshot(peers=peers(us=ROOM, jp=ROOM)), {HERE}))
    assert isinstance(choice, ToPeer)
    assert choice.cluster_id == "c-us"
    assert choice.reasons[-1] == "a part of the clusters is to get nothing for now"


def test_nothing_is_sent_to_a_withheld_peer() -> None:
    """The next one takes it."""
    shot = withholding(snapshot(replicas=(), peers=peers(us=ROOM, jp=ROOM)), {"c-us"})
    choice = chosen(shot)
    assert isinstance(choice, ToPeer)
    assert choice.cluster_id == "c-jp"


@pytest.mark.parametrize(
    "others",
    [peers(us=FULL, jp=FULL), peers(), peers(us={}, jp={}), {}],
    ids=["full", "unknown", "none", "alone"],
)
def test_nobody_is_refused_or_kept_waiting_for_it(others: dict[str, PeerFacts]) -> None:
    """Where no other can serve it at once it is served as ever."""
    assert isinstance(chosen(withholding(snapshot(peers=others), {HERE})), ToReplica)


def test_what_a_peer_sent_is_served() -> None:
    """Its table may be older, and nothing is passed on twice."""
    shot = withholding(snapshot(peers=peers(us=ROOM, jp=ROOM)), {HERE})
    assert isinstance(chosen(shot, may_forward=False), ToReplica)


def test_the_rest_of_a_broken_answer_is_served_where_it_can_be() -> None:
    """It has one revision to go on with, and no time for drills."""
    shot = only_revision(withholding(snapshot(peers=peers(us=ROOM)), {HERE}), "r1")
    assert isinstance(chosen(shot), ToReplica)


_LOADS = st.sampled_from([None, {}, ROOM, FULL])


@given(
    us=_LOADS,
    jp=_LOADS,
    withheld=st.sets(st.sampled_from([HERE, "c-us", "c-jp"])),
    residency=st.sampled_from([frozenset(), frozenset({"us"}), frozenset({"eu", "us"})]),
    may_forward=st.booleans(),
    seed=st.integers(0, 9),
)
def test_withholding_never_costs_a_request_and_never_breaks_residency(
    us: object, jp: object, withheld: set[str], residency: frozenset[str], may_forward: bool, seed: int
) -> None:
    """Whoever would be served is served, by a cluster that may."""
    shot: Snapshot = replace(snapshot(peers=peers(us=us, jp=jp)), residency=residency)
    facts = RequestFacts(None, may_forward, frozenset())
    plain = pick(facts, shot, Policy(), Random(seed))
    kept = pick(facts, withholding(shot, withheld), Policy(), Random(seed))
    if isinstance(plain, ToReplica | ToPeer):
        assert isinstance(kept, ToReplica | ToPeer)
    else:
        assert type(kept) is type(plain)
    if isinstance(kept, ToPeer) and residency:
        assert shot.peers[kept.cluster_id].jurisdiction in residency
