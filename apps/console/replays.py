"""A person's question to the simulator: what would this traffic have cost, with which policy?

The one place of the control plane that asks it, and nothing is decided by the answer.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from apps.api.field_errors import FieldError
from apps.api.problems import Problem
from apps.console.charts import LineChart, Series, chart
from apps.console.formatting import number
from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.playing import RUNS, Play
from controlplane.simulation.serving.trace_rows import TraceError
from controlplane.simulation.serving.world import ServingWorld, Survey, survey
from controlplane.simulation.serving.world_document import world_of
from workloadplane.words import counted

#: So much is played while somebody waits.
HOURS_MAX = 6.0
ROWS_MAX = 100_000
_POINTS = 144


@dataclass(frozen=True)
class ReplayRow:
    """One policy's figures, printed, and its picture."""

    policy: str
    within_slo: str
    usd: str
    replica_hours: str
    launches: int
    waited_s_p99: float | None
    chart: LineChart


@dataclass(frozen=True)
class Replay:
    """The answer: policies side by side."""

    requests: str
    hours: str
    runs: str
    notes: tuple[str, ...]
    rows: tuple[ReplayRow, ...]


def replay(document: dict[str, Any], *, name: str, data: bytes, policies: Sequence[str]) -> Replay:
    """Play a trace. Raises Problem (``invalid_document``) that names what is wrong with the trace or the numbers."""
    try:
        played = world_of(document, trace=name, rows_max=ROWS_MAX)
    except WorldError as error:
        raise _invalid("/trace" if str(error).startswith("trace") else "/autoscaling", error) from None

    def lines(_: str) -> Iterable[str]:
        return io.StringIO(data.decode("utf-8-sig", errors="replace"), newline="")

    try:
        seen = _survey(played, lines)
        outcomes = [Play(played, seen, policy, lines).run() for policy in policies]
    except TraceError as error:
        raise _invalid("/trace", error) from None
    except WorldError as error:
        raise _invalid("/policies", error) from None
    highest = max(max(each.ready, each.demand) for outcome in outcomes for each in outcome.moments)
    return Replay(
        requests=counted(seen.requests, "request", ","),
        hours=f"{seen.end_s / 3600:.2f}",
        runs=RUNS[outcomes[0].mode],
        notes=seen.notes,
        rows=tuple(_row(place, outcome, highest) for place, outcome in enumerate(outcomes)),
    )


def _survey(played: ServingWorld, lines: Any) -> Survey:
    seen = Survey()
    for seen in survey(played, lines):
        if seen.end_s > HOURS_MAX * 3600:
            raise TraceError(
                f"it lasts more than {HOURS_MAX:g} hours: replay a part of it, or use `meridian simulate --trace`"
            )
    return seen


def _invalid(pointer: str, error: ValueError) -> Problem:
    said = str(error)
    return Problem("invalid_document", said, errors=[FieldError(detail=said, pointer=pointer)])


def _row(place: int, outcome: Outcome, highest: float) -> ReplayRow:
    """``highest``: of all policies, so that their pictures have one scale."""
    moments = outcome.moments[:: max(1, len(outcome.moments) // _POINTS)]
    labels = [_clock(moment.at_s) for moment in moments]
    drawn = chart(
        chart_id=f"replay-{place}",
        title=outcome.policy,
        unit="replicas",
        across="Since the beginning",
        labels=labels,
        x_ticks=[(index, labels[index]) for index in (0, (len(labels) - 1) // 2, len(labels) - 1)],
        series=[
            Series("ready", tuple(moment.ready for moment in moments)),
            Series("demand", tuple(moment.demand for moment in moments)),
        ],
        print_value=number,
        reach=highest,
    )
    return ReplayRow(
        policy=outcome.policy,
        within_slo=f"{100 * outcome.within_slo:.3f} %",
        usd=f"{outcome.usd:,.2f}",
        replica_hours=f"{outcome.replica_hours:,.1f}",
        launches=outcome.launches,
        waited_s_p99=outcome.waited_s_p99,
        chart=drawn,
    )


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
