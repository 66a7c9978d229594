"""The geometry of the console's line charts: values in, SVG paths and labels out.

Charts are drawn on the server so that they need no script and no styles inside the page. A gap in the data is a gap
in the line: a window in which nothing was served has no latency, and zero would be a lie.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH = 380.0
HEIGHT = 150.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 8.0, 20.0

Value = float | None


@dataclass(frozen=True)
class Series:
    """A line: one value for each moment of the chart, None where nothing was measured."""

    label: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Line:
    """A series as drawn. ``kind`` picks colour and dash; ``latest`` is its newest value, printed."""

    label: str
    kind: str
    path: str
    area: str
    latest: str


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    position: float
    label: str


@dataclass(frozen=True)
class Row:
    """A position with the values of all series, printed: the chart for those who can't see it."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class LineChart:
    """Everything a template needs. ``goal`` is the height of a target line, None for none or one out of range."""

    id: str
    title: str
    unit: str
    across: str
    width: float
    height: float
    left: float
    right: float
    middle: float
    lines: tuple[Line, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    goal: float | None
    rows: tuple[Row, ...]
    summary: str
    empty: bool


def line_chart(
    *,
    chart_id: str,
    title: str,
    unit: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
    print_value: Callable[[float], str],
    goal: float | None = None,
) -> LineChart:
    """A chart of up to three series over the same moments. ``goal`` adds a dashed line at that value."""
    return chart(
        chart_id=chart_id,
        title=title,
        unit=unit,
        across="Time (UTC)",
        labels=[moment.strftime("%H:%M:%S") for moment in moments],
        x_ticks=_moments_told(moments),
        series=series,
        print_value=print_value,
        goal=goal,
    )


def chart(
    *,
    chart_id: str,
    title: str,
    unit: str,
    across: str,
    labels: Sequence[str],
    x_ticks: Sequence[tuple[int, str]],
    series: Sequence[Series],
    print_value: Callable[[float], str],
    goal: float | None = None,
    reach: float = 0.0,
) -> LineChart:
    """A chart of up to three series over the same positions; ``x_ticks``: which of them are named, and how.

    reach: the axis goes up to this at least, for charts that are looked at side by side
    """
    known = [value for line in series for value in line.values if value is not None]
    scale = _Scale(positions=len(labels), ceiling=nice_ceiling(max([*known, reach])))
    printed = _printed(print_value)
    lines = _lines(series, scale, printed)
    latest = ", ".join(f"{line.label} {line.latest}" for line in lines)
    return LineChart(
        id=chart_id,
        title=title,
        unit=unit,
        across=across,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        middle=(LEFT + WIDTH - RIGHT) / 2,
        lines=lines,
        y_ticks=tuple(Tick(round(scale.y(level), 1), print_value(level)) for level in scale.levels()),
        x_ticks=tuple(Tick(round(scale.x(index), 1), said) for index, said in x_ticks),
        goal=round(scale.y(goal), 1) if goal is not None and known and goal <= scale.ceiling else None,
        rows=_rows(labels, series, printed),
        summary=f"{title}, newest values: {latest}" if known else f"{title}: no data yet",
        empty=not known,
    )


@dataclass(frozen=True)
class _Scale:
    """Where things are drawn: so many positions across, values from 0 to ``ceiling``."""

    positions: int
    ceiling: float

    def x(self, index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index / max(1, self.positions - 1))

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.ceiling)

    def levels(self) -> tuple[float, ...]:
        """The values that are named beside the axis."""
        return tuple(self.ceiling * i / 3 for i in range(4))


def _printed(print_value: Callable[[float], str]) -> Callable[[Value], str]:
    return lambda value: "–" if value is None else print_value(value)


def _lines(series: Sequence[Series], scale: _Scale, printed: Callable[[Value], str]) -> tuple[Line, ...]:
    """Each series as drawn; under the first there is an area."""
    return tuple(
        Line(
            label=line.label,
            kind=f"s{number}",
            path=_path(line.values, scale.x, scale.y),
            area=_area(line.values, scale.x, scale.y, HEIGHT - BOTTOM) if number == 1 else "",
            latest=printed(next((v for v in reversed(line.values) if v is not None), None)),
        )
        for number, line in enumerate(series, start=1)
    )


def _rows(
    labels: Sequence[str], series: Sequence[Series], printed: Callable[[Value], str]
) -> tuple[Row, ...]:
    """The positions at which anything was measured."""
    return tuple(
        Row(label, tuple(printed(line.values[index]) for line in series))
        for index, label in enumerate(labels)
        if any(line.values[index] is not None for line in series)
    )


def nice_ceiling(value: float) -> float:
    """The top of an axis at or above ``value``, chosen so that its thirds read well."""
    if value <= 0 or not math.isfinite(value):
        return 1.2
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power for step in (1.2, 1.5, 2.1, 3.0, 4.5, 6.0, 7.5, 9.0, 12.0) if value <= step * power
    )


def _path(values: Sequence[Value], x: Callable[[int], float], y: Callable[[float], float]) -> str:
    commands: list[str] = []
    pen_down = False
    for index, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{x(index):.1f} {y(value):.1f}")
        if not pen_down:
            commands.append("h0")  # a lone point is drawn as a dot by the line's round cap
        pen_down = True
    return "".join(commands)


def _area(
    values: Sequence[Value], x: Callable[[int], float], y: Callable[[float], float], floor: float
) -> str:
    commands: list[str] = []
    start: int | None = None
    for index, value in enumerate([*values, None]):
        if value is not None and start is None:
            start = index
        elif value is None and start is not None:
            run = range(start, index)
            tops = "".join(f"L{x(i):.1f} {y(v):.1f}" for i in run if (v := values[i]) is not None)
            commands.append(f"M{x(start):.1f} {floor:.1f}{tops}L{x(index - 1):.1f} {floor:.1f}Z")
            start = None
    return "".join(commands)


def _moments_told(moments: Sequence[datetime]) -> list[tuple[int, str]]:
    """The first, the middle and the last."""
    if len(moments) < 2:
        return []
    span_s = (moments[-1] - moments[0]).total_seconds()
    form = "%H:%M:%S" if span_s <= 900 else "%H:%M"
    picks = [0, (len(moments) - 1) // 2, len(moments) - 1]
    return [(index, moments[index].strftime(form)) for index in picks]


@dataclass(frozen=True)
class Segment:
    """A piece of a stacked bar: from ``start`` over ``length``, both in percent of the bar."""

    kind: str
    label: str
    start: float
    length: float
    printed: str


def stacked_bar(parts: Sequence[tuple[str, str, float, str]], *, whole: float) -> tuple[Segment, ...]:
    """Segments of (kind, label, value, printed value), scaled so that ``whole`` is 100 %."""
    segments: list[Segment] = []
    start = 0.0
    for kind, label, value, printed in parts:
        length = 100.0 * value / whole if whole > 0 else 0.0
        segments.append(Segment(kind, label, round(start, 2), round(length, 2), printed))
        start += length
    return tuple(segments)
