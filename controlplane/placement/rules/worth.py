"""Whether a better plan is worth its moves: the rule of stability of decision 0021."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import PlanCost, plan_costs


@dataclass(frozen=True)
class Worth:
    """What ``better`` saves beside ``stay``, and what its moves cost beyond those that ``stay`` makes too."""

    saving_micro_usd_per_h: int
    moves_micro_usd_per_h: int
    hysteresis: float

    @property
    def adopt(self) -> bool:
        """It saves something, and ``hysteresis`` times what its moves cost."""
        least = self.hysteresis * max(0, self.moves_micro_usd_per_h)
        return self.saving_micro_usd_per_h > 0 and self.saving_micro_usd_per_h >= least


def worth(problem: PlacementProblem, *, stay: PlacementPlan, better: PlacementPlan) -> Worth:
    """Compare what two plans cost. ``stay`` moves only what a rule forces."""
    return _worth(problem, plan_costs(problem, stay).values(), plan_costs(problem, better).values())


def worth_by_project(
    problem: PlacementProblem, *, stay: PlacementPlan, better: PlacementPlan
) -> Mapping[str, Worth]:
    """Project id -> what that is to a project by itself, of those to which it is anything; less than nothing too."""
    before, after = plan_costs(problem, stay), plan_costs(problem, better)
    by_project: dict[str, list[str]] = {}
    for deployment in problem.deployments:
        by_project.setdefault(deployment.project_id, []).append(deployment.deployment_id)
    found = {
        project_id: _worth(problem, [before[one] for one in ids], [after[one] for one in ids])
        for project_id, ids in by_project.items()
    }
    return {
        project_id: one
        for project_id, one in found.items()
        if one.saving_micro_usd_per_h or one.moves_micro_usd_per_h
    }


def _worth(
    problem: PlacementProblem, costs_before: Iterable[PlanCost], costs_after: Iterable[PlanCost]
) -> Worth:
    before, after = sum(costs_before, PlanCost()), sum(costs_after, PlanCost())
    moves = after.churn_micro_usd_per_h - before.churn_micro_usd_per_h
    return Worth(
        saving_micro_usd_per_h=before.total_micro_usd_per_h - after.total_micro_usd_per_h + moves,
        moves_micro_usd_per_h=moves,
        hysteresis=problem.weights.hysteresis,
    )


def gap_percent(objective_micro_usd_per_h: int, lower_bound_micro_usd_per_h: int) -> float:
    """By how much a plan is dearer than a bound at most, in percent of the bound.

    0 where there is no bound, or the world has moved since it was proven, so that the plan lies below it.
    """
    if lower_bound_micro_usd_per_h <= 0:
        return 0.0
    over = max(0, objective_micro_usd_per_h - lower_bound_micro_usd_per_h)
    return round(100 * over / lower_bound_micro_usd_per_h, 3)
