"""The tables as text and as JSON, with the machine that they come from."""

import dataclasses
import os
import platform
from pathlib import Path

from tests.benchmarks.gateway import peers
from tests.benchmarks.gateway.rows import Row

_UNITS = {
    "per_s": "/s",
    "cpu_us": "CPU µs",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rss_mb": "RSS MB",
    "before_ms": "p50 ms before",
    "after_ms": "p50 ms with them",
    "after_p99_ms": "p99 ms with them",
    "cached_share": "cached share",
    "of_oracle": "of the oracle's",
    "of_balanced": "of a balanced one's",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p90_ms": "TTFT P90 ms",
    "imbalance": "load max/mean",
    "median_us": "median µs",
}


def machine() -> dict[str, object]:
    """Which machine, and how busy it was with other things."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "peers": peers.versions(),
    }


def table(row: Row) -> str:
    """One measure with its goals."""
    lines = [f"\n### {row.title}\n", "| | " + " | ".join(_UNITS.get(c, c) for c in row.columns) + " |"]
    lines.append("|---|" + "---:|" * len(row.columns))
    for name, figures in row.figures.items():
        cells = [_cell(figures[c]) if c in figures else "" for c in row.columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [""] + [
        f"- {'met   ' if goal.met else 'MISSED'} {goal.text}: {_cell(goal.measured)}"
        f" against {_cell(goal.bound)}"
        for goal in row.goals
    ]
    lines += [f"- failed: {fault}" for fault in row.faults]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def summary(rows: list[Row]) -> str:
    """All goals in one table."""
    lines = ["\n## Goals\n", "| measure | goal | bound | measured | |", "|---|---|---:|---:|---|"]
    for row in rows:
        for goal in row.goals:
            verdict = "met" if goal.met else "**missed**"
            cells = (row.title, goal.text, _cell(goal.bound), _cell(goal.measured), verdict)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_json(rows: list[Row], began: dict[str, object]) -> dict[str, object]:
    """Everything that was measured."""
    told = []
    for row in rows:
        goals = [{**dataclasses.asdict(goal), "met": goal.met} for goal in row.goals]
        told.append({**dataclasses.asdict(row), "goals": goals})
    return {"machine": began, "rows": told}
