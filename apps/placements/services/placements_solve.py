"""Load, decide, apply, until nothing newer is wanted."""

import time
from uuid import UUID

from apps.api.clock import database_now
from apps.api.services.doorbell_ring import doorbell_ring
from apps.placements import selectors
from apps.placements.models import SolveKind, SolveOutcome
from apps.placements.services.advisory_lock import SOLVE_LOCK, advisory_lock
from apps.placements.services.placement_apply import Adoption, placement_apply
from apps.placements.services.placement_decide import placement_decide
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placement_request import SOLVE_TASK
from apps.placements.services.plan_certify import plan_certify
from apps.placements.services.plan_in_force import plan_in_force
from apps.placements.services.solve_count import solve_count, solve_failed

ROUNDS_MAX = 20
FRUITLESS_ROUNDS_MAX = 3


def placements_solve(*, organization_id: UUID) -> int:
    """Bring an organization's placement up to what is wanted; how many rounds that took.

    May run twice, late, or beside itself: one holder of the lock solves, another leaves at once, and whoever holds the
    lock looks again after giving it back, so that no wish falls between them. After ``ROUNDS_MAX`` rounds in an ever
    changing world it makes room for others in the queue and rings again; after ``FRUITLESS_ROUNDS_MAX`` in which the
    world overtook everything it leaves the rest to the periodic reconciliation. A round that fails is counted and told
    (event ``PlacementFailed``), changes nothing, and raises as it failed; the wish stays.
    """
    rounds, fruitless = 0, 0
    while _behind(organization_id):
        with advisory_lock(SOLVE_LOCK, organization_id) as held:
            if not held:
                return rounds
            while _behind(organization_id):
                if fruitless == FRUITLESS_ROUNDS_MAX:
                    return rounds
                if rounds == ROUNDS_MAX:
                    doorbell_ring(SOLVE_TASK, str(organization_id))
                    return rounds
                rounds += 1
                adoption = _round(organization_id)
                fruitless = fruitless + 1 if adoption.stale and not adoption.adopted else 0
    return rounds


def _behind(organization_id: UUID) -> bool:
    clock = selectors.clock(organization_id=organization_id)
    return clock is not None and clock.solved < clock.wanted


def _round(organization_id: UUID) -> Adoption:
    started = time.monotonic()
    try:
        problem = placement_load(organization_id=organization_id, now=database_now())
        decision = placement_decide(problem=problem, in_force=plan_in_force(problem=problem))
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
    return adoption


def outcome_of(adoption: Adoption) -> SolveOutcome:
    """How an adoption is counted."""
    if adoption.adopted:
        return SolveOutcome.ADOPTED
    return SolveOutcome.OVERTAKEN if adoption.stale else SolveOutcome.UNCHANGED
