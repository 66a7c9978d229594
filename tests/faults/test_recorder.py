"""The matrix' judge, by itself: each rule that is broken is seen, and what a fault may cost is not."""

from itertools import combinations
from random import Random

from tests.faults.matrix.cells import pairs
from tests.faults.matrix.clients import EDGE, Asked, Attempt, judge
from tests.faults.matrix.faults import CATALOGUE
from tests.faults.matrix.recorder import Allowed, judge_cell, outside_residency, turns, two_serving
from tests.faults.matrix.world import ACTIVE_ACTIVE, ACTIVE_PASSIVE, EU, EU_ONLY, US

_STREAM = b"HTTP/1.1 200 OK\r\nx-meridian-replica: r-1\r\ntransfer-encoding: chunked\r\n\r\n"


def _asked(deployment: str, *ends: str, door: str = EDGE, **facts: object) -> Asked:
    attempts = [Attempt(f"r-{n}", door, 10.0 + n, 10.2 + n, 10.3 + n, end) for n, end in enumerate(ends)]
    for attempt in attempts:
        for name, value in facts.items():
            setattr(attempt, name, value)
    return Asked(deployment, streams=True, attempts=attempts, is_over=True)


def _judged(said: bytes, *, streams: bool = True) -> Attempt:
    one = Attempt("r-1", EDGE, 0.0)
    judge(one, said, streams=streams)
    return one


def test_an_answer_is_judged_by_its_bytes() -> None:
    """Whole, broken off with an event, just ended, refused with its reason, nothing at all."""
    event, done = b"data: {}\n\n", b"data: [DONE]\n\n"

    def stream(*parts: bytes, ended: bool = True) -> bytes:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return _STREAM + chunks + (b"0\r\n\r\n" if ended else b"")

    whole = _judged(stream(event, b": resumed\n", done))
    assert (whole.end, whole.resumed, whole.replica_id) == ("whole", True, "r-1")
    assert _judged(stream(event, b"event: error\ndata: {}\n\n")).end == "error event"
    assert _judged(stream(event, ended=False)).end == "cut"
    assert _judged(stream(event)).end == "cut", "a proper end of HTTP is no end of the answer"
    body = b'{"error": {"code": "lease"}}'
    refused = _judged(
        b"HTTP/1.1 503 No\r\nretry-after: 2\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    assert (refused.end, refused.status, refused.code, refused.retry_after_s) == (
        "refused",
        503,
        "lease",
        2.0,
    )
    assert _judged(b"").end == "broken"


def test_what_is_lost_is_lost_unless_a_fault_may_cost_it() -> None:
    """What failed at first and then went well is no loss; the pair may be refused where the fault says so."""
    failed = [_asked(ACTIVE_ACTIVE, "broken", "whole"), _asked(ACTIVE_ACTIVE, "broken", "refused", "broken")]
    pair = _asked(ACTIVE_PASSIVE, "refused", "refused", "refused")

    figures, found = judge_cell([*failed, pair], Allowed(may_refuse=frozenset({ACTIVE_PASSIVE})), 9.0)

    assert (figures.asked, figures.failed_first, figures.nowhere, figures.last_failed_s) == (3, 2, 1, 1.0)
    assert len(found.lost) == 1
    assert len(judge_cell([pair], Allowed(), 9.0)[1].lost) == 1
    handed_over = _asked(ACTIVE_PASSIVE, "refused", "whole", code="handing_over")
    figures, found = judge_cell([handed_over], Allowed(), 9.0)
    assert (figures.fenced, figures.failed_first, found.all()) == (1, 0, [])


def test_a_stream_that_just_ends_is_only_explained_by_its_own_gateway() -> None:
    """The edge has eu-west first: another gateway's loss explains nothing there."""
    cut = _asked(ACTIVE_ACTIVE, "cut")
    for doors, silent in (({EU}, 0), ({US}, 1), (set[str](), 1)):
        figures, found = judge_cell([cut], Allowed(doors=frozenset(doors)), 9.0)
        assert (len(found.silent), figures.cut) == (silent, 1 - silent)
    event = judge_cell([_asked(ACTIVE_ACTIVE, "error event")], Allowed(), 9.0)
    assert (event[0].error_events, event[1].all()) == (1, [])


def test_residency_is_judged_by_the_machine() -> None:
    """Whatever a header says of regions."""
    clusters_of = {"home": EU, "away": US}
    served = [_asked(EU_ONLY, "whole", replica_id=name) for name in ("home", "away")]
    assert len(outside_residency(served, clusters_of)) == 1
    assert outside_residency([_asked(ACTIVE_ACTIVE, "whole", replica_id="away")], clusters_of) == []


def _pair(*served: tuple[float, float, str]) -> list[Asked]:
    return [
        Asked(ACTIVE_PASSIVE, False, [Attempt("r", EDGE, began, first, first, "whole", 200, replica_id=who)])
        for began, first, who in served
    ]


def test_two_regions_that_serve_in_turn_are_seen() -> None:
    """One that is moved once serves no more; requests that overlap prove nothing."""
    clusters_of = {"one": EU, "other": US}
    moved = turns(_pair((0, 1, "one"), (2, 3, "one"), (4, 5, "other"), (6, 7, "other")), clusters_of)
    assert [who for _, who in moved] == [EU, US]
    assert two_serving(moved, moves=1) == []
    overlapping = turns(_pair((0, 3, "one"), (1, 2, "other"), (1, 4, "one")), clusters_of)
    assert len(overlapping) == 1
    both = turns(_pair((0, 1, "one"), (2, 3, "other"), (4, 5, "one"), (6, 7, "other")), clusters_of)
    assert len(two_serving(both, moves=1)) == 1


def test_every_two_kinds_meet_and_every_fault_is_among_them() -> None:
    """Whatever the seed: eight kinds, twenty-eight pairs."""
    kind_of = {maker: kind for kind, makers in CATALOGUE.items() for maker in makers}
    for seed in range(20):
        chosen = pairs(Random(seed))
        met = {frozenset(kind_of[maker] for maker in pair) for pair in chosen}
        assert met == {frozenset(two) for two in combinations(CATALOGUE, 2)}
        assert {maker for pair in chosen for maker in pair} == set(kind_of)
    assert len(CATALOGUE) == 8
