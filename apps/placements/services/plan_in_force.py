"""The plan that a problem's present state was made by, and the problem that it answered.

A stored plan never changes, so the newest of each organization is kept in memory once it was read or written.
"""

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from apps.placements import selectors
from controlplane.placement import PlacementPlan, PlacementProblem, plan_decode, problem_decode

#: Organizations of which a process keeps the newest plan.
_KEPT_MOST: Final = 8
#: Organization id -> (id of the stored plan, problem, plan).
_kept: dict[str, tuple[UUID, PlacementProblem, PlacementPlan]] = {}


@dataclass(frozen=True)
class InForce:
    """The plan in force, with the scarcity prices of the last full solve, and the problem that it answers."""

    problem: PlacementProblem
    plan: PlacementPlan


def plan_in_force(*, problem: PlacementProblem) -> InForce | None:
    """What the problem's present state was made by; None before the first plan."""
    organization_id = UUID(problem.organization_id)
    plan_id = selectors.plan_id_of_generation(
        organization_id=organization_id, plan_generation=problem.plan_generation
    )
    clock = selectors.clock(organization_id=organization_id)
    if plan_id is None or clock is None:
        return None
    answered, plan = plan_stored(plan_id)
    return InForce(answered, replace(plan, gpu_micro_usd_per_h_by_pool=clock.gpu_micro_usd_per_h_by_pool))


def plan_stored(plan_id: UUID) -> tuple[PlacementProblem, PlacementPlan]:
    """A stored plan, and the problem that it answers."""
    for kept_id, problem, plan in list(_kept.values()):
        if kept_id == plan_id:
            return problem, plan
    row = selectors.plan_by_id(plan_id=plan_id)
    problem, plan = problem_decode(row.problem), plan_decode(row.plan)
    plan_keep(plan_id, problem, plan)
    return problem, plan


def plan_keep(plan_id: UUID, problem: PlacementProblem, plan: PlacementPlan) -> None:
    """Keep what was stored, in the place of the organization's former one."""
    if len(_kept) >= _KEPT_MOST and problem.organization_id not in _kept:
        _kept.clear()
    _kept[problem.organization_id] = (plan_id, problem, plan)
