"""Recorded zones: how many instances there were, and what is wrong with a file."""

import json
from typing import Any

import pytest

from controlplane.simulation.serving.spot_trace import CHARACTERS_MAX, spot_trace_of
from controlplane.simulation.serving.trace_rows import TraceError


def test_a_zone_has_what_was_recorded_and_then_what_it_had_last() -> None:
    """Whatever parts the file is read in."""
    text = json.dumps({"metadata": {"gap_seconds": 300, "zone": "a"}, "data": [4, 4, 0.0, 2, 1]})
    trace = spot_trace_of([text[:20], text[20:]], "a.json")
    assert [trace.at(now_s) for now_s in (0, 299, 300, 600, 900, 1200, 1e9)] == [4, 4, 4, 0, 2, 1, 1]
    assert trace.falls_s == (600, 1200)
    assert trace.end_s == 1500


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("{", "a.json is no JSON"),
        ("[" * 5000, "a.json is no JSON"),
        ([], "metadata.gap_seconds is None: give seconds above 0, 86400 at most"),
        ({"metadata": {"gap_seconds": 0}, "data": [1]}, "metadata.gap_seconds is 0"),
        ({"metadata": {"gap_seconds": "300"}, "data": [1]}, "metadata.gap_seconds is '300'"),
        ({"metadata": {"gap_seconds": 300}, "data": []}, "data is []: give"),
        (
            {"metadata": {"gap_seconds": 300}, "data": [1, -1]},
            "row 2 of data is -1: give whole instances of 0 or more",
        ),
        ({"metadata": {"gap_seconds": 300}, "data": [1, 2, 0.5]}, "row 3 of data is 0.5"),
        ({"metadata": {"gap_seconds": 300}, "data": [None]}, "row 1 of data is None"),
        ({"metadata": {"gap_seconds": 300}, "data": [True]}, "row 1 of data is True"),
        ({"metadata": {"gap_seconds": 300}, "data": [10**7]}, "row 1 of data is 10000000"),
    ],
)
def test_what_is_wrong_is_named(read: Any, said: str) -> None:
    """File, value and remedy in one sentence."""
    text = read if isinstance(read, str) else json.dumps(read)
    with pytest.raises(TraceError) as error:
        spot_trace_of([text], "a.json")
    assert said in str(error.value)


def test_a_file_without_an_end_is_left() -> None:
    """Not read into memory whole."""

    def lines() -> Any:
        while True:
            yield "1, " * 1_000_000

    with pytest.raises(TraceError, match=f"more than {CHARACTERS_MAX:,} characters"):
        spot_trace_of(lines(), "a.json")
