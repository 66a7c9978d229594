"""What would be planned if the world were otherwise. Writes nothing."""

import time
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.api.actors import Actor
from apps.placements import selectors
from apps.placements.comparisons import Comparison, Side
from apps.placements.services.placement_load import placement_load
from apps.placements.what_if import what_if_applied, what_if_read
from controlplane.placement import PlacementProblem, plan_decode, solve
from controlplane.placement.questions.what_if import in_force


def placement_what_if(*, actor: Actor, document: Any, now: datetime) -> Comparison:
    """Solve the present world with the changes of a ``what_if`` document in it, beside what is in force.

    Raises Problem ``invalid_document``, with a pointer, for a document that is no question or names what is not there.
    """
    asked = what_if_read(document)
    organization_id = organization_wanted(actor)
    problem = placement_load(organization_id=organization_id, now=now)
    changed = what_if_applied(problem, asked, project_id=str(project_wanted(actor)))
    before = side_in_force(organization_id=organization_id, problem=problem)
    started = time.monotonic()
    plan = solve(changed)
    return Comparison(
        before=before,
        after=Side(plan_generation=None, problem=changed, plan=plan),
        solve_s=time.monotonic() - started,
    )


def side_in_force(*, organization_id: UUID, problem: PlacementProblem) -> Side:
    """What runs now as a plan for ``problem``, with the words and the generation of the newest stored one."""
    stored = selectors.plan_newest(organization_id=organization_id)
    return Side(
        plan_generation=stored.plan_generation if stored else None,
        problem=problem,
        plan=in_force(problem, plan_decode(stored.plan) if stored else None),
    )
