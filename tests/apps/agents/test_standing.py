"""Who speaks for a cluster: the table itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.standing import Claim, Former, Seat, Verdict, judge


def seat(**changes: object) -> Seat:
    held = {
        "instance_id": "a",
        "cluster_epoch": 3,
        "epoch_confirmed": True,
        "last_sequence": 10,
        "fenced": False,
    }
    return Seat(**{**held, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("holder", "former", "claim", "verdict"),
    [
        (seat(), None, Claim("a", 3, 11), Verdict.CURRENT),
        (seat(), None, Claim("a", 2, 11), Verdict.CURRENT),
        (seat(), None, Claim("a", 3, 10), Verdict.REPLAYED),
        (seat(fenced=True), None, Claim("a", 3, 11), Verdict.FENCED),
        (seat(fenced=True), None, Claim("a", 3, 10), Verdict.REPLAYED),
        (seat(instance_id=""), None, Claim("b", 0, 1), Verdict.TAKES_OVER),
        (seat(), None, Claim("b", 3, 1), Verdict.TAKES_OVER),
        (seat(), None, Claim("b", 2, 1), Verdict.SUPERSEDED),
        (seat(epoch_confirmed=False), None, Claim("b", 2, 1), Verdict.TAKES_OVER),
        (seat(epoch_confirmed=False), None, Claim("b", 1, 1), Verdict.SUPERSEDED),
        (seat(fenced=True), None, Claim("b", 3, 1), Verdict.FENCED),
        (seat(), Former(5, told=False), Claim("b", 3, 5), Verdict.REPLAYED),
        (seat(), Former(5, told=False), Claim("b", 2, 6), Verdict.SUPERSEDED),
        (seat(), Former(6, told=True), Claim("b", 3, 6), Verdict.REPLAYED),
        (seat(), Former(6, told=True), Claim("b", 3, 7), Verdict.DUPLICATE),
        (seat(fenced=True), Former(7, told=True), Claim("b", 3, 8), Verdict.FENCED),
    ],
)
def test_every_row_of_the_table(holder: Seat, former: Former | None, claim: Claim, verdict: Verdict) -> None:
    """Each claim means one thing."""
    assert judge(holder, former, claim) is verdict


@given(
    epoch=st.integers(0, 6),
    sequence=st.integers(0, 20),
    instance=st.sampled_from(["a", "b", "c"]),
    confirmed=st.booleans(),
    former=st.none() | st.builds(Former, st.integers(0, 20), told=st.booleans()),
)
def test_a_fence_is_lifted_by_no_claim(
    epoch: int, sequence: int, instance: str, confirmed: bool, former: Former | None
) -> None:
    """Whatever an instance says, a fenced cluster stays fenced."""
    verdict = judge(seat(fenced=True, epoch_confirmed=confirmed), former, Claim(instance, epoch, sequence))
    assert verdict in (Verdict.FENCED, Verdict.REPLAYED)
