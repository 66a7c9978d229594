"""ServeGen's tables of a producer's clients: each with its own rate, burstiness and lengths.

Windows of 600 s: ``client, t, rate, cv, pattern, p1, p2`` (``pattern`` G: gamma gaps, W: Weibull; p1 is the shape, p2
the scale), and quantiles of lengths by client and day: ``client, t, field, q0, …, q1``. A client's rate is taken on
straight lines between the middles of its windows. Its gaps are gamma of the client's mean cv, whatever the pattern:
over more than a few gaps counts of both vary by the cv alone. A client whose lengths are not in the table has the mean
of the others'. Source of the form: Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language
Model Serving in Production" (2025).
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.arrivals import RatePath, overlaid, renewals
from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.lengths import Quantiles
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.trace_rows import TraceError, bounded

WINDOW_S = 600.0
DAY_S = 86_400.0
#: Of each of hundreds of clients.
REQUESTS_AT_ONCE = 4_096
CV_RANGE = (0.2, 8.0)
#: A window in which all clients together have less than this share of the median was not measured.
GAP_SHARE = 0.05
#: Of prompts and of answers.
Lengths = tuple[Quantiles, Quantiles]
_COLUMNS = ("client", "t", "rate", "cv")
#: Where a row's cells go for which there is no column.
_BEYOND = "\0beyond"
_LENGTH_COLUMNS = ("client", "t", "field", "q0", "q1")


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``lengths``: by day, prompts' and answers'."""

    name: str
    path: RatePath
    cv: float
    lengths: Mapping[int, Lengths]

    def lengths_on(self, day: int) -> Lengths:
        """The lengths of a day; of the last day before it that has any, or of the first."""
        return self.lengths[max((each for each in self.lengths if each <= day), default=min(self.lengths))]


def clients_of(
    clients: Iterable[str],
    lengths: Iterable[str],
    *,
    end_s: float,
    mended: bool = False,
    stepped: bool = False,
) -> tuple[Client, ...]:
    """The clients of both tables' lines (CSV), up to ``end_s``. Raises TraceError.

    mended:  windows that were not measured (``GAP_SHARE``) have rates on straight lines between those around, not 0
    stepped: rates stay the same within a window, instead of being on straight lines between the windows' middles
    """
    rates: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for number, row in _rows(clients, _COLUMNS, "clients"):
        at_s = _cell(row, "t", number, "clients")
        if at_s < end_s:
            rate, cv = _cell(row, "rate", number, "clients"), _cell(row, "cv", number, "clients")
            rates[row["client"]].append((at_s, rate, cv))
    by_client = _lengths(lengths)
    weights = {
        name: sum(rate for _, rate, _ in windows) for name, windows in rates.items() if name in by_client
    }
    if not weights:
        raise TraceError("no client has both rates and lengths: give the two tables of one model")
    typical = _typical(by_client, weights)
    measured = {name: sorted((at_s, rate) for at_s, rate, _ in windows) for name, windows in rates.items()}
    by_window = _mended(measured, end_s) if mended else measured
    found = []
    for name, windows in rates.items():
        mean_cv = sum(rate * cv for _, rate, cv in windows) / (sum(rate for _, rate, _ in windows) or 1.0)
        cv = min(max(mean_cv, CV_RANGE[0]), CV_RANGE[1])
        path = _path(by_window[name], end_s, stepped=stepped)
        found.append(Client(name, path, cv, by_client.get(name, typical)))
    return tuple(found)


def requests_of(
    clients: Iterable[Client], streams: Streams, *, requests_per_s: float | None = None
) -> Iterator[Batch]:
    """All clients' requests in order of time; the rates scaled to ``requests_per_s`` in the mean, if it is given."""
    chosen = list(clients)
    factor = 1.0 if requests_per_s is None else scale_of(chosen, requests_per_s)
    return overlaid([_of_client(client, factor, streams) for client in chosen])


def scale_of(clients: Sequence[Client], requests_per_s: float) -> float:
    """By what all rates are multiplied so that there are ``requests_per_s`` in the mean."""
    end_s = max(float(client.path.at_s[-1]) for client in clients)
    return requests_per_s * end_s / (sum(client.path.requests for client in clients) or 1.0)


def _of_client(client: Client, factor: float, streams: Streams) -> Iterator[Batch]:
    """Lengths are of a day's middle: a request has those of the day before or after by chance, mostly the nearer one's.

    So they change as slowly as they do, not at midnight. A day without any takes the last one's.
    """
    of_day, of_input, of_output = (
        streams.of(f"{what} {client.name}") for what in ("days", "input tokens", "output tokens")
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
        days = np.floor(batch.at_s / DAY_S - 0.5 + of_day.random(len(batch))).astype(np.int64)
        inputs, outputs = batch.input_tokens.copy(), batch.output_tokens.copy()
        for day in np.unique(days):
            chosen = days == day
            prompt, answer = client.lengths_on(int(day))
            inputs[chosen] = prompt.draw(int(chosen.sum()), of_input)
            outputs[chosen] = answer.draw(int(chosen.sum()), of_output)
        yield Batch(batch.at_s, inputs, outputs)


def _mended(
    rates: Mapping[str, list[tuple[float, float]]], end_s: float
) -> dict[str, list[tuple[float, float]]]:
    """The windows of each, with those in which nobody was measured on straight lines between the ones around."""
    count = math.ceil(end_s / WINDOW_S)
    table = np.zeros((len(rates), count))
    for row, windows in zip(table, rates.values(), strict=True):
        for at_s, rate in windows:
            row[int(at_s // WINDOW_S)] = rate
    total = table.sum(axis=0)
    sound = np.flatnonzero(total >= GAP_SHARE * np.median(total))
    filled = [np.interp(np.arange(count), sound, row[sound]).tolist() for row in table]
    return {
        name: [(place * WINDOW_S, rate) for place, rate in enumerate(row) if rate > 0]
        for name, row in zip(rates, filled, strict=True)
    }


def _path(windows: list[tuple[float, float]], end_s: float, *, stepped: bool) -> RatePath:
    """Zero before and after each run of windows that follow one another."""
    knots: list[tuple[float, float]] = [] if windows else [(0.0, 0.0)]
    for place, (at_s, rate) in enumerate(windows):
        if place == 0 or at_s - windows[place - 1][0] > 1.5 * WINDOW_S:
            knots.append((at_s, 0.0))
        if stepped:
            knots += [(at_s, rate), (at_s + WINDOW_S, rate)]
        else:
            knots.append((at_s + WINDOW_S / 2, rate))
        if place + 1 == len(windows) or windows[place + 1][0] - at_s > 1.5 * WINDOW_S:
            knots.append((at_s + WINDOW_S, 0.0))
    at, per_s = np.array([at for at, _ in knots]), np.array([rate for _, rate in knots])
    kept = at < end_s
    return RatePath(np.append(at[kept], end_s), np.append(per_s[kept], float(np.interp(end_s, at, per_s))))


def _lengths(lines: Iterable[str]) -> dict[str, dict[int, Lengths]]:
    fields: dict[tuple[str, int], dict[str, Quantiles]] = defaultdict(dict)
    names: list[str] = []
    shares: FloatArray | None = None
    for number, row in _rows(lines, _LENGTH_COLUMNS, "lengths"):
        if shares is None:
            names, shares = _shares(row)
        tokens = np.array([_cell(row, name, number, "lengths") for name in names])
        day = int(_cell(row, "t", number, "lengths") // DAY_S)
        fields[row["client"], day][row["field"]] = Quantiles(shares, tokens)
    found: dict[str, dict[int, Lengths]] = defaultdict(dict)
    for (client, day), by_field in fields.items():
        if {"input_tokens", "output_tokens"} <= set(by_field):
            found[client][day] = (by_field["input_tokens"], by_field["output_tokens"])
    return found


def _typical(
    by_client: Mapping[str, Mapping[int, Lengths]], weights: Mapping[str, float]
) -> dict[int, Lengths]:
    """By day, at each share the mean of the clients' lengths, as heavy as their requests: it has the mean of all."""
    found: dict[int, Lengths] = {}
    for day in sorted({day for name in weights for day in by_client[name]}):
        names = [name for name in weights if day in by_client[name]]
        heavy = np.array([weights[name] for name in names])
        heavy = heavy / heavy.sum() if heavy.any() else np.full(len(names), 1.0 / len(names))
        prompts, answers = zip(*(by_client[name][day] for name in names), strict=True)
        found[day] = (_mean_of(prompts, heavy), _mean_of(answers, heavy))
    return found


def _mean_of(quantiles: Sequence[Quantiles], weights: FloatArray) -> Quantiles:
    return Quantiles(quantiles[0].shares, weights @ np.array([each.tokens for each in quantiles]))


def _shares(columns: Iterable[str]) -> tuple[list[str], FloatArray]:
    """The columns of quantiles, and the shares that they are named by, which rise."""
    names = [name for name in columns if name.startswith("q")]
    try:
        shares = np.array([float(name.removeprefix("q")) for name in names])
    except ValueError:
        shares = np.array([np.nan])
    if not (np.diff(shares) > 0).all() or (shares[0], shares[-1]) != (0.0, 1.0):
        raise TraceError(
            f"the table of lengths has the columns {', '.join(names)[:80]}: name quantiles q0 to q1, rising"
        )
    return names, shares


def _rows(lines: Iterable[str], needed: Iterable[str], table: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(bounded(lines), restkey=_BEYOND)
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise TraceError(f"the table of {table} has no column {missing[0]}: give ServeGen's own table")
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if _BEYOND in row or None in row.values():
                raise TraceError(
                    f"{table}, row {number} has more or fewer cells than the head: give one for each"
                )
            yield number, row
    except csv.Error as error:
        raise TraceError(f"{table}, row {number + 1} is no CSV ({error}): correct the row") from None


def _cell(row: Mapping[str, str], column: str, number: int, table: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1e12:
        raise TraceError(f"{table}, row {number}, {column} {row[column]!r}: give a number of 0 or more")
    return value
