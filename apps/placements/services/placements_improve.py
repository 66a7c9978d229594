"""Full solves: everything anew, adopted where what is saved is worth the moves."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from apps.api.clock import database_now
from apps.api.money import usd
from apps.api.services.doorbell_ring import doorbell_ring
from apps.placements import selectors
from apps.placements.models import PlacementClock, SolveKind, SolveOutcome
from apps.placements.rebase import rebased
from apps.placements.services.advisory_lock import FULL_SOLVE_LOCK, SOLVE_LOCK, advisory_lock
from apps.placements.services.placement_apply import placement_apply
from apps.placements.services.placement_decide import Decision, transaction_refuse
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placement_request import SOLVE_TASK
from apps.placements.services.placements_solve import outcome_of
from apps.placements.services.plan_certify import plan_certify
from apps.placements.services.solve_count import solve_count, solve_failed
from apps.telemetry.services import EventFacts, events_record
from controlplane.placement import solve
from controlplane.placement.rules.worth import Worth, worth_by_project
from controlplane.placement.search.full import FullSolve, full_solve
from controlplane.placement.search.improve import Effort

logger = logging.getLogger(__name__)

#: A full solve stops looking for a better plan after so long.
FULL_SOLVE_S = 30.0
#: After so long no further organization is begun with: the next run begins with those that waited longest.
RUN_S = 600.0
#: So long a full solve that was asked for waits for one of the same organization that is at work already.
TURN_WAIT_S = 60.0
#: So long a full solve waits for an event's to end, before its own plan is thrown away.
ADOPTION_WAIT_S = 120.0


def placements_improve() -> None:
    """Solve organizations in full, those first whose last full solve is longest ago; as many as the time allows.

    May run twice, late or beside itself; one that is being solved already, or was since this began, is left out. One
    that fails is logged, counted and told; its last plan stays in force, and it keeps no other waiting.
    """
    began, began_s = database_now(), time.monotonic()
    for organization_id in selectors.organization_ids_by_full_solve():
        if time.monotonic() - began_s > RUN_S:
            logger.warning("full solves take longer than %s s; the rest waits for the next run", RUN_S)
            return
        with advisory_lock(FULL_SOLVE_LOCK, organization_id) as held:
            if held and not selectors.full_solved_since(organization_id=organization_id, moment=began):
                _guarded(organization_id)


def placement_improve(*, organization_id: UUID, asked_at: datetime) -> None:
    """Solve one organization in full, unless that was begun since ``asked_at`` (``full_solve_request``)."""
    with advisory_lock(FULL_SOLVE_LOCK, organization_id, wait_s=TURN_WAIT_S) as held:
        if held and not selectors.full_solved_since(organization_id=organization_id, moment=asked_at):
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
    """Load, solve, and bring what was found into a world that has gone on meanwhile."""
    transaction_refuse("placements_improve")
    started = time.monotonic()
    problem = placement_load(organization_id=organization_id, now=now)
    if not problem.deployments:
        return SolveOutcome.UNCHANGED
    before = selectors.clock(organization_id=organization_id)
    found = full_solve(
        problem,
        effort=Effort(left_s=lambda: started + FULL_SOLVE_S - time.monotonic()),
        gpu_micro_usd_per_h_by_pool=(before.gpu_micro_usd_per_h_by_pool or None) if before else None,
    )
    PlacementClock.objects.filter(organization_id=organization_id).update(
        full_solved_at=now,
        gpu_micro_usd_per_h_by_pool=dict(found.better.gpu_micro_usd_per_h_by_pool),
        lower_bound_micro_usd_per_h=found.better.lower_bound_micro_usd_per_h,
    )
    if not found.changes:
        return SolveOutcome.UNCHANGED
    with advisory_lock(SOLVE_LOCK, organization_id, wait_s=ADOPTION_WAIT_S) as held:
        outcome = _adopt(found, started) if held else SolveOutcome.OVERTAKEN
    doorbell_ring(SOLVE_TASK, str(organization_id))  # events came to a locked door meanwhile
    return outcome


def _adopt(found: FullSolve, started: float) -> SolveOutcome:
    """Weigh and adopt, while no event's plan is made: of what events have overtaken, only they decide."""
    organization_id = UUID(found.problem.organization_id)
    problem = placement_load(organization_id=organization_id, now=database_now())
    if problem != found.problem:
        better = rebased(found.better, made_for=found.problem, now=problem)
        found = FullSolve(problem, stay=solve(problem), better=better)
    if not found.worth.adopt:
        return SolveOutcome.KEPT if found.changes else SolveOutcome.UNCHANGED
    adoption = placement_apply(decision=Decision(problem, found.better, solve_s=time.monotonic() - started))
    if adoption.adopted:
        plan_certify(organization_id=organization_id)
        _tell(organization_id, worth_by_project(problem, stay=found.stay, better=found.better))
    return outcome_of(adoption)


def _tell(organization_id: UUID, found: Mapping[str, Worth]) -> None:
    """Each project what it is to itself: with two projects the sum of both would tell the other's bill."""
    events_record(
        events=[
            EventFacts(
                organization_id=organization_id,
                project_id=UUID(project_id),
                reason="PlanImproved",
                message=f"a full solve {_changes(own.saving_micro_usd_per_h)};"
                f" its moves cost {usd(max(0, own.moves_micro_usd_per_h))} USD/h for some hours",
            )
            for project_id, own in sorted(found.items())
        ]
    )


def _changes(saving_micro_usd_per_h: int) -> str:
    if saving_micro_usd_per_h >= 0:
        return f"saves {usd(saving_micro_usd_per_h)} USD/h"
    return f"costs {usd(-saving_micro_usd_per_h)} USD/h more here and saves more elsewhere"
