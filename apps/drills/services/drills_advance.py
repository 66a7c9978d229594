"""What time has made of drills: scheduled ones begin, those without a client go on, those past their deadline end."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import transaction

from apps.drills import selectors
from apps.drills.models import Drill, DrillDriver
from apps.drills.services.drill_enter import drill_abort_locked, drill_conclude, drill_enter
from apps.drills.services.drill_start import AROUND_S
from apps.drills.services.schedules import schedule_begin
from apps.placements.services.advisory_lock import advisory_lock
from apps.telemetry import selectors as telemetry
from controlplane.failover import DRILL_OPEN, Sample, guard

logger = logging.getLogger(__name__)

#: The first half of the advisory lock's key; the second is the organization. 7301 to 7305 are others'.
_DRILLS_LOCK: Final = 7306


def drills_advance(*, now: datetime) -> int:
    """Take every step that is due; how many those were. May run twice, late or beside itself.

    One that fails is logged, stays as it is, and keeps no other waiting.
    """
    steps = 0
    for schedule in selectors.schedules_due(now=now):
        with advisory_lock(_DRILLS_LOCK, schedule.organization_id) as held:
            try:
                steps += held and schedule_begin(schedule, now=now)
            except Exception:
                logger.exception("drill schedule %s could not be begun", schedule.pk)
    for drill in selectors.open_drills():
        with advisory_lock(_DRILLS_LOCK, drill.organization_id) as held:
            try:
                steps += held and _advance(drill, now)
            except Exception:
                logger.exception("drill %s could not be carried on", drill.pk)
    return steps


@transaction.atomic
def _advance(drill: Drill, now: datetime) -> bool:
    locked = Drill.objects.select_for_update().filter(pk=drill.pk).first()
    if locked is None or locked.state not in DRILL_OPEN:
        return False
    elapsed_s = max(0.0, (now - locked.started_at).total_seconds())
    if locked.driver == DrillDriver.CLIENT:
        if now <= locked.deadline_at:
            return False
        because = "duration: its client said nothing more until its deadline"
        told = selectors.samples(drill=locked)
        drill_abort_locked(drill=locked, samples=told, at_s=elapsed_s, now=now, because=because)
        return True
    return _driven(locked, _used(locked, now), elapsed_s, now)


def _driven(drill: Drill, samples: Sequence[Sample], elapsed_s: float, now: datetime) -> bool:
    """One without a client: phases end by time, and what was used tells how it went."""
    stop = guard(selectors.limits_of(drill), samples, elapsed_s=elapsed_s)
    if stop is not None:
        because = f"{stop.rule}: {stop.value}"
        drill_abort_locked(drill=drill, samples=list(samples), at_s=elapsed_s, now=now, because=because)
    elif drill.state == "before" and elapsed_s >= AROUND_S:
        drill_enter(drill=drill, event="injected", at_s=elapsed_s, now=now)
    elif drill.state == "during" and elapsed_s >= (drill.injected_at_s or 0.0) + drill.fault_s:
        drill_enter(drill=drill, event="repaired", at_s=elapsed_s, now=now)
    elif drill.state == "after" and elapsed_s >= (drill.repaired_at_s or 0.0) + AROUND_S:
        drill_conclude(drill=drill, samples=list(samples), at_s=elapsed_s, now=now)
    else:
        return False
    return True


def _used(drill: Drill, now: datetime) -> list[Sample]:
    """What gateways have told of real requests; who tried again there is not seen, so each failure counts."""
    rows = telemetry.requests_of_deployment(
        deployment_id=drill.deployment_id, start=drill.started_at, end=now
    )
    return [
        Sample(
            at_s=max(0.0, (row.began_at - drill.started_at).total_seconds()),
            ttft_s=row.ttft_s,
            outcome="failed" if row.failed else "ok",
            region=row.region,
        )
        for row in rows
    ]
