"""One stored plan against another."""

from apps.api.actors import Actor
from apps.api.problems import parameter_problem
from apps.placements import selectors
from apps.placements.comparisons import Comparison, Side
from apps.placements.models import PlacementPlan
from controlplane.placement import PlacementPlan as Plan
from controlplane.placement import PlacementProblem, plan_decode, problem_decode


def plans_compare(*, actor: Actor, plan_generation: str, against: str | None = None) -> Comparison:
    """The plan ``against`` (by default the one before it), and what ``plan_generation`` puts in its place.

    Before an organization's first plan there was nothing. Raises Problem ``not_found``, ``invalid_parameter``.
    """
    after = selectors.plan_get(actor=actor, plan_generation=plan_generation)
    if against is None and after.plan_generation > 1:
        against = str(after.plan_generation - 1)
    if against == str(after.plan_generation):
        raise parameter_problem("against", "is the same plan", value=against, remedy="name another one")
    before = _side(selectors.plan_get(actor=actor, plan_generation=against)) if against else None
    return Comparison(before=before or _nothing(after), after=_side(after))


def _side(row: PlacementPlan) -> Side:
    return Side(
        plan_generation=row.plan_generation,
        problem=problem_decode(row.problem),
        plan=plan_decode(row.plan),
    )


def _nothing(after: PlacementPlan) -> Side:
    problem = PlacementProblem(
        organization_id=str(after.organization_id),
        wanted=0,
        plan_generation=0,
        clusters=(),
        pools=(),
        deployments=(),
    )
    plan = Plan(deployments=(), micro_usd_per_h=0, marginal_micro_usd_per_h=0)
    return Side(plan_generation=None, problem=problem, plan=plan)
