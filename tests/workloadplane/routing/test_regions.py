"""Which region: the way, the queue and the prompt to compute, home first, and never on a guess."""

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.workloadplane.routing.test_pick import snapshot
from workloadplane.routing import (
    Choice,
    PeerFacts,
    Policy,
    ReplicaFacts,
    RequestFacts,
    ToPeer,
    ToReplica,
    Wait,
    pick,
)
from workloadplane.routing.regions import (
    Expected,
    Prompt,
    RegionPolicy,
    RevisionLoad,
    expected_there,
    queue_s,
    rank,
    together,
)

POLICY = RegionPolicy()
EMPTY = RevisionLoad(ready=1, seats=8, request_s=1.0, prefill_bytes_per_s=32_768.0)
FULL = replace(EMPTY, in_flight=8)
SEAT = ReplicaFacts("a", "r1", True, 8.0, max_in_flight=8)
_TIMES = st.floats(0, 60)
_LOADS = st.builds(
    RevisionLoad,
    ready=st.integers(0, 3),
    seats=st.integers(0, 16),
    in_flight=st.integers(0, 40),
    waiting=st.integers(0, 40),
    request_s=st.just(0.0) | st.floats(0.01, 30),
    prefill_bytes_per_s=st.just(0.0) | st.floats(1, 1e7),
)


def peer(
    load: RevisionLoad | None, rtt_ms: float = 80.0, name: str = "c-us", jurisdiction: str = "us"
) -> PeerFacts:
    return PeerFacts(name, name, jurisdiction, rtt_ms, None if load is None else {"r1": load})


def chosen(
    here: RevisionLoad, *peers: PeerFacts, facts: RequestFacts | None = None, **changes: Any
) -> Choice:
    """This cluster's one replica runs what ``here`` says."""
    replicas = (replace(SEAT, max_in_flight=here.seats, ready=bool(here.ready)),)
    shot = snapshot(
        replicas=replicas,
        in_flight={"a": here.in_flight},
        peers={each.cluster_id: each for each in peers},
        here={"r1": here},
        **changes,
    )
    return pick(facts or RequestFacts(None, True, prompt_bytes=64), shot, Policy(), Random(0))


@given(_TIMES, _TIMES, _TIMES, st.floats(0.001, 60))
def test_more_of_anything_is_later(way_s: float, waits_s: float, prefill_s: float, more: float) -> None:
    """A longer way, a longer queue and a longer prompt each make a peer come after."""
    here = rank(Expected(way_s, waits_s, prefill_s), 0.0)
    assert here < rank(Expected(way_s + more, waits_s, prefill_s), 0.0)
    assert here < rank(Expected(way_s, waits_s + more, prefill_s), 0.0)
    assert here < rank(Expected(way_s, waits_s, prefill_s + more), 0.0)


@given(_LOADS, st.integers(0, 40), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_expected_rises_with_what_is_there(
    load: RevisionLoad, more: int, size_bytes: int, known_bytes: int
) -> None:
    """More in flight or sent since, a longer prompt, a slower region: never sooner; more in caches: never later."""

    def total_s(load: RevisionLoad, sent: int = 0, size: int = size_bytes, known: int = 0) -> float:
        there = expected_there(
            replace(peer(load), sent={"r1": sent}), "r1", Prompt(size, known), None, POLICY
        )
        assert there is not None
        return there.total_s

    assert total_s(load) <= total_s(replace(load, in_flight=load.in_flight + more))
    assert total_s(load) <= total_s(load, sent=more)
    assert total_s(load) <= total_s(load, size=size_bytes + more)
    assert total_s(load, known=known_bytes) <= total_s(load)
    if load.prefill_bytes_per_s:
        slower = replace(load, prefill_bytes_per_s=load.prefill_bytes_per_s / 2)
        assert total_s(load) <= total_s(slower)


def test_what_goes_there_counts_before_the_peer_says_so() -> None:
    """Eight free seats are eight: the ninth since the peer's word waits for a turn."""
    assert queue_s(EMPTY, 7) == 0.0
    assert queue_s(EMPTY, 8) == 1.0 / 8
    assert queue_s(replace(EMPTY, waiting=80), 8) == 81.0 / 8


def test_processes_of_a_cluster_are_added_up() -> None:
    """They see the same replicas, each with its own requests."""
    one = RevisionLoad(2, 16, in_flight=3, waiting=1, request_s=2.0)
    other = RevisionLoad(2, 16, in_flight=9, prefill_bytes_per_s=5e4)
    assert together((one, other)) == RevisionLoad(2, 16, 12, 1, 2.0, 5e4)


@given(st.floats(0, 1e4), st.floats(0, 1e4), _TIMES)
def test_silence_is_never_preferred_to_a_replica(near: float, far: float, waits_s: float) -> None:
    """However near it is, an unknown peer comes after one whose replicas can be waited for."""
    assert rank(Expected(far / 1000, waits_s, 0.0), far) < rank(None, near)


def test_a_queue_counts_as_its_time() -> None:
    """A region farther away is sooner when the nearer one has a long queue; where both wait, it is asked to hold."""
    busy = peer(replace(FULL, waiting=40), 20.0)
    idle = peer(EMPTY, 200.0, "c-jp", "jp")
    gone = RevisionLoad(0)
    choice = chosen(gone, busy, idle)
    assert isinstance(choice, ToPeer)
    assert (choice.cluster_id, choice.may_hold) == ("c-jp", False)
    choice = chosen(gone, busy)
    assert isinstance(choice, ToPeer)
    assert choice.may_hold


def test_home_first_and_by_a_margin_only() -> None:
    """A free seat here is never left for another; a full region is, once its line takes longer by a margin."""
    assert isinstance(chosen(EMPTY, peer(EMPTY, 0.0)), ToReplica)
    short = replace(FULL, request_s=0.5)
    assert isinstance(chosen(short, peer(EMPTY, 30.0)), Wait), "63 ms of queue against 30 ms are no margin"
    long = replace(short, waiting=20)
    gone = chosen(long, peer(EMPTY, 30.0))
    assert isinstance(gone, ToPeer)
    assert gone.reasons[1] == "sooner than the queue here"
    turn = RequestFacts(None, True, prompt_bytes=64, is_next=True)
    assert isinstance(chosen(long, peer(EMPTY, 30.0), facts=turn), Wait), "it is the next here"


def test_a_conversation_goes_back_while_its_cache_is_worth_the_way() -> None:
    """64 KB in a peer's cache are worth 80 ms, 2 KB are not; nor if this region knows the prompt as well."""
    for size, known, here, expected in (
        (65_536, 65_000, (), ToPeer),
        (4_096, 2_048, (), ToReplica),
        (65_536, 65_000, ((64_000, 1),), ToReplica),
    ):
        facts = RequestFacts(None, True, prompt_bytes=size, known=here, known_abroad={"c-us": known})
        choice = chosen(EMPTY, peer(EMPTY), facts=facts)
        assert isinstance(choice, expected)
        if isinstance(choice, ToPeer):
            assert choice.reasons[1] == "its cache is worth the way"


def test_nobody_leaves_on_a_guess() -> None:
    """Who has not measured draws nothing away, and is not left for who has; a region measured slow is left."""
    facts = RequestFacts(None, True, prompt_bytes=400_000)
    unmeasured = replace(EMPTY, prefill_bytes_per_s=0.0)
    fast, slow = (replace(EMPTY, prefill_bytes_per_s=speed) for speed in (1e6, 1e4))
    assert isinstance(chosen(unmeasured, peer(fast), facts=facts), ToReplica)
    assert isinstance(chosen(slow, peer(unmeasured), facts=facts), ToReplica)
    choice = chosen(slow, peer(fast), facts=facts)
    assert isinstance(choice, ToPeer)
    assert choice.reasons[1] == "it computes the prompt sooner"


def test_an_unknown_peer_is_for_who_knows_nothing_better() -> None:
    """A wait of known length here comes before a peer that is silent, and so does any peer that has spoken."""
    assert isinstance(chosen(FULL, peer(None)), Wait)
    assert isinstance(chosen(replace(FULL, request_s=0.0), peer(None)), ToPeer)
    choice = chosen(RevisionLoad(0), peer(None, 1.0), peer(FULL, 200.0, "c-jp", "jp"))
    assert isinstance(choice, ToPeer)
    assert choice.cluster_id == "c-jp"


@given(_LOADS, _LOADS, st.floats(0, 300), st.integers(0, 10**6))
def test_two_regions_never_swap(ours: RevisionLoad, theirs: RevisionLoad, rtt_ms: float, size: int) -> None:
    """Whatever the loads: of two regions that see each other truly, one at most sends to the other; equals never do."""
    assume(ours.ready and theirs.ready)
    facts = RequestFacts(None, True, prompt_bytes=size)
    goes = chosen(ours, peer(theirs, rtt_ms), facts=facts)
    comes = chosen(theirs, peer(ours, rtt_ms), facts=facts)
    assert not (isinstance(goes, ToPeer) and isinstance(comes, ToPeer))
    assert not isinstance(chosen(ours, peer(ours, rtt_ms), facts=facts), ToPeer)


@given(
    _LOADS, st.lists(st.tuples(st.none() | _LOADS, st.floats(0, 300)), min_size=2, max_size=2),
    st.sampled_from([frozenset(), frozenset({"eu"}), frozenset({"us"}), frozenset({"jp", "us"})]),
    st.sampled_from(["us", "jp", ""]), st.booleans(), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_rules_come_before_speed(
    here: RevisionLoad,
    there: list[tuple[RevisionLoad | None, float]],
    residency: frozenset[str],
    jurisdiction: str,
    may_forward: bool,
    is_next: bool,
    size: int,
) -> None:
    """However much sooner: never outside the residency, never a second hop, never a silent peer before a good one."""
    (one, near), (other, far) = there
    peers = (peer(one, near, jurisdiction=jurisdiction), peer(other, far, "c-jp", "jp"))
    facts = RequestFacts(None, may_forward, prompt_bytes=size, is_next=is_next)
    choice = chosen(here, *peers, facts=facts, residency=residency)
    if not isinstance(choice, ToPeer):
        return
    assert may_forward
    by_name = {each.cluster_id: each for each in peers}
    target = by_name.pop(choice.cluster_id)
    assert not residency or target.jurisdiction in residency
    (rest,) = by_name.values()
    if target.loads is None and rest.loads is not None:
        expected = expected_there(rest, "r1", Prompt(size), here, POLICY)
        outside = bool(residency) and rest.jurisdiction not in residency
        assert outside or expected is None or expected.total_s == float("inf")


def test_a_pair_of_regions_goes_by_its_order_alone() -> None:
    """In active_passive the serving region keeps its requests, however much sooner another one would be."""
    slow, fast = replace(EMPTY, prefill_bytes_per_s=1e4), replace(EMPTY, prefill_bytes_per_s=1e6)
    facts = RequestFacts(None, True, prompt_bytes=400_000)
    assert isinstance(chosen(slow, peer(fast), facts=facts, posture="active_passive"), ToReplica)
    assert isinstance(chosen(replace(FULL, waiting=99), peer(fast), posture="active_passive"), Wait)
