"""What would be planned if the world were otherwise. Writes nothing."""

import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.placements import selectors
from apps.placements.asker import asker_of
from apps.placements.comparisons import Comparison, Side
from apps.placements.services.placement_load import placement_load
from apps.placements.what_if import what_if_applied, what_if_read
from controlplane.placement import PlacementPlan, PlacementProblem, plan_decode, solve
from controlplane.placement.questions.what_if import in_force
from controlplane.placement.search.full import full_solve
from controlplane.placement.search.improve import Effort

#: The plan in force may be a search's; so many deployments are searched for a question too, for so long.
SEARCHED_DEPLOYMENTS_MOST = 200
SEARCH_S = 2.0


def placement_what_if(*, actor: Actor, document: Any, now: datetime) -> Comparison:
    """Solve the present world with the changes of a ``what_if`` document in it, beside what is in force.

    Raises Problem ``invalid_document``, with a pointer, for a document that is no question or names what is not there.
    """
    asked = what_if_read(document)
    organization_id = organization_wanted(actor)
    problem = placement_load(organization_id=organization_id, now=now)
    changed = what_if_applied(problem, asked, asker=asker_of(actor))
    before = side_in_force(organization_id=organization_id, problem=problem)
    started = time.monotonic()
    searched = len(changed.deployments) <= SEARCHED_DEPLOYMENTS_MOST
    return Comparison(
        before=before,
        after=Side(plan_generation=None, problem=changed, plan=_planned(changed, searched=searched)),
        solve_s=time.monotonic() - started,
        searched=searched,
    )


def _planned(problem: PlacementProblem, *, searched: bool) -> PlacementPlan:
    """As a full solve would plan it, with less time: what runs moves only where that is worth it."""
    if not searched or not problem.deployments:
        return solve(problem)
    until = time.monotonic() + SEARCH_S
    effort = Effort(left_s=lambda: until - time.monotonic())
    found = full_solve(problem, effort=effort)
    if found.worth.adopt:
        return found.better
    return replace(found.stay, lower_bound_micro_usd_per_h=found.better.lower_bound_micro_usd_per_h)


def side_in_force(*, organization_id: UUID, problem: PlacementProblem) -> Side:
    """What runs now as a plan for ``problem``, with the words and the generation of the newest stored one."""
    stored = selectors.plan_newest(organization_id=organization_id)
    return Side(
        plan_generation=stored.plan_generation if stored else None,
        problem=problem,
        plan=in_force(problem, plan_decode(stored.plan) if stored else None),
    )
