"""Full solves: everything anew, adopted where what is saved is worth the moves."""

import logging
import time
from datetime import datetime
from uuid import UUID

from apps.api.clock import database_now
from apps.api.money import usd
from apps.fleet import selectors as fleet
from apps.placements.models import PlacementClock, SolveKind, SolveOutcome
from apps.placements.services.advisory_lock import FULL_SOLVE_LOCK, advisory_lock
from apps.placements.services.placement_apply import placement_apply
from apps.placements.services.placement_decide import decision_of, transaction_refuse
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placements_solve import outcome_of
from apps.placements.services.solve_count import solve_count, solve_failed
from apps.placements.worth import Worth, worth
from apps.telemetry.services import event_record
from controlplane.placement import solve
from controlplane.placement.search.improve import Effort, improve

logger = logging.getLogger(__name__)

#: A full solve stops looking for a better plan after so long.
FULL_SOLVE_S = 30.0


def placements_improve() -> None:
    """Solve every organization in full. May run twice or late; one that is being solved already is left out.

    One that fails is logged, counted and told; its last plan stays in force, and it keeps no other waiting.
    """
    for organization_id in fleet.organization_ids_with_clusters():
        with advisory_lock(FULL_SOLVE_LOCK, organization_id) as held:
            if held:
                _guarded(organization_id)


def _guarded(organization_id: UUID) -> None:
    started = time.monotonic()
    try:
        outcome = _improve_one(organization_id, database_now())
    except Exception as error:
        logger.exception("the full solve of organization %s failed", organization_id)
        solve_s = time.monotonic() - started
        solve_failed(organization_id=organization_id, kind=SolveKind.FULL, error=error, solve_s=solve_s)
        return
    solve_count(
        organization_id=organization_id,
        kind=SolveKind.FULL,
        outcome=outcome,
        solve_s=time.monotonic() - started,
    )


def _improve_one(organization_id: UUID, now: datetime) -> SolveOutcome:
    """Load, solve, weigh, and adopt the whole of it or nothing: a part may cost more than what it replaces."""
    transaction_refuse("placements_improve")
    started = time.monotonic()
    problem = placement_load(organization_id=organization_id, now=now)
    if not problem.deployments:
        return SolveOutcome.UNCHANGED
    stay = solve(problem)
    effort = Effort(left_s=lambda: started + FULL_SOLVE_S - time.monotonic())
    better = improve(problem, start=stay, effort=effort, seed=problem.wanted)
    PlacementClock.objects.filter(organization_id=organization_id).update(
        full_solved_at=now,
        gpu_micro_usd_per_h_by_pool=dict(better.gpu_micro_usd_per_h_by_pool),
        lower_bound_micro_usd_per_h=better.lower_bound_micro_usd_per_h,
    )
    found = worth(problem, stay=stay, better=better)
    if not found.adopt:
        same = better.deployments == stay.deployments
        return SolveOutcome.UNCHANGED if same else SolveOutcome.KEPT
    decision = decision_of(problem, better, solve_s=time.monotonic() - started)
    adoption = placement_apply(decision=decision, whole=True)
    if adoption.adopted:
        _tell(organization_id, found)
    return outcome_of(adoption)


def _tell(organization_id: UUID, found: Worth) -> None:
    event_record(
        organization_id=organization_id,
        reason="PlanImproved",
        message=f"a full solve saves {usd(found.saving_micro_usd_per_h)} USD/h;"
        f" its moves cost {usd(max(0, found.moves_micro_usd_per_h))} USD/h for some hours",
    )
