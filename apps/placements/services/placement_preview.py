"""What a deployment would get, if it were wanted like this. Writes nothing."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.api.problems import Problem
from apps.deployments.selectors import DeploymentToPlace
from apps.placements.comparisons import Comparison, Side
from apps.placements.services.placement_load import placement_load, placement_load_sound, snapshot
from apps.placements.services.placement_what_if import side_in_force
from apps.placements.soundness import deployment_refusal
from controlplane.placement import DeploymentPlan, PlacementPlan, PlacementProblem, solve


@dataclass(frozen=True)
class Preview:
    """The entry of one deployment in the plan that would be made, and that plan beside what is in force."""

    comparison: Comparison
    entry: DeploymentPlan

    @property
    def problem(self) -> PlacementProblem:
        return self.comparison.after.problem

    @property
    def plan(self) -> PlacementPlan:
        return self.comparison.after.plan


def placement_preview(*, organization_id: UUID, wanted: DeploymentToPlace, now: datetime) -> Preview:
    """Solve the present world with ``wanted`` in it, in place of the deployment of the same id if there is one.

    Raises Problem ``refused`` where it can't be planned with: a profile of its model, say, is out of every range.
    """
    deployment_id = str(wanted.held.deployment_id)
    with snapshot():
        problem = placement_load(organization_id=organization_id, now=now)
        asked, unsound = placement_load_sound(organization_id=organization_id, now=now, supposed=wanted)
    if deployment_id in unsound.deployments:
        refusal = deployment_refusal(wanted.held.name, unsound.deployments[deployment_id])
        raise Problem("refused", f"{refusal.value}; {refusal.remedy}", refusals=[refusal])
    plan = solve(asked)
    comparison = Comparison(
        before=side_in_force(organization_id=organization_id, problem=problem),
        after=Side(plan_generation=None, problem=asked, plan=plan),
    )
    return Preview(comparison=comparison, entry=plan.by_deployment[deployment_id])
