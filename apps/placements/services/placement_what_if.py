"""What would be planned if the world were otherwise. Writes nothing."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.api.actors import Actor
from apps.placements import selectors
from apps.placements.services.placement_load import placement_load
from apps.placements.what_if import what_if_applied, what_if_read
from controlplane.placement import PlacementPlan, PlacementProblem, plan_decode, solve
from controlplane.placement.what_if import in_force


@dataclass(frozen=True)
class Comparison:
    """What is in force, and what another plan would put in its place.

    plan_generation: of the plan in force; None where there is none yet
    """

    plan_generation: int | None
    problem_old: PlacementProblem
    plan_old: PlacementPlan
    problem_new: PlacementProblem
    plan_new: PlacementPlan
    solve_s: float = 0.0


def placement_what_if(*, actor: Actor, document: Any, now: datetime) -> Comparison:
    """Solve the present world with the changes of a ``what_if`` document in it.

    Raises Problem ``invalid_document``, with a pointer, for a document that is no question or names what is not there.
    """
    asked: Mapping[str, Any] = what_if_read(document)
    organization_id = organization_wanted(actor)
    problem = placement_load(organization_id=organization_id, now=now)
    changed = what_if_applied(problem, asked, project_id=str(project_wanted(actor)))
    generation, plan = plan_in_force(organization_id=organization_id, problem=problem)
    started = time.monotonic()
    solved = solve(changed)
    return Comparison(
        plan_generation=generation,
        problem_old=problem,
        plan_old=plan,
        problem_new=changed,
        plan_new=solved,
        solve_s=time.monotonic() - started,
    )


def plan_in_force(*, organization_id: UUID, problem: PlacementProblem) -> tuple[int | None, PlacementPlan]:
    """What runs now as a plan for ``problem``, with the words of the newest stored one, and that one's generation."""
    stored = selectors.plan_newest(organization_id=organization_id)
    if stored is None:
        return None, in_force(problem, None)
    return stored.plan_generation, in_force(problem, plan_decode(stored.plan))
