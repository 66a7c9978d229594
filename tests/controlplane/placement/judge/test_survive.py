"""What would still be served if several things were lost at once."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import (
    Demand,
    FailureDomain,
    OriginSurvival,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    TrafficShare,
    certify,
    survive,
)
from tests.controlplane.placement.failures import labels, lose
from tests.controlplane.placement.plans import allocation, plan_of, planned
from tests.controlplane.placement.random_worlds import planned_problems
from tests.controlplane.placement.worlds import POOLS, pool, problem, wanted
from tests.support.examples import examples


def region(name: str) -> FailureDomain:
    return FailureDomain(kind="region", name=name)


PROFILE = PerformanceProfile(
    model_version_id="m",
    instance_type_id="i-1",
    tensor_parallel=1,
    requests_per_s=1.0,
    tokens_per_s=1000.0,
    concurrency=8,
    weight_load_s=40.0,
)


def asked(origin: str, requests_per_s: float) -> Demand:
    return Demand(
        deployment_id="d-chat",
        origin_region=origin,
        requests_per_s_p50=0,
        requests_per_s_p95=requests_per_s,
        tokens_per_s_p50=0,
        tokens_per_s_p95=0,
    )


def test_origins_stay_where_they_are_served_and_the_others_share_what_is_left() -> None:
    """By hand: eu's 2 requests/s lose their cluster; us has 3 replicas for its own 1, so that all of it is served; with
    two left, jp's own 1 stays and eu gets half."""
    world = problem(
        wanted(max_replicas=9), demands=(asked("eu", 2), asked("us", 1), asked("jp", 1)), profiles=(PROFILE,)
    )
    traffic = tuple(
        TrafficShare(origin_region=name, cluster_id=f"c-{name}", share=1.0) for name in ("eu", "us", "jp")
    )
    rows = (
        allocation("p-eu-on_demand", 2),
        allocation("p-us-on_demand", 2),
        allocation("p-jp-on_demand", 1),
    )
    survival = survive(world, plan_of(planned(*rows, traffic=traffic)), (region("eu"),))
    [chat] = survival.deployments
    assert chat.share_now == pytest.approx(1.25)
    assert chat.share_left == pytest.approx(0.75)
    assert chat.verdict == "degraded"
    assert {one.origin_region: one.served_share for one in chat.origins} == {
        "eu": pytest.approx(0.5),
        "us": pytest.approx(1),
        "jp": pytest.approx(1),
    }
    assert survival.served_share == pytest.approx(0.75)


def test_what_would_start_and_how_long_it_takes() -> None:
    """Up to each maximum and as far as GPUs are free; whoever cannot tell a cold start says None."""
    world = problem(wanted(max_replicas=9), demands=(asked("eu", 4),), profiles=(PROFILE,))
    rows = (allocation("p-eu-on_demand", 2, most=4), allocation("p-us-on_demand", 2, most=3))
    [chat] = survive(world, plan_of(planned(*rows)), (region("eu"),)).deployments
    [start] = chat.starts
    assert (start.pool, start.replicas, start.cold_start_s) == ("us/on-demand", 1, 40.0)
    assert chat.share_restored == pytest.approx(0.75)
    assert chat.recovery_s is None
    wider = (rows[0], allocation("p-us-on_demand", 2, most=4))
    [chat] = survive(world, plan_of(planned(*wider)), (region("eu"),)).deployments
    assert chat.share_restored == pytest.approx(1)
    assert (chat.starts[0].replicas, chat.recovery_s) == (2, 40.0)
    crowded = problem(
        wanted(max_replicas=9),
        wanted("other", max_replicas=9),
        demands=(asked("eu", 4),),
        profiles=(PROFILE,),
    )
    others = planned(allocation("p-us-on_demand", 1, name="other"), name="other")
    [chat] = survive(crowded, plan_of(planned(*wider), others), (region("eu"),)).deployments
    assert chat.starts[0].replicas == 1


def test_two_do_not_start_in_the_same_room() -> None:
    """The more urgent one first."""
    world = problem(wanted(max_replicas=4, priority=1), wanted("other", max_replicas=4))
    rows = [
        planned(
            allocation("p-eu-on_demand", 1, name=name),
            allocation("p-us-on_demand", 0, most=1, name=name),
            name=name,
        )
        for name in ("chat", "other")
    ]
    small = problem(*world.deployments, pools=(pool("eu"), pool("us", capacity_instances=1), POOLS[2]))
    found = {one.deployment: one for one in survive(small, plan_of(*rows), (region("eu"),)).deployments}
    assert [len(found[name].starts) for name in ("chat", "other")] == [1, 0]
    assert found["other"].recovery_s is None


def test_a_standby_is_promoted() -> None:
    """And only where the serving cluster is hit."""
    world = problem(wanted(posture="active_passive", survivability="region"))
    plan = plan_of(planned(allocation("p-eu-on_demand", 1), allocation("p-us-on_demand", 1, standby=True)))
    [chat] = survive(world, plan, (region("eu"),)).deployments
    assert (chat.promoted, chat.verdict, chat.recovery_s) == ("us", "survives", 0.0)
    [chat] = survive(world, plan, (region("us"),)).deployments
    assert (chat.promoted, chat.verdict) == ("", "survives")
    [chat] = survive(world, plan, (region("us"), region("eu"))).deployments
    assert (chat.promoted, chat.verdict) == ("", "lost")


def test_pools_and_clusters_may_be_lost_too_and_unknown_names_are_refused() -> None:
    """By the names that their users know."""
    world = problem(wanted(min_replicas=2))
    plan = plan_of(planned(allocation("p-eu-on_demand", 1), allocation("p-us-on_demand", 1)))
    for domain in (
        FailureDomain(kind="pool", name="us/on-demand"),
        FailureDomain(kind="cluster", name="us"),
    ):
        [chat] = survive(world, plan, (domain,)).deployments
        assert (chat.replicas_lost, chat.replicas_left, chat.share_left) == (1, 1, 0.5)
    nothing = survive(world, plan, (FailureDomain(kind="cluster", name="jp"),))
    assert (nothing.deployments, nothing.untouched, nothing.served_share) == ((), 1, 1.0)
    with pytest.raises(ValueError, match="there is no region mars; known are: eu, jp, us"):
        survive(world, plan, (region("mars"),))


@settings(max_examples=examples(300), deadline=None)
@given(planned_problems(), st.integers(0, 2**32))
def test_several_losses_are_what_the_simulation_says(
    case: tuple[PlacementProblem, PlacementPlan], seed: int
) -> None:
    """Against removing replicas by hand; one loss alone is what the certificate says; more losses never serve more;
    origins sum up to the whole; starts keep to maxima."""
    world, plan = case
    names = sorted({label for one in world.pools for label in labels(world, one)})
    chosen = Random(seed).sample(names, min(len(names), 1 + seed % 3))
    lost = tuple(_domain(label) for label in chosen)
    survival = survive(world, plan, lost)
    alone = {one.deployment_id: one for one in survive(world, plan, lost[:1]).deployments}
    judged = {(loss.deployment_id, loss.domain): loss for loss in certify(world, plan).losses}
    for one in survival.deployments:
        deployment = world.deployment_by_id[one.deployment_id]
        outcome = lose(world, plan, deployment, *chosen)
        assert one.share_left == pytest.approx(float(outcome.served))
        assert (one.verdict == "survives") == outcome.survives
        if one.origins:
            assert _served(one.origins) == pytest.approx(one.served_share)
        most = {row.pool_id: row.max_replicas for row in plan.by_deployment[one.deployment_id].allocations}
        assert all(0 < start.replicas <= most[start.pool_id] for start in one.starts)
        if deployment.posture == "active_active" and one.deployment_id in alone:
            assert one.share_left <= alone[one.deployment_id].share_left + 1e-9
    for deployment_id, single in alone.items():
        if lost[0].kind not in ("pool", "cluster"):
            assert single.share_left == judged[deployment_id, lost[0]].share_left


def _domain(label: str) -> FailureDomain:
    kind, name = label.replace("spot group", "spot_group").split(" ", maxsplit=1)
    return FailureDomain(kind=kind, name=name)  # type: ignore[arg-type]


def _served(origins: tuple[OriginSurvival, ...]) -> float:
    by_requests = all(one.requests_per_s for one in origins)
    weights = [one.requests_per_s if by_requests else one.tokens_per_s for one in origins]
    return sum(w * one.served_share for w, one in zip(weights, origins, strict=True)) / sum(weights)
