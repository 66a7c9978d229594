"""The one door of a drain's state: the step, its moment, what placement is told, and the event."""

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction

from apps.agents.services.tables_compile import tables_compile
from apps.api.problems import Problem
from apps.drains import selectors
from apps.drains.models import Drain, DrainKind
from apps.fleet.services import pools_touch
from apps.placements.services import placement_request
from apps.telemetry.services import event_record
from apps.telemetry.services.event_record import Severity
from controlplane.failover import ENDED, IN_FORCE, DrainEvent, drain_step
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: State entered -> the event's reason, severity, and what is said of the place.
_SAID: Final[dict[str, tuple[str, Severity, str]]] = {
    "planned": ("DrainPlanned", "info", "is to be empty from {starts_at} on"),
    "moving": ("DrainStarted", "info", "is being drained: {replicas} {are} moved first{risk}"),
    "drained": ("Drained", "info", "is empty"),
    "over": ("DrainOver", "info", "is open again"),
    "cancelled": ("DrainCancelled", "info", "is open again; it was not drained to the end"),
    "refused": ("DrainRefused", "error", "is not drained: {short}"),
}


#: The same where a notice ordered it.
_SAID_BY_NOTICE: Final[dict[str, tuple[str, Severity, str]]] = {
    "moving": (
        "CapacityTakenBack",
        "warning",
        "is taken back by its provider at {deadline_at} ({why}): {replicas} {are} replaced elsewhere",
    ),
    "over": ("CapacityReturned", "info", "is there again: its notice has ended"),
    "cancelled": ("CapacityReturned", "info", "stays: its notice was withdrawn"),
}

#: The same where an incident ordered it.
_SAID_BY_INCIDENT: Final[dict[str, tuple[str, Severity, str]]] = {
    "moving": (
        "CapacityLost",
        "warning",
        "is lost since {lost_at}: its {replicas} {are} replaced elsewhere",
    ),
    "over": ("CapacityReturned", "info", "is sound again, and may be used"),
    "cancelled": ("CapacityReturned", "info", "is sound again, and may be used"),
}


def drain_enter(*, drain: Drain, event: DrainEvent, now: datetime) -> None:
    """Take one step. ``drain`` is locked. Raises Problem ``conflict`` where its state does not know the event."""
    after = drain_step(drain.state, event)  # type: ignore[arg-type]
    if isinstance(after, Refusal):
        raise Problem("conflict", f"{after.subject} cannot be {event}: {after.remedy}", refusals=[after])
    was_in_force = drain.state in IN_FORCE
    drain.state = after
    if after == "drained":
        drain.drained_at = now
    drain.ended_at = now if after in ENDED else None
    if after == "moving" and not was_in_force:
        begin(drain, now)
    drain.save()
    if (after in IN_FORCE) != was_in_force:
        follow(drain)
    say(drain)


def drain_order(drain: Drain, now: datetime) -> None:
    """Store a new one that is in force at once, and say so. Runs in a transaction."""
    begin(drain, now)
    drain.save(force_insert=True)
    drain.refresh_from_db()
    follow(drain)
    say(drain)


@transaction.atomic
def drain_withdraw(drain_id: UUID, now: datetime) -> bool:
    """Open again what nothing orders any more; False where it has ended already."""
    locked = Drain.objects.select_for_update().filter(pk=drain_id, ended_at=None).first()
    if locked is None:
        return False
    drain_enter(drain=locked, event="lifted", now=now)
    return True


def begin(drain: Drain, now: datetime) -> None:
    """From now on nothing new goes there. Locks the pools; ``follow`` comes once the row is saved."""
    drain.moving_since = now
    pool_ids = selectors.pool_ids(drain=drain)
    drain.replicas_at_start = selectors.progress(drain=drain, now=now).here
    pools_touch(pool_ids=pool_ids)


def follow(drain: Drain) -> None:
    """It is in force, or is no more: placement looks at it, and of a node its agent is told. The row is saved."""
    placement_request(organization_id=drain.organization_id)
    if drain.kind == DrainKind.NODE:
        cluster_ids = selectors.cluster_ids(drain=drain)
        tables_compile(cluster_ids=cluster_ids)


def say(drain: Drain) -> None:
    """Record the event of the state that was entered. All projects read it, so it names no deployment."""
    by_itself = _SAID_BY_NOTICE if drain.by_notice else _SAID_BY_INCIDENT if drain.by_incident else {}
    reason, severity, text = by_itself.get(drain.state, _SAID[drain.state])
    short = [f"a deployment {shortfall['value']}" for shortfall in drain.shortfalls]
    said = text.format(
        starts_at=drain.starts_at.strftime("%Y-%m-%d %H:%M UTC") if drain.starts_at else "now",
        deadline_at=drain.deadline_at.strftime("%Y-%m-%d %H:%M:%S UTC") if drain.deadline_at else "once",
        lost_at=drain.lost_at.strftime("%Y-%m-%d %H:%M:%S UTC") if drain.lost_at else "now",
        why=drain.reason,
        replicas=counted(drain.replicas_at_start, "replica"),
        are="is" if drain.replicas_at_start == 1 else "are",
        risk=f" (risk accepted by {drain.accepted_by})" if drain.accept_risk and drain.shortfalls else "",
        short=f"it would leave {'; '.join(short)}",
    )
    event_record(
        organization_id=drain.organization_id,
        severity=severity,
        reason=reason,
        message=f"{drain} {said}",
    )
