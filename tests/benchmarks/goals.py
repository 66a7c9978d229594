"""What a benchmark tells: rows of figures by candidate, the goals they are held against, and both as text."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

Figures = dict[str, float]

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
    "took_s": "s",
    "took_s_worst": "longest s",
    "gap_pct": "above the bound %",
    "usd_per_h": "USD/h",
    "rss_gib": "RSS GiB",
    "gap_pct_worst": "worst %",
    "proven_pct": "proven %",
    "saving_pct": "cheaper by %",
    "least_saving_pct": "at least %",
    "bill_saving_pct": "bill lower by %",
    "least_bill_saving_pct": "bill at least %",
    "unserved_pct": "unserved %",
    "usd": "USD",
    "load_ms": "load ms",
    "decide_ms": "decide ms",
    "apply_ms": "apply ms",
    "whole_ms": "all ms",
    "cpu_ms": "CPU ms",
    "replica_h": "replica-hours",
    "replica_h_per_day": "replica-hours a day",
    "within_pct": "inside the SLO %",
    "launches_per_day": "launches a day",
    "of_clairvoyant": "of the clairvoyant's",
}


@dataclass(frozen=True)
class Goal:
    """``bound`` from the figures of all candidates, and whether what was measured keeps it."""

    text: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


@dataclass
class Row:
    """One measure: figures by candidate, and the goals that they are held against."""

    name: str
    title: str
    columns: tuple[str, ...]
    figures: dict[str, Figures] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
    }


def table(row: Row) -> str:
    """One measure with its goals."""
    titles = [_UNITS.get(column, column.replace("_", " ")) for column in row.columns]
    lines = [f"\n### {row.title}\n", "| | " + " | ".join(titles) + " |"]
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
    lines += [f"- {note}" for note in row.notes]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 99.0 < value < 100.0:  # per cent of nearly all: what lacks counts
        return f"{value:.2f}"
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
