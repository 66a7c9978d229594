"""What a drill's driver says: what its clients saw, and that a phase is over."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from apps.api.actors import Actor
from apps.api.problems import Problem, not_found
from apps.api.services import audit_record, one_transaction
from apps.drills import selectors
from apps.drills.models import Drill, DrillSamples
from apps.drills.services.drill_enter import drill_abort_locked, drill_conclude, drill_enter
from controlplane.failover import DRILL_OPEN, guard

#: A batch a second for an hour and more.
BATCHES_MAX: Final = 5000


@one_transaction
def drill_observe(
    *, drill: Drill, sequence: int, elapsed_s: float, samples: Sequence[dict[str, Any]], now: datetime
) -> Drill:
    """Keep a batch (the same one again changes nothing), and end the drill if it costs too much.

    One that has ended already is given back as it is. Raises Problem ``conflict`` for more than can be kept.
    """
    locked = drill_locked(drill)
    if locked.state not in DRILL_OPEN:
        return locked
    if selectors.samples_count(drill=locked) >= BATCHES_MAX:
        raise Problem("conflict", f"{BATCHES_MAX} batches were told already; send fewer, larger ones")
    rows = [
        {name: one[name] for name in ("at_s", "ttft_s", "outcome", "region")} for one in samples
    ]  # as ``Sample``
    DrillSamples.objects.bulk_create(
        [DrillSamples(drill=locked, sequence=sequence, samples=rows)], ignore_conflicts=True
    )
    told = selectors.samples(drill=locked)
    stop = guard(selectors.limits_of(locked), told, elapsed_s=elapsed_s)
    if stop is not None:
        because = f"{stop.rule}: {stop.value}"
        drill_abort_locked(drill=locked, samples=told, at_s=elapsed_s, now=now, because=because)
    return locked


@one_transaction
def drill_go_on(
    *,
    drill: Drill,
    event: Literal["injected", "repaired", "reported"],
    at_s: float,
    now: datetime,
    detected_at_s: float | None = None,
) -> Drill:
    """A phase is over. Raises Problem ``conflict`` where the drill's state does not know that."""
    locked = drill_locked(drill)
    if detected_at_s is not None:
        locked.detected_at_s = detected_at_s
    if event == "reported":
        drill_conclude(drill=locked, samples=selectors.samples(drill=locked), at_s=at_s, now=now)
    else:
        drill_enter(drill=locked, event=event, at_s=at_s, now=now)
    return locked


@one_transaction
def drill_abort(*, actor: Actor, drill: Drill, now: datetime, because: str = "") -> Drill:
    """End it at any point; traffic that was kept away may go there again. Raises Problem ``conflict``."""
    locked = drill_locked(drill)
    before = {"state": locked.state}
    drill_abort_locked(
        drill=locked,
        samples=selectors.samples(drill=locked),
        at_s=max(0.0, (now - locked.started_at).total_seconds()),
        now=now,
        because=because or f"by {actor}",
    )
    audit_record(actor=actor, action="aborted", subject=locked, before=before, after={"state": locked.state})
    return locked


def drill_locked(drill: Drill) -> Drill:
    """The row, locked. Raises Problem ``not_found``."""
    locked = Drill.objects.select_for_update().filter(pk=drill.pk).first()
    if locked is None:
        raise not_found("drill", str(drill.pk))
    return locked
