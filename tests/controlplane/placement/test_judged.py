"""Solver against certificate, on worlds with everything in them: what the one promises the other must find."""

from hypothesis import given, settings

from controlplane.placement import PlacementPlan, PlacementProblem, certify, plan_cost, priced, solve
from tests.controlplane.placement.random_worlds import whole_problems
from tests.controlplane.placement.worlds import adopted
from tests.support.examples import examples


def check(world: PlacementProblem, plan: PlacementPlan) -> None:
    """No hard rule is broken, and no promise but those that the plan says it gave up."""
    certificate = certify(world, plan)
    assert [str(rule) for rule in certificate.broken_rules] == []
    for promise in certificate.promises:
        entry = plan.by_deployment[promise.deployment_id]
        gone = {"survivability", "replicas", "max_replicas"} & {wish.rule for wish in entry.relaxed}
        honest = entry.refusal is not None or gone
        assert promise.kept or honest, promise
    assert plan.objective_micro_usd_per_h == plan_cost(world, plan).total_micro_usd_per_h
    assert priced(world, plan) == plan


@settings(max_examples=examples(400), deadline=None)
@given(whole_problems())
def test_a_plan_keeps_what_it_does_not_give_up(world: PlacementProblem) -> None:
    """Demand, spot, budgets, standbys and what runs already included; once adopted, the plan stays as it is."""
    plan = solve(world)
    check(world, plan)
    after = adopted(world, plan)
    again = solve(after)
    check(after, again)


@settings(max_examples=examples(200), deadline=None)
@given(whole_problems())
def test_whoever_gives_nothing_up_pays_for_no_broken_wish(world: PlacementProblem) -> None:
    """The objective finds broken wishes by itself: they are those that the plan names."""
    plan = solve(world)
    if all(entry.refusal is None and not entry.relaxed for entry in plan.deployments):
        assert plan_cost(world, plan).relaxed_micro_usd_per_h == 0
