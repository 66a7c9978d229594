"""A profile's curve as a picture: one SVG file that needs nothing else."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from meridian.profiling import Measured

_WIDTH, _HEIGHT = 720.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 52.0, 14.0, 44.0, 40.0, 60.0
_INK, _FAINT, _GRID = "#1c2430", "#5b6675", "#d9dee5"
_COLOURS = ("#2457c5", "#b4531f", "#1d7a55")


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    colour: str
    values: tuple[float, ...]
    goal: float | None = None


def curve_svg(
    points: Sequence[Measured],
    *,
    title: str,
    size: int | None = None,
    ttft_goal_s: float | None = None,
    gap_goal_s: float | None = None,
) -> str:
    """Throughput and latencies over concurrency. ``size``: the concurrency that is advised, marked by a line."""
    width = (_WIDTH - _LEFT - _RIGHT - _BETWEEN) / 2
    panels = (
        ("output tokens/s", [_Line("tokens/s", _COLOURS[0], tuple(p.tokens_per_s for p in points))]),
        (
            "seconds, 95 % within",
            [
                _Line("first token", _COLOURS[1], tuple(p.ttft_s_p95 for p in points), ttft_goal_s),
                _Line(
                    "between tokens",
                    _COLOURS[2],
                    tuple(p.inter_token_latency_s_p95 for p in points),
                    gap_goal_s,
                ),
            ],
        ),
    )
    concurrencies = [point.concurrency for point in points]
    drawn = "".join(
        _panel(
            left=_LEFT + number * (width + _BETWEEN),
            width=width,
            said=said,
            concurrencies=concurrencies,
            lines=lines,
            size=size,
        )
        for number, (said, lines) in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">'
        f"<title>{escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{_LEFT:g}" y="18" font-size="13" font-weight="600">{escape(title)}</text>'
        f"{drawn}</svg>\n"
    )


def _panel(
    *,
    left: float,
    width: float,
    said: str,
    concurrencies: Sequence[int],
    lines: Sequence[_Line],
    size: int | None,
) -> str:
    ceiling = 1.1 * max((value for line in lines for value in line.values), default=1.0) or 1.0
    lowest, highest = math.log2(concurrencies[0]), math.log2(concurrencies[-1])

    def x(concurrency: float) -> float:
        share = (math.log2(concurrency) - lowest) / (highest - lowest) if highest > lowest else 0.5
        return left + width * share

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / ceiling)

    parts = [_text(left, _TOP - 10, said, "start")]
    for step in range(4):
        value = ceiling * step / 3
        parts.append(_rule(left, y(value), left + width, y(value), _GRID))
        parts.append(_text(left - 6, y(value) + 4, f"{value:.3g}", "end"))
    below = _HEIGHT - _BOTTOM + 16
    parts.extend(_text(x(each), below, str(each), "middle") for each in concurrencies)
    parts.append(_text(left + width / 2, _HEIGHT - 6, "requests side by side", "middle"))
    if size is not None:
        at = x(min(max(size, concurrencies[0]), concurrencies[-1]))
        parts.append(_rule(at, _TOP, at, _HEIGHT - _BOTTOM, _FAINT, dashed=True))
        parts.append(_text(at - 4, _TOP + 10, str(size), "end"))
    for number, line in enumerate(lines):
        parts.append(_drawn(line, concurrencies, x, y))
        if line.goal is not None and line.goal <= ceiling:
            parts.append(_rule(left, y(line.goal), left + width, y(line.goal), line.colour, dashed=True))
        parts.append(
            f'<text x="{left + width:.1f}" y="{_TOP - 10 - 12 * number:.1f}" text-anchor="end" '
            f'fill="{line.colour}">{escape(line.label)}</text>'
        )
    return "".join(parts)


def _drawn(
    line: _Line, concurrencies: Sequence[int], x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    places = [(x(at), y(value)) for at, value in zip(concurrencies, line.values, strict=True)]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    dots = "".join(
        f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2.5" fill="{line.colour}"/>' for across, down in places
    )
    return f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"/>{dots}'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>'


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_FAINT}">{escape(said)}</text>'
