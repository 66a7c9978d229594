"""ServeGen's tables of a producer's clients: each with its own rate, burstiness and lengths.

Windows of 600 s: ``client, t, rate, cv, pattern, p1, p2`` (``pattern`` G: gamma gaps, W: Weibull; p1 is the shape, p2
the scale), and quantiles of lengths by client and day: ``client, t, field, q0, …, q1``. A client's rate is taken on
straight lines between the middles of its windows, its gaps are gamma of the client's mean cv. Source of the form:
Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model Serving in Production" (2025).
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.arrivals import RatePath, overlaid, renewals
from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.lengths import Quantiles
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.trace_rows import TraceError

WINDOW_S = 600.0
DAY_S = 86_400.0
#: Of each of hundreds of clients.
REQUESTS_AT_ONCE = 4_096
CV_RANGE = (0.2, 8.0)
_COLUMNS = ("client", "t", "rate", "cv")
_LENGTH_COLUMNS = ("client", "t", "field", "q0", "q1")


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``lengths``: by day, prompts' and answers'."""

    name: str
    path: RatePath
    cv: float
    lengths: Mapping[int, tuple[Quantiles, Quantiles]]


def clients_of(clients: Iterable[str], lengths: Iterable[str], *, end_s: float) -> tuple[Client, ...]:
    """The clients of both tables' lines (CSV), up to ``end_s``, those without lengths left away. Raises TraceError."""
    rates: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for number, row in _rows(clients, _COLUMNS, "clients"):
        at_s = _cell(row, "t", number, "clients")
        if at_s < end_s:
            rate, cv = _cell(row, "rate", number, "clients"), _cell(row, "cv", number, "clients")
            rates[row["client"]].append((at_s, rate, cv))
    by_client = _lengths(lengths)
    found = []
    for name, windows in rates.items():
        if name in by_client:
            windows.sort()
            mean_cv = sum(rate * cv for _, rate, cv in windows) / (sum(rate for _, rate, _ in windows) or 1.0)
            cv = min(max(mean_cv, CV_RANGE[0]), CV_RANGE[1])
            found.append(Client(name, _path(windows, end_s), cv, by_client[name]))
    if not found:
        raise TraceError("no client has both rates and lengths: give the two tables of one model")
    return tuple(found)


def requests_of(
    clients: Iterable[Client], streams: Streams, *, requests_per_s: float | None = None
) -> Iterator[Batch]:
    """All clients' requests in order of time; the rates scaled to ``requests_per_s`` in the mean, if it is given."""
    chosen = list(clients)
    factor = 1.0
    if requests_per_s is not None:
        end_s = max(float(client.path.at_s[-1]) for client in chosen)
        factor = requests_per_s * end_s / (sum(client.path.requests for client in chosen) or 1.0)
    return overlaid([_of_client(client, factor, streams) for client in chosen])


def _of_client(client: Client, factor: float, streams: Streams) -> Iterator[Batch]:
    """Day by day, as lengths differ by it; a day without any takes the last one's."""
    known = sorted(client.lengths)
    of_input, of_output = (
        streams.of(f"input tokens {client.name}"),
        streams.of(f"output tokens {client.name}"),
    )
    one = next(iter(client.lengths.values()))
    path = client.path.scaled(factor)
    for batch in renewals(
        path,
        cv=client.cv,
        inputs=one[0],
        outputs=one[1],
        streams=streams,
        name=client.name,
        at_once=REQUESTS_AT_ONCE,
    ):
        days = (batch.at_s // DAY_S).astype(np.int64)
        inputs, outputs = batch.input_tokens.copy(), batch.output_tokens.copy()
        for day in np.unique(days):
            of_day = days == day
            nearest = max((each for each in known if each <= day), default=known[0])
            prompt, answer = client.lengths[nearest]
            inputs[of_day] = prompt.draw(int(of_day.sum()), of_input)
            outputs[of_day] = answer.draw(int(of_day.sum()), of_output)
        yield Batch(batch.at_s, inputs, outputs)


def _path(windows: list[tuple[float, float, float]], end_s: float) -> RatePath:
    """Zero before and after each run of windows that follow one another."""
    knots: list[tuple[float, float]] = []
    for place, (at_s, rate, _) in enumerate(windows):
        if place == 0 or at_s - windows[place - 1][0] > 1.5 * WINDOW_S:
            knots.append((at_s, 0.0))
        knots.append((at_s + WINDOW_S / 2, rate))
        if place + 1 == len(windows) or windows[place + 1][0] - at_s > 1.5 * WINDOW_S:
            knots.append((at_s + WINDOW_S, 0.0))
    at, per_s = np.array([at for at, _ in knots]), np.array([rate for _, rate in knots])
    kept = at < end_s
    return RatePath(np.append(at[kept], end_s), np.append(per_s[kept], float(np.interp(end_s, at, per_s))))


def _lengths(lines: Iterable[str]) -> dict[str, dict[int, tuple[Quantiles, Quantiles]]]:
    fields: dict[tuple[str, int], dict[str, Quantiles]] = defaultdict(dict)
    for number, row in _rows(lines, _LENGTH_COLUMNS, "lengths"):
        names = [name for name in row if name.startswith("q")]
        shares = np.array([float(name.removeprefix("q")) for name in names])
        tokens = np.array([_cell(row, name, number, "lengths") for name in names])
        day = int(_cell(row, "t", number, "lengths") // DAY_S)
        fields[row["client"], day][row["field"]] = Quantiles(shares, tokens)
    found: dict[str, dict[int, tuple[Quantiles, Quantiles]]] = defaultdict(dict)
    for (client, day), by_field in fields.items():
        if {"input_tokens", "output_tokens"} <= set(by_field):
            found[client][day] = (by_field["input_tokens"], by_field["output_tokens"])
    return found


def _rows(lines: Iterable[str], needed: Iterable[str], table: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(lines)
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise TraceError(f"the table of {table} has no column {missing[0]}: give ServeGen's own table")
    yield from enumerate(reader, start=1)


def _cell(row: Mapping[str, str], column: str, number: int, table: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1e12:
        raise TraceError(f"{table}, row {number}, {column} {row[column]!r}: give a number of 0 or more")
    return value
