"""How far a spool is acknowledged: never past what is missing, and never for ever before it."""

from hypothesis import given
from hypothesis import strategies as st

from apps.telemetry.services.spool_marks import advance


def test_a_gap_in_a_batch_is_not_passed() -> None:
    """What comes after a missing sequence is sent again."""
    assert advance(2, [3, 4, 6]).mark == 4


def test_a_batch_that_begins_above_the_mark_gives_up_what_is_nowhere() -> None:
    """An agent sends its oldest first, so what lies before does not exist any more; it is named."""
    advanced = advance(2, [5, 6])
    assert (advanced.mark, list(advanced.lost)) == (6, [3, 4])


@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(0, 6))
def test_delivery_in_order_acknowledges_everything(sizes: list[int], repeated: int) -> None:
    """Whatever the batches and however often one comes again, the mark ends at the last record and nothing is lost."""
    mark, first = 0, 1
    for size in sizes:
        batch = list(range(max(1, first - repeated), first + size))
        advanced = advance(mark, batch)
        assert not advanced.lost
        mark, first = advanced.mark, first + size
    assert mark == sum(sizes)
