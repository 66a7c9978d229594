"""Traces: what is written down is read as it was meant, mended where that is safe and told, else refused by name."""

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.simulation.serving import trace as trace_module
from controlplane.simulation.serving.trace import Trace
from controlplane.simulation.serving.trace_rows import LINE_CHARACTERS_MAX, TraceError

PLAIN = "timestamp,input_tokens,output_tokens"


def csv_of(*rows: str, head: str = PLAIN) -> list[str]:
    return [f"{row}\n" for row in (head, *rows)]


def read(
    lines: Iterable[str], form: str = "csv", **options
) -> tuple[list[tuple[float, int, int]], tuple[str, ...]]:
    """All rows, and what was told of them."""
    trace = Trace(lines, form=form, **options)
    rows = [
        row
        for batch in trace
        for row in zip(
            batch.at_s.round(6).tolist(),
            batch.input_tokens.tolist(),
            batch.output_tokens.tolist(),
            strict=True,
        )
    ]
    assert trace.rows == len(rows)
    return rows, trace.notes


def test_azures_columns_are_read() -> None:
    """Dates with seven digits of a second, without a zone."""
    lines = csv_of(
        "2023-11-16 18:17:03.9799600,4808,10",
        "2023-11-16 18:17:04.0319600,3180,8",
        head="TIMESTAMP,ContextTokens,GeneratedTokens",
    )
    rows, notes = read(lines)
    assert rows == [(0.0, 4808, 10), (0.052, 3180, 8)]
    assert "times name no zone: read as UTC" in notes


def test_mooncakes_rows_are_read() -> None:
    """Its times are milliseconds from its own beginning; the blocks' hashes are no column of ours."""
    lines = [
        '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n',
        "\n",
        '{"timestamp": 3052, "input_length": 7322, "output_length": 490, "hash_ids": [0, 3]}\n',
    ]
    rows, notes = read(lines, "jsonl")
    assert rows == [(0.0, 6758, 500), (3.052, 7322, 490)]
    assert "times are read as milliseconds" in notes


@pytest.mark.parametrize(
    ("first", "second", "apart_s"),
    [
        ("1700000000", "1700000060", 60.0),
        ("1700000000000", "1700000060000", 60.0),
        ("1700000000000000", "1700000060000000", 60.0),
        ("2026-01-01T00:00:00Z", "2026-01-01T02:00:00+01:00", 3600.0),
    ],
)
def test_times_are_taken_in_their_unit_and_zone(first: str, second: str, apart_s: float) -> None:
    """Seconds, or smaller units since 1970; moments with a zone are moments."""
    rows, _ = read(csv_of(f"{first},1,1", f"{second},1,1"))
    assert rows[1][0] == pytest.approx(apart_s)


def test_rows_out_of_order_are_put_in_order_and_told() -> None:
    """As far as they are held back."""
    rows, notes = read(csv_of("5,1,1", "3,2,2", "9,3,3"))
    assert rows == [(0.0, 2, 2), (2.0, 1, 1), (6.0, 3, 3)]
    assert any(note.startswith("1 row came later") for note in notes)


def test_a_row_too_far_from_its_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given already cannot be taken back."""
    monkeypatch.setattr(trace_module, "ROWS_AT_ONCE", 4)
    with pytest.raises(TraceError, match=r"row 13 is .* too late for its place.*sort the file"):
        read(csv_of(*(f"{n + 100},1,1" for n in range(12)), "1,1,1"))


def test_equal_rows_and_silences_are_kept_and_told() -> None:
    """Nobody can know that they are mistakes."""
    rows, notes = read(csv_of("0,1,1", "0,1,1", "4000,1,1"))
    assert len(rows) == 3
    assert any("1 row the same as the row before" in note for note in notes)
    assert any("1 silence of more than 600 s" in note and "1:06:40 at 0:00:00" in note for note in notes)


def test_one_deployment_is_chosen_from_many() -> None:
    """Taken together they are told; a name that is not there is an error that says which are."""
    lines = csv_of("0,1,1,chat", "1,2,2,code", "2,3,3,chat", head=f"{PLAIN},deployment")
    rows, notes = read(lines)
    assert len(rows) == 3
    assert any("2 deployments, taken together as one: chat 2, code 1" in note for note in notes)
    assert [row[1] for row in read(lines, deployment="chat")[0]] == [1, 3]
    with pytest.raises(TraceError, match="no row is of the deployment 'cod'; there are: chat, code"):
        read(lines, deployment="cod")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,-5,1", "row 2, input_tokens '-5': less than nothing; give 0 or more"),
        ("1,5,ten", "row 2, output_tokens 'ten': not a number"),
        ("1,5,", "row 2, output_tokens '': not a number"),
        ("1,nan,1", "row 2, input_tokens 'nan': not a number"),
        ("1,2.5,1", "row 2, input_tokens '2.5': not whole"),
        (
            "1,99999999999,1",
            "row 2, input_tokens '99999999999': more than 10,000,000; give tokens, not bytes",
        ),
        ("soon,5,5", "row 2, timestamp 'soon': not a number, as the first row's is"),
        ("inf,5,5", "row 2, timestamp 'inf': not a number"),
        ("1e300,5,5", "row 2, timestamp '1e300': beyond all time"),
        ("1,5", "row 2 has 2 cells, and the head has 3"),
        ("1,5,5,5", "row 2 has 4 cells, and the head has 3"),
        ("1,\x00,5", "line 3 holds the character NUL"),
        ("1," + "5" * LINE_CHARACTERS_MAX, "line 3 has more than 1,000,000 characters"),
        ("1,5," + "5" * 201, "longer than 200 characters; is this the right column?"),
        ("1," + "5" * 200_000 + ",1", "row 2 is no CSV (field larger than field limit"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: str, said: str) -> None:
    """With its number, column and value, and what to do."""
    with pytest.raises(TraceError) as error:
        read(csv_of("0,5,5", row))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("lines", "form", "said"),
    [
        ([], "csv", "no row"),
        ([PLAIN], "csv", "no row"),
        (["\ufeff" + PLAIN + "\r\n", "\r\n"], "csv", "no row"),
        (["time,input_tokens\n", "1,1\n"], "csv", "no column says the output_tokens"),
        (["timestamp;input_tokens\n", "1;1\n"], "csv", "part columns with commas"),
        ([f"{PLAIN},Timestamp\n", "1,1,1,1\n"], "csv", "'timestamp' is there twice"),
        (["[1]\n"], "jsonl", "row 1 is list, not an object"),
        (["{\n"], "jsonl", "row 1 is no JSON"),
        (
            ['{"timestamp": 0, "input_length": true, "output_length": 1}\n'],
            "jsonl",
            "input_tokens True: not a num",
        ),
        (['{"timestamp": 0, "input_length": 1}\n'], "jsonl", "no column says the output_tokens"),
        (["yesterday,1,1\n"], "parquet", "give csv or jsonl"),
        (
            csv_of("2026-01-01,1,1", "2026-01-01T00:00:00Z,1,1"),
            "csv",
            "some times name a zone and some don't",
        ),
        (
            ['{"timestamp": [0], "input_length": [1], "output_length": [1]}\n'],
            "jsonl",
            "timestamp [0]: neither",
        ),
        (
            ['{"timestamp": 0, "input_length": [1], "output_length": 1}\n'],
            "jsonl",
            "input_tokens [1]: not a num",
        ),
        ([f"{PLAIN}\r1,1,1\r2,2,2"], "csv", "the head is no CSV"),
        (csv_of("2026-01-01,1,1", "5,1,1"), "csv", "row 2, timestamp '5': not a date, as the first row's is"),
        (csv_of("yesterday,1,1"), "csv", "neither seconds nor a date; give seconds, or dates such as"),
    ],
)
def test_a_file_that_is_no_trace_says_why(lines: list[str], form: str, said: str) -> None:
    """Empty, without the columns, of another form."""
    with pytest.raises(TraceError) as error:
        read(lines, form)
    assert said in str(error.value)


def test_more_rows_than_allowed_are_refused() -> None:
    """Where the reader is bounded."""
    with pytest.raises(TraceError, match="more than 2 rows"):
        read(csv_of("0,1,1", "1,1,1", "2,1,1"), rows_max=2)


def test_what_is_not_read_of_a_row_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt beside the numbers may be long: a block of rows must fit into memory all the same."""
    monkeypatch.setattr(trace_module, "ROWS_AT_ONCE", 1000)
    lines = (f"{n},1,1,{chr(97 + n % 26) * 50_000}\n" for n in range(1000))
    tracemalloc.start()
    try:
        rows, _ = read(chain([f"{PLAIN},prompt\n"], lines))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert len(rows) == 1000


def test_a_long_trace_is_read_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are given before the file is at its end, so memory does not grow with it."""
    monkeypatch.setattr(trace_module, "ROWS_AT_ONCE", 8)
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        yield PLAIN
        for number in range(1000):
            taken += 1
            yield f"{number},1,1\n"

    first = next(iter(Trace(lines(), form="csv")))
    assert len(first) == 8
    assert taken < 40


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60))
def test_reading_keeps_every_row(rows: list[tuple[int, int, int]]) -> None:
    """In order of time, those of one moment in the file's order."""
    found, _ = read(csv_of(*(f"{at},{read_},{said}" for at, read_, said in rows)))
    first = min(at for at, _, _ in rows)
    assert found == [(float(at - first), a, b) for at, a, b in sorted(rows, key=lambda row: row[0])]
    assert np.all(np.diff([at for at, _, _ in found]) >= 0)
