"""The judge: what a plan survives, by its own arithmetic."""

from dataclasses import replace

from hypothesis import given, settings

from controlplane.placement import PerformanceProfile, PlacementPlan, PlacementProblem, certify, solve
from tests.controlplane.placement.worlds import problem, problems, wanted


def test_a_plan_spread_over_regions_survives_each_of_them() -> None:
    """Every region's loss leaves what was promised, and the certificate holds."""
    world = problem(wanted(min_replicas=2, survivability="region"))
    certificate = certify(world, solve(world))
    assert certificate.holds
    regions = [loss for loss in certificate.losses if loss.domain.kind == "region"]
    assert {(loss.domain.name, loss.margin, loss.verdict) for loss in regions} == {
        ("eu", 0, "survives"),
        ("us", 0, "survives"),
        ("jp", 0, "survives"),
    }


def test_what_a_plan_cannot_survive_is_said_plainly() -> None:
    """A single replica is lost with its region; nothing was promised, so no promise is broken."""
    world = problem(wanted())
    certificate = certify(world, solve(world))
    assert certificate.holds
    assert {loss.verdict for loss in certificate.losses} == {"lost"}


def test_a_plan_that_breaks_its_promise_is_found_out() -> None:
    """The judge does not trust whoever made the plan."""
    world = problem(wanted(survivability="region"))
    plan = solve(world)
    entry = plan.deployments[0]
    cheated = replace(plan, deployments=(replace(entry, allocations=entry.allocations[:1]),))
    certificate = certify(world, cheated)
    assert not certificate.holds
    assert "chat: losing region us leaves 0 of 1 promised replicas" in certificate.broken_promises


def test_time_to_recover_is_the_longest_measured_cold_start_left() -> None:
    """Phases that were not passed add nothing; without a measurement it is unknown, never 0."""
    world = problem(wanted(survivability="region"))
    assert {loss.recovery_s for loss in certify(world, solve(world)).losses} == {None}
    profile = PerformanceProfile(
        model_version_id="m",
        instance_type_id="i-1",
        tensor_parallel=1,
        requests_per_s=1,
        tokens_per_s=100,
        concurrency=8,
        weight_load_s=30.0,
        engine_start_s=12.5,
    )
    measured = replace(world, profiles=(profile,))
    assert {loss.recovery_s for loss in certify(measured, solve(measured)).losses} == {42.5}


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_judge_agrees_with_losing_each_domain_by_hand(world: PlacementProblem) -> None:
    """Against brute force: take the domain's clusters away and count what is left."""
    plan = solve(world)
    for loss in certify(world, plan).losses:
        gone = {c.cluster_id for c in world.clusters if loss.domain in c.failure_domains}
        assert loss.replicas_left == _left(world, plan, loss.deployment_id, gone)
        survives = loss.replicas_left >= loss.replicas_needed and _any_left(
            world, plan, loss.deployment_id, gone
        )
        assert (loss.verdict == "survives") == survives


def _left(world: PlacementProblem, plan: PlacementPlan, deployment_id: str, gone: set[str]) -> int:
    count = 0
    for row in plan.by_deployment[deployment_id].allocations:
        pool = world.pool_by_id[row.pool_id]
        if pool.cluster_id not in gone and pool.procurement != "spot":
            count += row.min_replicas
    return count


def _any_left(world: PlacementProblem, plan: PlacementPlan, deployment_id: str, gone: set[str]) -> bool:
    rows = plan.by_deployment[deployment_id].allocations
    return any(world.pool_by_id[row.pool_id].cluster_id not in gone for row in rows)
