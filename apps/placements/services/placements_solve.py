"""Load, decide, apply, until nothing newer is wanted."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from apps.api.clock import database_now
from apps.api.services.doorbell_ring import doorbell_ring
from apps.placements import selectors
from apps.placements.models import SolveKind, SolveOutcome
from apps.placements.services.advisory_lock import SOLVE_LOCK, advisory_lock
from apps.placements.services.placement_apply import Adoption, placement_apply
from apps.placements.services.placement_decide import placement_decide
from apps.placements.services.placement_load import placement_load_sound
from apps.placements.services.placement_request import SOLVE_TASK, full_solve_request
from apps.placements.services.plan_certify import plan_certify
from apps.placements.services.plan_in_force import plan_in_force
from apps.placements.services.solve_count import rows_left_out_tell, solve_count, solve_failed
from controlplane.placement import newly_lacking

ROUNDS_MAX = 20
FRUITLESS_ROUNDS_MAX = 3


@dataclass(frozen=True)
class Round:
    """What became of one round, and whether it has refused somebody or given up a wish that was kept before."""

    adoption: Adoption
    gave_up: bool


def placements_solve(*, organization_id: UUID) -> int:
    """Bring an organization's placement up to what is wanted; how many rounds that took.

    May run twice, late, or beside itself: one holder of the lock solves, another leaves at once, and whoever holds the
    lock looks again after giving it back, so that no wish falls between them. After ``ROUNDS_MAX`` rounds in an ever
    changing world it makes room for others in the queue and rings again; after ``FRUITLESS_ROUNDS_MAX`` in which the
    world overtook everything it leaves the rest to the periodic reconciliation. A round that fails is counted and told
    (event ``PlacementFailed``), changes nothing, and raises as it failed; the wish stays.

    An event moves nobody whom it does not touch. So where it has left somebody with less than before, a full solve,
    which moves others too, is asked for: once, whatever the rounds.
    """
    rounds, gave_up = 0, False
    try:
        for done in _rounds(organization_id):
            rounds += 1
            gave_up |= done.gave_up
    finally:
        if gave_up:
            full_solve_request(organization_id=organization_id)
    return rounds


def _rounds(organization_id: UUID) -> Iterator[Round]:
    rounds, fruitless = 0, 0
    while _behind(organization_id):
        with advisory_lock(SOLVE_LOCK, organization_id) as held:
            if not held:
                return
            while _behind(organization_id):
                if fruitless == FRUITLESS_ROUNDS_MAX:
                    return
                if rounds == ROUNDS_MAX:
                    doorbell_ring(SOLVE_TASK, str(organization_id))
                    return
                rounds += 1
                done = _round(organization_id)
                fruitless = fruitless + 1 if done.adoption.stale and not done.adoption.adopted else 0
                yield done


def _behind(organization_id: UUID) -> bool:
    clock = selectors.clock(organization_id=organization_id)
    return clock is not None and clock.solved < clock.wanted


def _round(organization_id: UUID) -> Round:
    started = time.monotonic()
    try:
        problem, unsound = placement_load_sound(organization_id=organization_id, now=database_now())
        rows_left_out_tell(organization_id=organization_id, unsound=unsound)
        in_force = plan_in_force(problem=problem)
        decision = placement_decide(problem=problem, in_force=in_force)
        adoption = placement_apply(decision=decision)
    except Exception as error:
        solve_failed(
            organization_id=organization_id,
            kind=SolveKind.EVENT,
            error=error,
            solve_s=time.monotonic() - started,
        )
        raise
    solve_count(
        organization_id=organization_id,
        kind=SolveKind.EVENT,
        outcome=outcome_of(adoption),
        solve_s=decision.solve_s,
    )
    if adoption.adopted:
        plan_certify(organization_id=organization_id)
    adopted = {str(deployment_id) for deployment_id in adoption.adopted}
    before = in_force.plan if in_force is not None else None
    return Round(adoption, gave_up=bool(newly_lacking(before, decision.plan, adopted)))


def outcome_of(adoption: Adoption) -> SolveOutcome:
    """How an adoption is counted."""
    if adoption.adopted:
        return SolveOutcome.ADOPTED
    return SolveOutcome.OVERTAKEN if adoption.stale else SolveOutcome.UNCHANGED
