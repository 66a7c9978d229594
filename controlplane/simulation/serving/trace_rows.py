"""The rows of a trace file, some thousands at a time: which column is which, and what a cell says."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.series import FloatArray
from workloadplane.words import counted

#: No line is longer, and no request has more tokens.
LINE_CHARACTERS_MAX = 1_000_000
TOKENS_MAX = 10_000_000
#: No time, number or name is longer; with longer ones a block of rows would not fit into memory.
CELL_CHARACTERS_MAX = 200
#: Nanoseconds since 1970 reach this in the year 2286.
TIME_MAX = 1e19
#: What the columns are called, in lower case; the first is our own word.
NAMES: Mapping[str, tuple[str, ...]] = {
    "timestamp": ("timestamp", "arrived_at", "arrival_time", "time"),
    "input_tokens": ("input_tokens", "contexttokens", "input_length", "prompt_tokens"),
    "output_tokens": ("output_tokens", "generatedtokens", "output_length", "completion_tokens"),
    "deployment": ("deployment", "model"),
}
_NEEDED = ("timestamp", "input_tokens", "output_tokens")
#: Seconds since 1970 stay below this for a thousand years; what lies above counts smaller units.
_UNITS = ((1e17, 1e-9, "nanoseconds"), (1e14, 1e-6, "microseconds"), (1e11, 1e-3, "milliseconds"))


class TraceError(ValueError):
    """A trace that cannot be read, in one sentence: where, what, and what to do."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows as columns, in the file's order. ``at``: seconds since 1970, or since the trace's own zero."""

    first_row: int
    at: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    deployments: Sequence[str] | None
    notes: tuple[str, ...]


def rows_of(lines: Iterable[str], form: str, at_once: int) -> Iterator[Rows]:
    """The rows of ``lines``, counted from 1 without the head. Raises TraceError."""
    lines = bounded(lines)
    if form == "csv":
        head, cells = _csv(lines)
    elif form == "jsonl":
        head, cells = _jsonl(lines)
    else:
        raise TraceError(f"{form!r} is no form of a trace: give csv or jsonl")
    if head is None:
        return
    places = _places(head)
    times = _Times(is_mooncake="input_length" in [name.casefold() for name in head])
    first, chosen = 1, _chosen(cells, places)
    while part := list(islice(chosen, at_once)):
        yield _columns(part, list(places), times, first)
        first += len(part)


def bounded(lines: Iterable[str]) -> Iterator[str]:
    """The same lines, none too long and none that is no text. Raises TraceError."""
    for number, line in enumerate(lines, start=1):
        if len(line) > LINE_CHARACTERS_MAX:
            raise TraceError(
                f"line {number} has more than {LINE_CHARACTERS_MAX:,} characters: is this a trace?"
            )
        if "\x00" in line:
            raise TraceError(f"line {number} holds the character NUL: is this a text file?")
        yield line.removeprefix("\ufeff") if number == 1 else line


def _csv(lines: Iterator[str]) -> tuple[list[str] | None, Iterator[Sequence[str]]]:
    rows = _parsed(csv.reader(line for line in lines if line.strip()))
    head = next(rows, None)
    if head is None:
        return None, iter(())
    return [name.strip() for name in head], _whole(rows, len(head))


def _parsed(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The head, then row by row."""
    number = 0
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            place = f"row {number}" if number else "the head"
            raise TraceError(f"{place} is no CSV ({error}): correct it") from None
        if row is None:
            return
        yield row
        number += 1


def _whole(rows: Iterator[list[str]], width: int) -> Iterator[Sequence[str]]:
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise TraceError(
                f"row {number} has {counted(len(row), 'cell')}, and the head has {width}: give one for each"
            )
        yield row


def _jsonl(lines: Iterator[str]) -> tuple[list[str] | None, Iterator[Sequence[Any]]]:
    decoder = msgspec.json.Decoder()

    def objects() -> Iterator[Mapping[str, Any]]:
        number = 0
        for line in lines:
            if not line.strip():
                continue
            number += 1
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise TraceError(f"row {number} is no JSON ({error}): give one object a line") from None
            if not isinstance(row, dict):
                raise TraceError(
                    f"row {number} is {type(row).__name__}, not an object: give one object a line"
                )
            yield row

    found = objects()
    first = next(found, None)
    if first is None:
        return None, iter(())
    head = list(first)
    return head, ([row.get(name) for name in head] for row in chain([first], found))


def _places(head: Sequence[str]) -> dict[str, int]:
    names = [name.casefold() for name in head]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TraceError(f"the column {min(twice)!r} is there twice: leave one of them away")
    places: dict[str, int] = {}
    for column, known in NAMES.items():
        for name in known:
            if name in names:
                places[column] = names.index(name)
                break
    for column in _NEEDED:
        if column not in places:
            there = ", ".join(repr(name[:40]) for name in head[:20])
            raise TraceError(
                f"no column says the {column} of a request; there are: {there}. "
                f"Call it one of: {', '.join(NAMES[column])}"
                + ("" if len(head) > 1 else "; and part columns with commas")
            )
    return places


def _chosen(rows: Iterator[Sequence[Any]], places: Mapping[str, int]) -> Iterator[Sequence[Any]]:
    """Of each row what is read, in the order of ``places``: the rest may be long, and is let go of."""
    take = itemgetter(*places.values())
    for number, row in enumerate(rows, start=1):
        chosen = take(row)
        for cell in chosen:
            if hasattr(cell, "__len__") and len(cell) > CELL_CHARACTERS_MAX:
                column = next(name for name, place in places.items() if row[place] is cell)
                raise TraceError(
                    f"row {number}, {column} {_shown(cell)}: longer than {CELL_CHARACTERS_MAX} characters; "
                    "is this the right column?"
                )
        yield chosen


def _columns(part: Sequence[Sequence[Any]], names: Sequence[str], times: "_Times", first: int) -> Rows:
    columns = dict(zip(names, zip(*part, strict=True), strict=True))
    at = times.read(columns["timestamp"], first)
    counts = {name: _counts(columns[name], name, first) for name in ("input_tokens", "output_tokens")}
    named = columns.get("deployment")
    return Rows(
        first_row=first,
        at=at,
        input_tokens=counts["input_tokens"],
        output_tokens=counts["output_tokens"],
        deployments=None if named is None else [str(name) for name in named],
        notes=times.notes,
    )


def _counts(cells: Sequence[Any], column: str, first: int) -> IntArray:
    """Whole numbers of tokens. The quick way is the usual one; the slow one finds what is wrong where."""
    quick = _quick(cells)
    if quick is not None and (np.isfinite(quick) & (quick >= 0) & (quick <= TOKENS_MAX)).all():
        whole = quick.astype(np.int64)
        if (whole == quick).all():
            return whole
    for number, cell in enumerate(cells, start=first):
        why = _why_no_count(cell)
        if why is not None:
            raise TraceError(f"row {number}, {column} {_shown(cell)}: {why}")
    return np.array([int(float(cell)) for cell in cells], dtype=np.int64)


def _quick(cells: Sequence[Any]) -> FloatArray | None:
    """The cells as numbers at once, where all are texts of some or all are numbers; else None."""
    if set(map(type, cells)) not in ({str}, {int}, {float}, {int, float}):
        return None
    try:
        return np.array(cells).astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        return None


def _why_no_count(cell: Any) -> str | None:
    value = _number(cell)
    if value is None:
        return "not a number; give a whole number of tokens"
    if value < 0:
        return "less than nothing; give 0 or more, or leave the row away"
    if value > TOKENS_MAX:
        return f"more than {TOKENS_MAX:,}; give tokens, not bytes or characters"
    return None if value == math.floor(value) else "not whole; give a whole number of tokens"


def _number(cell: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(cell, bool):
        return None
    try:
        value = float(cell)
    except (ValueError, TypeError, OverflowError):
        return None
    return value if math.isfinite(value) else None


class _Times:
    """Timestamps of one file: numbers or dates, as its first row has it."""

    def __init__(self, *, is_mooncake: bool) -> None:
        self._is_mooncake = is_mooncake
        self._unit: float | None = None
        self._zoned: bool | None = None
        self.notes: tuple[str, ...] = ()

    def read(self, cells: Sequence[Any], first: int) -> FloatArray:
        if self._zoned is None and self._unit is None:
            self._look_at(cells[0], first)
        return self._numbers(cells, first) if self._unit is not None else self._dates(cells, first)

    def _look_at(self, cell: Any, row: int) -> None:
        value = _number(cell)
        if value is None:
            self._zoned = self._date(cell, row).tzinfo is not None
            self.notes = (
                ("times have zones: read as moments",)
                if self._zoned
                else ("times name no zone: read as UTC",)
            )
            return
        self._unit, name = next(
            ((unit, name) for above, unit, name in _UNITS if value > above), (1.0, "seconds")
        )
        if self._is_mooncake and self._unit == 1.0:
            self._unit, name = 1e-3, "milliseconds"
        self.notes = (f"times are read as {name}",)

    def _numbers(self, cells: Sequence[Any], first: int) -> FloatArray:
        quick = _quick(cells)
        if quick is None or not (np.abs(quick) <= TIME_MAX).all():
            for number, cell in enumerate(cells, start=first):
                value = _number(cell)
                if value is None:
                    raise TraceError(
                        f"row {number}, timestamp {_shown(cell)}: not a number, as the first row's is; "
                        "give all times alike"
                    )
                if abs(value) > TIME_MAX:
                    raise TraceError(
                        f"row {number}, timestamp {_shown(cell)}: beyond all time; give seconds since 1970"
                    )
            quick = np.array([float(cell) for cell in cells])
        return quick * (self._unit or 1.0)

    def _dates(self, cells: Sequence[Any], first: int) -> FloatArray:
        found = np.empty(len(cells))
        for place, cell in enumerate(cells):
            if _number(cell) is not None:
                raise TraceError(
                    f"row {first + place}, timestamp {_shown(cell)}: not a date, as the first row's is; "
                    "give all times alike"
                )
            moment = self._date(cell, first + place)
            if (moment.tzinfo is not None) != self._zoned:
                raise TraceError(
                    f"row {first + place}, timestamp {_shown(cell)}: some times name a zone and some don't; "
                    "give all times alike"
                )
            found[place] = (moment if self._zoned else moment.replace(tzinfo=UTC)).timestamp()
        return found

    @staticmethod
    def _date(cell: Any, row: int) -> datetime:
        try:
            return datetime.fromisoformat(cell.strip())
        except (ValueError, AttributeError):
            raise TraceError(
                f"row {row}, timestamp {_shown(cell)}: neither seconds nor a date; "
                "give seconds, or dates such as 2026-11-16 18:17:03.98 or 2026-11-16T18:17:03Z"
            ) from None


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}…"
