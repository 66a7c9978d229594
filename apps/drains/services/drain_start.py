"""Ordering a drain: at once, or for a maintenance window."""

from datetime import datetime, timedelta
from uuid import UUID

from apps.api.actors import Actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction
from apps.drains import selectors
from apps.drains.models import Drain
from apps.drains.services.drain_enter import begin, follow, say
from apps.drains.services.drain_preview import Preview, drain_preview, shown_to
from controlplane.failover import begins_at

#: Windows further away than this are a mistake of the year.
FARTHEST = timedelta(days=366)


@one_transaction
def drain_start(
    *,
    actor: Actor,
    organization_id: UUID,
    kind: str,
    name: str,
    now: datetime,
    reason: str = "",
    accept_risk: bool = False,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Drain:
    """Check by its certificate the plan that would be made without it, then begin, or wait for the window.

    starts_at, ends_at: all shall have moved by then, and it opens again then by itself
    accept_risk:        go on though a promise would break; who said so is recorded
    Raises Problem ``refused`` with what would be short for whom, ``invalid_document``, ``conflict``.
    """
    times_check(starts_at, ends_at, now)
    preview = drain_preview(organization_id=organization_id, kind=kind, name=name, now=now)
    risk_check(actor, preview, accept_risk=accept_risk)
    held = selectors.drain_held(organization_id=organization_id, kind=kind, name=name)
    waits = starts_at is not None and now < begins_at(starts_at, preview.expected_s)
    if held is not None and not waits:
        raise Problem("conflict", f"{held} is {held.state} already (drain {held.pk}); lift that one first")
    drain = Drain(
        organization_id=organization_id,
        kind=kind,
        name=name,
        reason=reason,
        state="planned" if waits else "moving",
        accept_risk=accept_risk,
        accepted_by=str(actor)[:200] if accept_risk else "",
        created_by=str(actor)[:200],
        starts_at=starts_at,
        ends_at=ends_at,
        expected_s=preview.expected_s,
        shortfalls=preview.shortfalls(),
    )
    if not waits:
        begin(drain, now)
    drain.save(force_insert=True)
    drain.refresh_from_db()
    after = {
        "kind": kind,
        "name": name,
        "reason": reason,
        "accept_risk": accept_risk,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "shortfalls": [{"rule": short["rule"], "value": short["value"]} for short in drain.shortfalls],
    }
    audit_record(actor=actor, action="created", subject=drain, after=after, organization_id=organization_id)
    if not waits:
        follow(drain)
    say(drain)
    return drain


def times_check(starts_at: datetime | None, ends_at: datetime | None, now: datetime) -> None:
    """Raises Problem ``invalid_document`` for a window that cannot be."""
    for pointer, moment in (("/starts_at", starts_at), ("/ends_at", ends_at)):
        if moment is not None and moment > now + FARTHEST:
            raise field_problem(
                pointer, "is more than a year away", value=moment.isoformat(), remedy="give a nearer moment"
            )
    if ends_at is not None and ends_at <= max(now, starts_at or now):
        remedy = "give a moment after starts_at that is still to come"
        raise field_problem("/ends_at", "leaves no time", value=ends_at.isoformat(), remedy=remedy)


def risk_check(actor: Actor, preview: Preview, *, accept_risk: bool) -> None:
    """Raises Problem ``refused`` where a promise would break and nobody accepted that."""
    if accept_risk or not preview.check.shortfalls:
        return
    refusals = shown_to(actor, preview.shortfalls())
    said = "; ".join(
        f"would leave {refusal.subject.removeprefix('deployment ')} {refusal.value} ({refusal.remedy})"
        for refusal in refusals[:3]
    )
    more = f"; and {len(refusals) - 3} more" if len(refusals) > 3 else ""
    raise Problem(
        "refused",
        f"refused: {said}{more}; set accept_risk (--accept-risk) to go on all the same",
        refusals=refusals,
    )
