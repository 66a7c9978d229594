"""What a deployment would get, if it were wanted like this. Writes nothing."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from apps.placements.comparisons import Comparison, Side
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placement_what_if import side_in_force
from controlplane.placement import DeploymentPlan, PlacementPlan, PlacementProblem, WantedDeployment, solve


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


def placement_preview(*, organization_id: UUID, wanted: WantedDeployment, now: datetime) -> Preview:
    """Solve the present world with ``wanted`` in it, in place of the deployment of the same id if there is one."""
    problem = placement_load(organization_id=organization_id, now=now)
    others = tuple(row for row in problem.deployments if row.deployment_id != wanted.deployment_id)
    asked = replace(problem, deployments=(*others, wanted))
    plan = solve(asked)
    comparison = Comparison(
        before=side_in_force(organization_id=organization_id, problem=problem),
        after=Side(plan_generation=None, problem=asked, plan=plan),
    )
    return Preview(comparison=comparison, entry=plan.by_deployment[wanted.deployment_id])
