"""Two plans side by side. Pure; reads and writes nothing."""

from collections.abc import Collection
from dataclasses import dataclass

from apps.placements.asker import Asker
from controlplane.placement import (
    Certificate,
    PlacementPlan,
    PlacementProblem,
    PlanDiff,
    certify,
    plan_diff,
)
from controlplane.placement.rules.worth import gap_percent


@dataclass(frozen=True)
class Spending:
    """What rooms cost together, and what of it is not paid for already."""

    micro_usd_per_h: int
    marginal_micro_usd_per_h: int


def spending(plan: PlacementPlan, deployment_ids: Collection[str]) -> Spending:
    """What a plan spends on these deployments."""
    rows = [
        row
        for entry in plan.deployments
        if entry.deployment_id in deployment_ids
        for row in entry.allocations
    ]
    return Spending(
        micro_usd_per_h=sum(row.micro_usd_per_h for row in rows),
        marginal_micro_usd_per_h=sum(row.marginal_micro_usd_per_h for row in rows),
    )


@dataclass(frozen=True)
class Side:
    """A plan and the problem that it answers. ``plan_generation`` is None where nobody stored it."""

    plan_generation: int | None
    problem: PlacementProblem
    plan: PlacementPlan

    def spending(self, asker: Asker) -> Spending:
        """What the plan spends on those deployments whose sums the asker may see."""
        return spending(self.plan, asker.summed_ids(self.problem))


@dataclass(frozen=True)
class Comparison:
    """What is, or was, and what another plan puts in its place.

    solve_s:  how long the later one took just now
    searched: whether a search by prices followed the greedy answer; then its plan may have a lower bound
    """

    before: Side
    after: Side
    solve_s: float = 0.0
    searched: bool = False

    @property
    def gap_percent(self) -> float | None:
        """By how much the later plan is dearer than any could be, at most; None where nothing was proven."""
        plan = self.after.plan
        cost, bound = plan.objective_micro_usd_per_h, plan.lower_bound_micro_usd_per_h
        if cost is None or bound is None or bound <= 0 < cost:
            return None
        return gap_percent(cost, bound)

    def deployment_ids(self, project_id: str) -> set[str]:
        """Of one project's deployments on either side."""
        return {
            row.deployment_id
            for side in (self.before, self.after)
            for row in side.problem.deployments
            if row.project_id == project_id
        }

    def diff(self, project_id: str) -> PlanDiff:
        """What changes for one project's deployments."""
        return plan_diff(
            self.before.problem,
            self.before.plan,
            self.after.problem,
            self.after.plan,
            only=self.deployment_ids(project_id),
        )

    def certificate(self, deployment_ids: Collection[str]) -> Certificate:
        """What these deployments would survive afterwards."""
        return certify(self.after.problem, self.after.plan, only=deployment_ids)
