"""Ending a drain: what is left of it is called off, and placement may use the place again."""

from datetime import datetime

from apps.api.actors import Actor
from apps.api.problems import Problem, not_found
from apps.api.services import audit_record, one_transaction
from apps.drains.models import Drain
from apps.drains.services.drain_enter import drain_enter


@one_transaction
def drain_lift(*, actor: Actor, drain: Drain, now: datetime) -> Drain:
    """Open it again, at any point.

    Raises Problem ``not_found``, ``conflict`` if it has ended, or a notice or an incident ordered it.
    """
    locked = Drain.objects.select_for_update().filter(pk=drain.pk).first()
    if locked is None:
        raise not_found("drain", str(drain.pk))
    if locked.by_notice and locked.ended_at is None:
        raise Problem(
            "conflict",
            f"{locked} is taken back by its provider: the drain ends by itself when its agent has the notice no more"
            " (where it came from a notice file, remove it there)",
        )
    if locked.by_incident and locked.ended_at is None:
        raise Problem(
            "conflict",
            f"{locked} is lost: the drain ends by itself when its incident is resolved (meridian incidents)",
        )
    before = {"state": locked.state}
    drain_enter(drain=locked, event="lifted", now=now)
    audit_record(actor=actor, action="lifted", subject=locked, before=before, after={"state": locked.state})
    return locked
