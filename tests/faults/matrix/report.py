"""What is printed: one table of goals, one row a fault."""

from dataclasses import dataclass

from tests.faults.matrix.cells import Cell, Matrix


@dataclass(frozen=True)
class Measure:
    """A line of the table of goals. ``met``: None where there is no goal."""

    name: str
    goal: str
    value: str
    met: bool | None = None


def goals(measures: list[Measure]) -> str:
    """The table of goals."""
    lines = ["", "| measure | goal | value | |", "|---|---|---|---|"]
    for each in measures:
        verdict = "" if each.met is None else "met" if each.met else "**missed**"
        lines.append(f"| {each.name} | {each.goal} | {each.value} | {verdict} |")
    return "\n".join(lines) + "\n"


CELL_HEAD = (
    "| fault | requests | failed at first | last failed after | nowhere to go | fenced | resumed | error events | "
    "cut with its gateway | settled after | measured late by | wrong |\n|---|" + "---:|" * 11
)


def cell_row(cell: Cell) -> str:
    """One fault, or two."""
    seen = cell.figures
    last = f"{seen.last_failed_s:.1f} s" if seen.failed_first else "–"
    cells = [
        cell.name,
        seen.asked,
        seen.failed_first,
        last,
        seen.nowhere,
        seen.fenced,
        seen.resumed,
        seen.error_events,
        seen.cut,
    ]
    cells += [f"{cell.settled_s:.1f} s", f"{cell.lag_s:.2f} s", len(cell.findings.all())]
    return "| " + " | ".join(str(each) for each in cells) + " |"


def of_matrix(matrix: Matrix) -> list[Measure]:
    """The goals that hold for the whole matrix."""
    found = matrix.findings
    each = {
        "requests lost that had not begun": found.lost,
        "streams begun and lost without resume or error event": found.silent,
        "requests served outside their residency": found.outside,
        "two serving regions in active_passive": found.two_serving,
        "generation or epoch going backwards": found.backwards,
        "faults after which all was not well again": found.unsettled,
    }
    measures = [Measure(name, "0", str(len(seen)), not seen) for name, seen in each.items()]
    cut = sum(cell.figures.cut for cell in matrix.cells)
    name = "streams cut together with the gateway that held their connection"
    return [*measures, Measure(name, "–", f"{cut:,} of {matrix.requests:,}")]


def of_absence(cell: Cell, away_s: float) -> list[Measure]:
    """What clients noticed of a control plane that was away."""
    seen = cell.figures
    told = f"{seen.failed_first} of {seen.asked:,} ({seen.nowhere} of the pair, which fails closed, apart)"
    return [Measure(f"control plane away for {away_s:g} s: added errors", "0", told, seen.failed_first == 0)]
