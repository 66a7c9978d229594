"""Traces, row by row: what was really asked, whoever wrote it down.

CSV with a head, or JSON lines. The columns are those of Azure's public traces (TIMESTAMP, ContextTokens,
GeneratedTokens), of Mooncake's (timestamp in ms, input_length, output_length) or plain ones (timestamp, input_tokens,
output_tokens, deployment). A row that cannot be read ends it, with its number, column and value and what to do; what
can be mended is mended and told in ``notes``. A million rows take no more memory than a hundred thousand.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import Batch, IntArray
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.trace_rows import Rows, TraceError, rows_of
from workloadplane.words import counted

#: Rows that are read at once, and as many are held back: so far a row may lie from its place in time.
ROWS_AT_ONCE = 65_536
#: A silence of so long is told of, and of so many of them.
SILENCE_S = 600.0
SILENCES_TOLD = 5
DEPLOYMENTS_TOLD = 20
DEPLOYMENTS_MAX = 10_000


@dataclass(slots=True)
class _Held:
    """Rows that are read and not yet given, in order of time; ``number`` is where they stand in the file."""

    at: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    number: IntArray


class Trace:
    """Iterate once. ``notes`` says what was mended or is odd, ``rows`` how many were given; both grow meanwhile.

    Raises TraceError from iterating.
    """

    def __init__(
        self,
        lines: Iterable[str],
        *,
        form: str,
        deployment: str | None = None,
        rows_max: int | None = None,
    ) -> None:
        """``form``: ``csv`` or ``jsonl``. ``deployment``: only its rows. ``rows_max``: more is an error."""
        self.rows = 0
        self._parts = rows_of(lines, form, ROWS_AT_ONCE)
        self._deployment = deployment
        self._rows_max = rows_max
        self._began: float | None = None
        self._last = 0.0
        self._out_of_order = 0
        self._same = 0
        self._silences: list[tuple[float, float]] = []
        self._silences_found = 0
        self._deployments: Counter[str] = Counter()
        self._notes: dict[str, None] = {}

    def __iter__(self) -> Iterator[Batch]:
        held: _Held | None = None
        for part in self._parts:
            for note in part.notes:
                self._notes[note] = None
            fresh = self._chosen(part)
            if fresh is None:
                continue
            held, ready = self._ordered(held, fresh)
            if ready is not None:
                yield self._given(ready)
        if held is None:
            raise TraceError(self._why_empty())
        yield self._given(held)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence each."""
        told = list(self._notes)
        if self._out_of_order:
            told.append(
                f"{counted(self._out_of_order, 'row', ',')} came later than what follows in time: put in order"
            )
        if self._same:
            told.append(f"{counted(self._same, 'row', ',')} the same as the row before in all columns: kept")
        if self._silences_found:
            named = ", ".join(f"{_clock(length)} at {_clock(at)}" for at, length in self._silences)
            told.append(
                f"{counted(self._silences_found, 'silence')} of more than {SILENCE_S:g} s, kept: {named}"
            )
        if len(self._deployments) > 1 and self._deployment is None:
            most = ", ".join(
                f"{name} {rows:,}" for name, rows in self._deployments.most_common(DEPLOYMENTS_TOLD)
            )
            told.append(f"{len(self._deployments)} deployments, taken together as one: {most}")
        return tuple(told)

    def _chosen(self, part: Rows) -> _Held | None:
        numbers = np.arange(part.first_row, part.first_row + len(part.at), dtype=np.int64)
        held = _Held(part.at, part.input_tokens, part.output_tokens, numbers)
        if part.deployments is not None:
            self._deployments.update(part.deployments)
            if len(self._deployments) > DEPLOYMENTS_MAX:
                raise TraceError(
                    f"more than {DEPLOYMENTS_MAX:,} names in the column deployment up to row "
                    f"{part.first_row + len(part.at) - 1}: is it a request's id? Rename the column"
                )
            if self._deployment is not None:
                held = _taken(
                    held, np.array([each == self._deployment for each in part.deployments], dtype=bool)
                )
        elif self._deployment is not None:
            raise TraceError(
                "there is no column deployment to choose by: leave the choice away, or add the column"
            )
        return held if len(held.at) else None

    def _ordered(self, held: _Held | None, fresh: _Held) -> tuple[_Held, _Held | None]:
        """What must still wait for rows that may belong before it, and what need not."""
        together = fresh if held is None else _joined(held, fresh)
        steps = np.diff(fresh.at)
        self._out_of_order += int((steps < 0).sum())
        if held is not None and fresh.at[0] < held.at[-1]:
            self._out_of_order += 1
        if (np.diff(together.at) < 0).any():
            together = _taken(together, np.argsort(together.at, kind="stable"))
        if self._began is not None and together.at[0] < self._last:
            raise TraceError(
                f"row {together.number[0]} is {self._last - together.at[0]:,.0f} s too late for its place: "
                f"rows may lie {ROWS_AT_ONCE:,} rows from where they belong; sort the file by time"
            )
        ready = len(together.at) - ROWS_AT_ONCE
        if ready <= 0:
            return together, None
        return _taken(together, slice(ready, None)), _taken(together, slice(0, ready))

    def _given(self, ready: _Held) -> Batch:
        if self._began is None:
            self._began = self._last = float(ready.at[0])
        at = np.concatenate(([self._last], ready.at))
        gaps = np.diff(at)
        for place in np.flatnonzero(gaps > SILENCE_S):
            self._silences_found += 1
            self._silences.append((float(at[place]) - self._began, float(gaps[place])))
        self._silences = sorted(self._silences, key=lambda silence: -silence[1])[:SILENCES_TOLD]
        alike = (gaps[1:] == 0) & (np.diff(ready.input_tokens) == 0) & (np.diff(ready.output_tokens) == 0)
        self._same += int(alike.sum())
        self._last = float(ready.at[-1])
        self.rows += len(ready.at)
        if self._rows_max is not None and self.rows > self._rows_max:
            raise TraceError(
                f"more than {self._rows_max:,} rows: give a shorter trace, or a part of this one"
            )
        return Batch(ready.at - self._began, ready.input_tokens, ready.output_tokens)

    def _why_empty(self) -> str:
        if self._deployment is not None and self._deployments:
            there = ", ".join(name for name, _ in self._deployments.most_common(DEPLOYMENTS_TOLD))
            return f"no row is of the deployment {self._deployment!r}; there are: {there}"
        return "there is no row in it: give a file with a head and at least one request"


def _taken(held: _Held, which: "slice | IntArray | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> _Held:
    return _Held(held.at[which], held.input_tokens[which], held.output_tokens[which], held.number[which])


def _joined(one: _Held, two: _Held) -> _Held:
    return _Held(
        np.concatenate((one.at, two.at)),
        np.concatenate((one.input_tokens, two.input_tokens)),
        np.concatenate((one.output_tokens, two.output_tokens)),
        np.concatenate((one.number, two.number)),
    )


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
