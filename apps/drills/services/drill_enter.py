"""The one door of a drill's state: the step, its moment, the tables where traffic is kept away, and the event."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from apps.agents.services import organization_tables_compile
from apps.api.problems import Problem
from apps.drills import selectors
from apps.drills.models import Drill
from apps.telemetry.services import event_record
from apps.telemetry.services.event_record import Severity
from controlplane.failover import DRILL_OPEN, DrillEvent, Sample, drill_report, drill_step
from workloadplane.protocol.refusal import Refusal


def drill_enter(*, drill: Drill, event: DrillEvent, at_s: float, now: datetime, because: str = "") -> None:
    """Take one step. ``drill`` is locked, ``at_s`` counts from its start by its driver's clock.

    Raises Problem ``conflict`` where its state does not know the event.
    """
    after = drill_step(drill.state, event)  # type: ignore[arg-type]
    if isinstance(after, Refusal):
        raise Problem("conflict", f"{after.subject} cannot be {event}: {after.remedy}", refusals=[after])
    was_kept_away = _keeps_away(drill)
    drill.state = after
    if event == "injected":
        drill.injected_at_s = at_s
    elif event == "repaired" or (event == "aborted" and _is_broken(drill)):
        drill.repaired_at_s = max(at_s, drill.injected_at_s or 0.0)
    if after not in DRILL_OPEN:
        drill.ended_at_s, drill.ended_at, drill.because = at_s, now, because[:500]
    drill.save()
    if _keeps_away(drill) != was_kept_away:
        organization_tables_compile(organization_id=drill.organization_id)
    say(drill, event)


def drill_conclude(*, drill: Drill, samples: list[Sample], at_s: float, now: datetime) -> None:
    """Store what was measured beside the promise; a difference is an alert. ``drill`` is locked."""
    drill.ended_at_s = at_s
    drill.report = _report(drill, samples)
    event: DrillEvent = "differs" if drill.report["differences"] else "passed"
    drill_enter(drill=drill, event=event, at_s=at_s, now=now)


def drill_abort_locked(
    *, drill: Drill, samples: list[Sample], at_s: float, now: datetime, because: str
) -> None:
    """End it now; what was measured until then is kept. ``drill`` is locked."""
    drill_enter(drill=drill, event="aborted", at_s=at_s, now=now, because=because)
    drill.report = _report(drill, samples)
    drill.save(update_fields=["report"])


def _report(drill: Drill, samples: list[Sample]) -> dict[str, Any]:
    course, promise = selectors.course_of(drill), selectors.promise_of(drill)
    return asdict(drill_report(course, samples, promise, selectors.limits_of(drill)))


def _is_broken(drill: Drill) -> bool:
    return drill.injected_at_s is not None and drill.repaired_at_s is None


def _keeps_away(drill: Drill) -> bool:
    return drill.state == "during" and drill.method == "weights"


def say(drill: Drill, event: DrillEvent) -> None:
    """The event of a step; those of the project's readers, as they name its deployment."""
    severity: Severity
    match event:
        case "injected":
            reason, severity, said = "DrillBegan", "info", f"begins for {drill.deployment}, by {drill.method}"
        case "passed":
            reason, severity, said = "DrillPassed", "info", f"kept what was promised to {drill.deployment}"
        case "differs":
            reason, severity = "DrillDiffers", "error"
            said = f"differs from what was promised to {drill.deployment}: {_differences(drill)}"
        case "aborted":
            reason, severity, said = "DrillAborted", "warning", f"was aborted: {drill.because}"
        case _:
            return
    event_record(
        organization_id=drill.organization_id,
        project_id=drill.project_id,
        deployment_id=drill.deployment_id,
        severity=severity,
        reason=reason,
        message=f"drill {drill} {said} (drill {drill.pk})",
    )


def _differences(drill: Drill) -> str:
    found = (drill.report or {}).get("differences", [])
    return "; ".join(f"{one['promised']}, but {one['measured']}" for one in found)
