"""One answer to one problem, measured from outside: how long it took, what it costs by ``plan_cost``, what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.placement import PlacementPlan, PlacementProblem, PlanCost, certify, plan_cost

Solver = Callable[[], PlacementPlan]


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan with what it took. ``faults``: hard rules that it breaks, promises that it breaks without saying so."""

    plan: PlacementPlan
    took_s: float
    cost: PlanCost
    faults: tuple[str, ...]

    @property
    def refused(self) -> int:
        return sum(entry.refusal is not None for entry in self.plan.deployments)

    @property
    def relaxed(self) -> int:
        return sum(bool(entry.relaxed) for entry in self.plan.deployments)

    @property
    def bound_micro_usd_per_h(self) -> int:
        """The lower bound that came with the plan; 0 where its solver has none."""
        return self.plan.lower_bound_micro_usd_per_h or 0

    def gap_pct(self, bound_micro_usd_per_h: int) -> float:
        """Per cent above a bound, of what is spent: broken wishes are no money, and would make any gap look small."""
        total = self.cost.total_micro_usd_per_h
        spent = total - self.cost.relaxed_micro_usd_per_h
        return 100 * (total - bound_micro_usd_per_h) / max(1, spent)


def timed(solver: Solver, now: Callable[[], float]) -> tuple[PlacementPlan, float]:
    """A plan, and the seconds that it took by ``now``."""
    began_s = now()
    plan = solver()
    return plan, now() - began_s


def judged(problem: PlacementProblem, plan: PlacementPlan, took_s: float) -> Answer:
    """The plan with its cost and its faults."""
    return Answer(plan, took_s, plan_cost(problem, plan), faults(problem, plan))


def faults(problem: PlacementProblem, plan: PlacementPlan) -> tuple[str, ...]:
    """What the certificate holds against a plan that says nothing of it."""
    certificate = certify(problem, plan)
    said = {
        problem.deployment_by_id[entry.deployment_id].name
        for entry in plan.deployments
        if entry.refusal is not None or entry.relaxed
    }
    unsaid = [text for text in certificate.broken_promises if text.partition(":")[0] not in said]
    return (*(str(rule) for rule in certificate.broken_rules), *unsaid)
