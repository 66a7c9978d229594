"""Peers that are as good as one another share what leaves home; who returns gets its share."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.routing.regions import PeerFacts, RevisionLoad
from workloadplane.routing.spreading import is_admitted, spread

SESSIONS = [f"session-{number}" for number in range(2_000)]


def peer(name: str, seats: int, in_flight: int = 0, **changes: object) -> PeerFacts:
    loads = {"r1": RevisionLoad(1, seats, in_flight)}
    return PeerFacts(name, name, "eu", 10.0, loads, **changes)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 64), min_size=2, max_size=6), st.data())
def test_only_the_lost_regions_sessions_move(seats: list[int], data: st.DataObject) -> None:
    """Whatever the peers' sizes and whoever is lost."""
    peers = [peer(f"c-{number}", each) for number, each in enumerate(seats)]
    lost = data.draw(st.sampled_from(peers))
    left = [each for each in peers if each is not lost]
    for session in SESSIONS[:50]:
        before = spread(peers, "r1", session, Random(0))
        if before is not lost:
            assert spread(left, "r1", session, Random(1)) is before


def test_sessions_are_shared_by_seats() -> None:
    """24 seats get three times as many as 8."""
    counts = Counter(spread([peer("a", 8), peer("b", 24)], "r1", s, Random(0)).cluster_id for s in SESSIONS)
    assert 0.70 < counts["b"] / len(SESSIONS) < 0.80


def test_the_rest_is_shared_by_the_seats_that_are_free() -> None:
    rng = Random(3)
    busy, idle = peer("busy", 16, 12), peer("idle", 16, 4)
    counts = Counter(spread([busy, idle], "r1", None, rng).cluster_id for _ in range(4_000))
    assert 0.70 < counts["idle"] / 4_000 < 0.80


def test_who_returns_gets_its_share_and_keeps_its_sessions() -> None:
    """A hundredth, then a quarter: those of before are among them; without a session it is chance."""
    low, high = peer("c", 8, share=0.01), peer("c", 8, share=0.25)
    few = {session for session in SESSIONS if is_admitted(low, session, 0, Random(0))}
    many = {session for session in SESSIONS if is_admitted(high, session, 0, Random(0))}
    assert few < many
    assert 0.003 < len(few) / len(SESSIONS) < 0.02
    assert 0.22 < len(many) / len(SESSIONS) < 0.28
    rng = Random(5)
    drawn = sum(is_admitted(high, None, 0, rng) for _ in range(4_000))
    assert 0.22 < drawn / 4_000 < 0.28


def test_who_is_doubted_keeps_what_it_has_and_gets_nothing_new() -> None:
    doubted = peer("c", 8, admits="sessions")
    assert is_admitted(doubted, None, 4_096, Random(0))
    assert not is_admitted(doubted, "new", 0, Random(0))
