"""Whose seat is taken back, whatever is held and whoever claims."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.queueing import HIGH, LOW, NORMAL, Holding, Seat, seat_to_take_back
from workloadplane.gateway.queueing.preemption import CLEAR_REQUESTS, PREEMPTIONS_MAX, Claim

TOKENS = st.integers(0, 100_000).map(float)
CLASSES = st.sampled_from([LOW, NORMAL, HIGH])
SEATS = st.builds(
    Seat,
    st.integers(),
    left=st.integers(1, 5_000).map(float),
    preemptions=st.integers(0, PREEMPTIONS_MAX + 1),
    taken_s=st.floats(0, 1000),
)


@st.composite
def holdings(draw: st.DrawFn) -> list[Holding[int]]:
    """What up to four tenants hold of each class; a tenant was served the same in all classes."""
    served = {tenant: draw(TOKENS) for tenant in "abcd"}
    kinds = draw(st.lists(st.tuples(st.sampled_from("abcd"), CLASSES), unique=True, max_size=8))
    return [
        Holding(tenant, priority, served[tenant], tuple(draw(st.lists(SEATS, min_size=1, max_size=4))))
        for tenant, priority in kinds
    ]


CLAIMS = st.builds(
    Claim,
    st.sampled_from("abcde"),
    CLASSES,
    served=TOKENS,
    cost=st.integers(1, 2_000).map(float),
    usual_cost=st.integers(1, 2_000).map(float),
)


def may(claim: Claim, holding: Holding[int], seat: Seat[int]) -> bool:
    """The rule in its own words."""
    if holding.tenant == claim.tenant or seat.preemptions >= PREEMPTIONS_MAX:
        return False
    if holding.priority != claim.priority:
        return holding.priority < claim.priority
    after_b, after_a = holding.served - seat.left, claim.served + claim.cost
    return after_b - after_a >= CLEAR_REQUESTS * claim.usual_cost


@given(CLAIMS, holdings())
def test_only_who_may_gives_way_and_the_one_with_the_least_reason_to_stay(
    claim: Claim, held: list[Holding[int]]
) -> None:
    """None of one's own, none of a higher class, none of a tenant that is not clearly before, none too often."""
    found = seat_to_take_back(claim, held)
    able = [(each, seat) for each in held for seat in each.seats if may(claim, each, seat)]
    if found is None:
        assert not able
        return
    chosen = [(each, seat) for each, seat in able if seat is found]
    assert chosen
    holding = chosen[0][0]
    assert holding.priority == min(each.priority for each, _ in able)
    rivals = [each for each, _ in able if each.priority == holding.priority]
    assert holding.served == max(each.served for each in rivals)
    same = [seat for each, seat in able if (each.tenant, each.priority) == (holding.tenant, holding.priority)]
    assert found.preemptions == min(seat.preemptions for seat in same)
    assert found.taken_s == max(seat.taken_s for seat in same if seat.preemptions == found.preemptions)


@given(CLAIMS, holdings(), st.integers(1, 2_000).map(float))
def test_a_seat_is_not_taken_back_by_whom_it_was_taken_from(
    claim: Claim, held: list[Holding[int]], usual_cost: float
) -> None:
    """Once the charges have moved with the seat, the stream that gave way has no claim on the one that took it."""
    found = seat_to_take_back(claim, held)
    if found is None:
        return
    giver = next(each for each in held if any(seat is found for seat in each.seats))
    back = Claim(giver.tenant, giver.priority, giver.served - found.left, found.left, usual_cost)
    taken = Seat(0, claim.cost, 0, 0.0)
    takes = Holding(claim.tenant, claim.priority, claim.served + claim.cost, (taken,))
    assert seat_to_take_back(back, [takes]) is None


def test_seats_of_those_who_are_out_of_question_are_not_even_looked_at() -> None:
    """On a busy system nearly all holders are."""

    def looked_at() -> Iterator[Seat[int]]:
        raise AssertionError("looked at")
        yield

    claim = Claim("a", NORMAL, served=1000.0, cost=100.0, usual_cost=100.0)
    held = [Holding("a", LOW, 9e9, looked_at()), Holding("b", NORMAL, 1100.0, looked_at())]
    assert seat_to_take_back(claim, held) is None
