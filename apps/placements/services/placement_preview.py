"""What a deployment would get, if it were wanted like this. Writes nothing."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from apps.placements.services.placement_load import placement_load
from controlplane.placement import DeploymentPlan, PlacementPlan, PlacementProblem, WantedDeployment, solve


@dataclass(frozen=True)
class Preview:
    """The entry of one deployment in the plan that would be made, that plan, and the problem it answers."""

    problem: PlacementProblem
    plan: PlacementPlan
    entry: DeploymentPlan


def placement_preview(*, organization_id: UUID, wanted: WantedDeployment, now: datetime) -> Preview:
    """Solve the present world with ``wanted`` in it, in place of the deployment of the same id if there is one."""
    problem = placement_load(organization_id=organization_id, now=now)
    others = tuple(row for row in problem.deployments if row.deployment_id != wanted.deployment_id)
    asked = replace(problem, deployments=(*others, wanted))
    plan = solve(asked)
    return Preview(problem=asked, plan=plan, entry=plan.by_deployment[wanted.deployment_id])
