"""Drills that come again: made, ended, and begun when they are due."""

from dataclasses import asdict
from datetime import UTC, datetime, time, timedelta

from django.db import IntegrityError, transaction

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor, system_actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction
from apps.drills.models import DrillDriver, DrillSchedule
from apps.drills.services.drill_preview import drill_preview
from apps.drills.services.drill_start import drill_start
from apps.telemetry.services import event_record
from controlplane.failover import DrillLimits, next_window, takes_capacity


@one_transaction
def schedule_create(
    *,
    actor: Actor,
    kind: str,
    target: str,
    deployment: str,
    every_days: int,
    starts_at_utc: str,
    window_minutes: int,
    fault_s: float,
    limits: DrillLimits,
    now: datetime,
) -> DrillSchedule:
    """By weights alone. Raises Problem ``invalid_document``, ``not_found``, ``already_exists``."""
    if not takes_capacity(kind):  # type: ignore[arg-type]
        remedy = "schedule lose-region or lose-provider; run the others while somebody watches"
        raise field_problem("/kind", "is nothing that comes by itself", value=kind, remedy=remedy)
    preview = drill_preview(actor=actor, kind=kind, target=target, deployment=deployment, method="weights")
    row = DrillSchedule(
        organization_id=organization_wanted(actor),
        project_id=preview.deployment.project_id,
        deployment=preview.deployment.name,
        kind=kind,
        target=target,
        every_days=every_days,
        starts_at_utc=starts_at_utc,
        window_minutes=window_minutes,
        limits=asdict(limits),
        fault_s=fault_s,
        next_at=next_window(
            now.astimezone(UTC),
            every_days=every_days,
            starts_at_utc=time.fromisoformat(starts_at_utc),
            last=None,
        ),
        created_by=str(actor)[:200],
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise Problem("already_exists", f"{kind} {target} is scheduled for {deployment} already") from None
    audit_record(actor=actor, action="scheduled", subject=row, after={"deployment": row.deployment})
    row.refresh_from_db()
    return row


@one_transaction
def schedule_delete(*, actor: Actor, schedule: DrillSchedule) -> None:
    """A drill that is under way goes on."""
    audit_record(
        actor=actor, action="unscheduled", subject=schedule, before={"deployment": schedule.deployment}
    )
    schedule.delete()


def schedule_begin(schedule: DrillSchedule, *, now: datetime) -> bool:
    """Begin it if its window is open, and say when it comes next; whether a drill began.

    While another drill is under way it waits for the window's end. What is refused or was missed is told.
    """
    is_open = now <= schedule.next_at + timedelta(minutes=schedule.window_minutes)
    if not is_open:
        _next(schedule, now, missed="its window passed without it")
        return False
    actor = system_actor("drills", organization_id=schedule.organization_id, project_id=schedule.project_id)
    try:
        schedule.last_drill = drill_start(
            actor=actor,
            kind=schedule.kind,
            target=schedule.target,
            deployment=schedule.deployment,
            method="weights",
            driver=DrillDriver.PLANE,
            fault_s=schedule.fault_s,
            limits=DrillLimits(**schedule.limits),
            now=now,
        )
    except Problem as problem:
        if problem.type_id == "conflict":
            return False  # its turn comes when the other one is over
        _next(schedule, now, missed=problem.detail)
        return False
    _next(schedule, now)
    return True


@transaction.atomic
def _next(schedule: DrillSchedule, now: datetime, missed: str = "") -> None:
    schedule.next_at = next_window(
        now.astimezone(UTC),
        every_days=schedule.every_days,
        starts_at_utc=time.fromisoformat(schedule.starts_at_utc),
        last=schedule.next_at,
    )
    schedule.save(update_fields=["next_at", "last_drill"])
    if missed:
        event_record(
            organization_id=schedule.organization_id,
            project_id=schedule.project_id,
            severity="warning",
            reason="DrillMissed",
            message=f"{schedule} did not begin: {missed}",
        )
