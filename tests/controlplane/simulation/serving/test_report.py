"""The report's pictures in a real Chromium, in windows of every width."""

from dataclasses import replace
from itertools import pairwise

import pytest

from controlplane.simulation.serving.report import html_report
from tests.controlplane.simulation.serving.worlds import outcomes, seen_of, world
from tests.support.browser import chromium, watched

#: Left, right and height of each text at an axis, in pixels, and the figure's sides.
_AXES = """
[...document.querySelectorAll("svg.plot")].map(plot => {
  const figure = plot.closest("figure").getBoundingClientRect();
  const boxes = [...plot.querySelectorAll("text")].map(text => text.getBoundingClientRect());
  return [figure.left, figure.right, boxes.map(box => [box.left, box.right, box.height, box.top])];
})
"""


@pytest.mark.slow
def test_axes_are_legible_in_any_window() -> None:
    """On a phone too: as large as elsewhere, inside their figure, and beside one another."""
    played = world(mode="fluid")
    seen = replace(seen_of(played), end_s=14 * 86_400.0)  # whose ticks are the longest
    page = html_report(played, seen, list(outcomes(played, "static:2", "static:8")), "d" * 64)
    with chromium() as browser:
        for width in (390, 1280):
            shown = watched(browser, width=width)
            shown.page.set_content(page)
            plots = shown.page.evaluate(_AXES)
            assert len(plots) == 2
            for left, right, boxes in plots:
                assert all(left < start and end < right and height >= 11 for start, end, height, _ in boxes)
                lowest = max(top for *_, top in boxes)
                ticks = sorted(box for box in boxes if box[3] == lowest)
                assert len(ticks) == 5
                assert all(before[1] < after[0] for before, after in pairwise(ticks))
            assert (shown.overflow_px, shown.complaints) == (0, [])
