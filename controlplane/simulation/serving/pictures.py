"""Pictures as SVG, without a script: lines over time, and bars side by side."""

import math
from collections.abc import Sequence
from html import escape

from controlplane.simulation.serving.outcome import Moment

WIDTH, HEIGHT = 860.0, 220.0
TOP, BOTTOM = 10.0, 24.0
#: Lines are stretched to the width that there is, what is written is not: it stays as large as on any page. Numbers at
#: the axis stand in the padding.
PLOT_STYLE = f"""
.plot{{box-sizing:border-box;display:block;padding:0 12px 0 48px;overflow:visible}}
.plot,.plot svg{{height:{HEIGHT:g}px}}.plot path{{vector-effect:non-scaling-stroke}}"""
_BAR_HEIGHT = 22.0


def replicas_against_demand(moments: Sequence[Moment], *, end_s: float, ceiling: float, title: str) -> str:
    """Demand as an area, ready replicas as a line, wanted ones dashed. ``ceiling``: the top of the axis."""
    top = nice_ceiling(ceiling)

    def x(at_s: float) -> float:
        return WIDTH * at_s / (end_s or 1.0)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / top)

    def stairs(name: str) -> str:
        parts: list[str] = []
        for moment in moments:
            at, level = x(moment.at_s), y(getattr(moment, name))
            parts.append(f"H{at:.1f}V{level:.1f}" if parts else f"M{at:.1f} {level:.1f}")
        return "".join(parts) + f"H{x(end_s):.1f}" if parts else ""

    floor = y(0.0)
    area = f"{stairs('demand')}V{floor:.1f}H{x(0.0):.1f}Z" if moments else ""
    grid = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{y(part):.1f}" y2="{y(part):.1f}"/>'
        f'<text x="-6" y="{y(part) + 4:.1f}" text-anchor="end">{part:g}</text>'
        for part in (0.0, top / 3, 2 * top / 3, top)
    )
    ticks = "".join(
        f'<text x="{25 * part}%" y="{HEIGHT - 6}" text-anchor="{anchor}">{_hours(end_s * part / 4)}</text>'
        for part, anchor in enumerate(("start", "middle", "middle", "middle", "end"))
    )
    return (
        f'<svg class="plot" role="img" aria-label="{escape(title)}">{grid}{ticks}'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none">'
        f'<path class="demand" d="{area}"/><path class="wanted" d="{stairs("wanted")}"/>'
        f'<path class="ready" d="{stairs("ready")}"/></svg></svg>'
    )


def bars(rows: Sequence[tuple[str, float, str]], *, title: str) -> str:
    """(name, value, printed value) each, from nothing to the largest."""
    largest = max((value for _, value, _ in rows), default=0.0) or 1.0
    height = _BAR_HEIGHT * len(rows)
    drawn = "".join(
        f'<text class="name" x="0" y="{place * _BAR_HEIGHT + 15:g}">{escape(name)}</text>'
        f'<rect x="110" y="{place * _BAR_HEIGHT + 4:g}" height="14" rx="2" '
        f'width="{max(1.0, 130 * value / largest):.1f}"/>'
        f'<text x="{116 + 130 * value / largest:.1f}" y="{place * _BAR_HEIGHT + 15:g}">{escape(printed)}</text>'
        for place, (name, value, printed) in enumerate(rows)
    )
    return f'<svg class="bars" viewBox="0 0 320 {height:g}" role="img" aria-label="{escape(title)}">{drawn}</svg>'


def nice_ceiling(value: float) -> float:
    """The top of an axis at or above ``value``, with thirds that read well."""
    if value <= 0 or not math.isfinite(value):
        return 3.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power for step in (1.2, 1.5, 2.1, 3.0, 4.5, 6.0, 7.5, 9.0, 12.0) if value <= step * power
    )


def _hours(seconds: float) -> str:
    if seconds >= 3 * 86_400:
        return f"{seconds / 86_400:.1f} d"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}"
