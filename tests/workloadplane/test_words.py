import pytest

from workloadplane.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "form", "read"),
    [
        (0, "replica", "", "0 replicas"),
        (1, "replica", "", "1 replica"),
        (2, "ready replica", "", "2 ready replicas"),
        (1, "launch", "", "1 launch"),
        (1_234, "search", ",", "1,234 searches"),
        (0.9996, "request", ",.0f", "1 request"),
    ],
)
def test_a_count_is_read_as_people_write_it(count: float, noun: str, form: str, read: str) -> None:
    assert counted(count, noun, form) == read
