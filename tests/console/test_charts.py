"""The geometry of charts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.console.charts import HEIGHT, TOP, LineChart, Series, line_chart, nice_ceiling, stacked_bar
from apps.console.formatting import duration

START = datetime(2026, 1, 1, tzinfo=UTC)


def chart_of(*values: float | None, goal: float | None = None) -> LineChart:
    return line_chart(
        chart_id="c",
        title="Latency",
        unit="seconds",
        moments=[START + timedelta(seconds=15 * index) for index in range(len(values))],
        series=[Series("p50", values)],
        print_value=duration,
        goal=goal,
    )


def test_a_moment_without_data_breaks_the_line() -> None:
    """What was not measured is a gap, never a line through zero."""
    path = chart_of(1.0, 1.0, None, 1.0).lines[0].path
    assert path.count("M") == 2
    assert chart_of(None, None).empty


def test_the_table_holds_what_the_picture_shows() -> None:
    """Whoever can't see the chart gets each measured value, and nothing for gaps."""
    rows = chart_of(0.5, None, 2.0).rows
    assert [row.values for row in rows] == [("500 ms",), ("2.0 s",)]


def test_the_newest_measured_value_is_named() -> None:
    """The legend and the summary name the newest value that exists, not the newest moment."""
    chart = chart_of(0.5, 2.0, None)
    assert chart.lines[0].latest == "2.0 s"
    assert chart.summary == "Latency, newest values: p50 2.0 s"


def test_a_goal_beyond_the_axis_is_not_drawn() -> None:
    """A goal far above all values would flatten the line, so it is left out; one in range is drawn inside."""
    assert chart_of(0.1, 0.1, goal=60.0).goal is None
    inside = chart_of(0.1, 0.1, goal=0.05).goal
    assert inside is not None
    assert TOP < inside < HEIGHT


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_the_axis_reaches_every_value(value: float) -> None:
    """No value lies above its axis, and the axis wastes less than half of its height."""
    assert value <= nice_ceiling(value) <= 2 * value


def test_segments_of_a_bar_touch_and_fill_their_share() -> None:
    """Phases follow each other without gaps, and together are their part of the whole."""
    first, second = stacked_bar([("a", "A", 10.0, "10 s"), ("b", "B", 30.0, "30 s")], whole=80.0)
    assert (first.start, first.length, second.start, second.length) == (0.0, 12.5, 12.5, 37.5)


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(None, "–"), (0.0004, "< 1 ms"), (0.34, "340 ms"), (59.7, "1 m"), (125, "2 m 5 s"), (7300, "2 h 1 m")],
)
def test_durations_are_printed_for_people(seconds: float | None, printed: str) -> None:
    """Each magnitude in its own unit; what is not known is a dash, not a zero."""
    assert duration(seconds) == printed
