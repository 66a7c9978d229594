"""What a plan costs: every part of the objective worked out by hand, and what holds on random worlds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.costing import PoolTariff, pool_costs
from controlplane.placement import (
    Allocation,
    CurrentAssignment,
    Demand,
    DeploymentPlan,
    Latency,
    NetworkPrice,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    PlanCost,
    Reservation,
    Slo,
    TrafficShare,
    Weights,
    plan_cost,
    plan_costs,
    priced,
    solve,
)
from tests.controlplane.placement.worlds import POOLS, pool, problem, problems, wanted
from tests.support.examples import examples

USD = 1_000_000


def row(pool_id: str, planned: int, **fields: Any) -> Allocation:
    """So many replicas of one GPU, kept ready."""
    values: dict[str, Any] = {
        "revision_id": "r-chat-1",
        "revision": 1,
        "pool_id": pool_id,
        "min_replicas": planned,
        "planned_replicas": planned,
        "max_replicas": max(1, planned),
        "gpus_per_replica": 1,
        "micro_usd_per_h": 0,
        "marginal_micro_usd_per_h": 0,
        "reasons": (),
    }
    return Allocation(**(values | fields))


def plan_of(*rows: Allocation, traffic: tuple[TrafficShare, ...] = (), name: str = "chat") -> PlacementPlan:
    entry = DeploymentPlan(deployment_id=f"d-{name}", generation=1, allocations=rows, traffic=traffic)
    return PlacementPlan(deployments=(entry,), micro_usd_per_h=0, marginal_micro_usd_per_h=0)


def demand(origin: str, **fields: Any) -> Demand:
    """One request and 100 tokens a second at the median, twice that at the 95th percentile."""
    values: dict[str, Any] = {
        "deployment_id": "d-chat",
        "origin_region": origin,
        "requests_per_s_p50": 1.0,
        "requests_per_s_p95": 2.0,
        "tokens_per_s_p50": 100.0,
        "tokens_per_s_p95": 200.0,
    }
    return Demand(**(values | fields))


def profile(requests_per_s: float, tokens_per_s: float = 1e6, **fields: Any) -> PerformanceProfile:
    values: dict[str, Any] = {
        "model_version_id": "m",
        "instance_type_id": "i-1",
        "tensor_parallel": 1,
        "requests_per_s": requests_per_s,
        "tokens_per_s": tokens_per_s,
        "concurrency": 8,
    }
    return PerformanceProfile(**(values | fields))


def current(pool_id: str, replicas: int) -> CurrentAssignment:
    return CurrentAssignment(
        assignment_id=f"a-{pool_id}",
        deployment_id="d-chat",
        revision_id="r-chat-1",
        revision=1,
        pool_id=pool_id,
        min_replicas=replicas,
        max_replicas=replicas,
        gpus_per_replica=1,
        planned_replicas=replicas,
    )


def test_rent_is_what_rooms_add_to_the_bill() -> None:
    """Two rooms at 2 USD/h; what is planned counts, not what is kept ready."""
    world = problem(wanted())
    assert plan_cost(world, plan_of(row("p-eu-on_demand", 2, min_replicas=1))) == PlanCost(
        rent_micro_usd_per_h=4 * USD
    )


def test_reserved_capacity_is_free_until_it_is_full() -> None:
    """One instance is paid for; the second replica pays the pool's price, and the share prices say 1.5 + 2."""
    world = problem(
        wanted(),
        reservations=(
            Reservation(pool_id="p-eu-on_demand", instances=1, instance_micro_usd_per_h=1_500_000),
        ),
    )
    one, two = plan_of(row("p-eu-on_demand", 1)), plan_of(row("p-eu-on_demand", 2))
    assert plan_cost(world, one).rent_micro_usd_per_h == 0
    assert plan_cost(world, two).rent_micro_usd_per_h == 2 * USD
    assert priced(world, two).micro_usd_per_h == 3_500_000
    assert priced(world, two).objective_micro_usd_per_h == 2 * USD


def test_a_reservation_goes_to_the_largest_replicas_whoever_comes_first() -> None:
    """Four reserved GPUs: the replica of 4 has them, the replica of 1 pays, in either order."""
    tariff = PoolTariff(gpus_per_instance=4, instance_micro_usd_per_h=8 * USD, reserved_instances=1)
    for rooms in ([(1, 1), (4, 1)], [(4, 1), (1, 1)]):
        marginal = {
            gpus: cost.marginal_micro_usd_per_h
            for (gpus, _), cost in zip(rooms, pool_costs(tariff, rooms), strict=True)
        }
        assert marginal == {4: 0, 1: 2 * USD}


def test_spot_costs_its_expected_losses_and_what_is_asked_for_in_vain() -> None:
    """Rent 2, lost 0.1 times an hour at one hour each: 0.2; a quarter not had, a quarter hour each: 0.125."""
    spot = pool(
        "eu",
        procurement="spot",
        hazard_per_h=0.1,
        obtainability=0.75,
    )
    world = problem(wanted(), pools=(spot,))
    bought = plan_of(row("p-eu-spot", 1))
    assert plan_cost(world, bought) == PlanCost(
        rent_micro_usd_per_h=2 * USD, interruption_micro_usd_per_h=200_000, refusal_micro_usd_per_h=125_000
    )
    standing = replace(world, current=(current("p-eu-spot", 1),))
    assert plan_cost(standing, bought).refusal_micro_usd_per_h == 0
    assert plan_cost(standing, plan_of(row("p-eu-spot", 2))).refusal_micro_usd_per_h == 125_000


def test_lateness_is_the_median_requests_beyond_what_the_network_may_take() -> None:
    """0.15 s of which 0.1 are free: 0.05 s x 3600 requests/h x 200 micro-USD; a TTFT target of 0.2 leaves 0.04 free."""
    world = problem(
        wanted(),
        demands=(demand("paris"),),
        latencies=(Latency(origin_region="paris", target_region="us", rtt_ms=150),),
    )
    sent = plan_of(
        row("p-us-on_demand", 1),
        traffic=(TrafficShare(origin_region="paris", cluster_id="c-us", share=1.0),),
    )
    assert plan_cost(world, sent).lateness_micro_usd_per_h == 36_000
    hurried = replace(world, deployments=(wanted(slo=Slo(ttft_s_p95=0.2)),))
    assert plan_cost(hurried, sent).lateness_micro_usd_per_h == 79_200
    half = replace(
        sent.deployments[0],
        traffic=(
            TrafficShare(origin_region="paris", cluster_id="c-us", share=0.5),
            TrafficShare(origin_region="paris", cluster_id="c-eu", share=0.5),
        ),
    )
    near = replace(
        world,
        latencies=(*world.latencies, Latency(origin_region="paris", target_region="eu", rtt_ms=10)),
    )
    assert plan_cost(near, replace(sent, deployments=(half,))).lateness_micro_usd_per_h == 18_000


def test_tokens_that_leave_a_region_cost_by_the_gib() -> None:
    """100 tokens/s x 200 bytes are 72 MB an hour: 0.067 GiB at 0.08 USD."""
    world = problem(
        wanted(),
        demands=(demand("paris"),),
        network_prices=(NetworkPrice(origin_region="paris", target_region="us", micro_usd_per_gib=80_000),),
    )
    sent = plan_of(
        row("p-us-on_demand", 1),
        traffic=(TrafficShare(origin_region="paris", cluster_id="c-us", share=1.0),),
    )
    expected = round(100 * 3600 * 200 / 1024**3 * 80_000)
    assert plan_cost(world, sent).network_micro_usd_per_h == expected == 5364


def test_a_replica_that_leaves_costs_its_cold_start_and_its_cache() -> None:
    """360 s of cold start and 0.1 h of cache at 2 USD/h, spread over 6 hours: 0.2 x 2 / 6 each."""
    world = problem(
        wanted(), current=(current("p-eu-on_demand", 2),), profiles=(profile(1, weight_load_s=360.0),)
    )
    gone = plan_of(row("p-us-on_demand", 2))
    assert plan_cost(world, gone).churn_micro_usd_per_h == 2 * 66_667
    stays = plan_of(row("p-eu-on_demand", 1), row("p-us-on_demand", 1))
    assert plan_cost(world, stays).churn_micro_usd_per_h == 66_667


def test_a_pair_that_is_handed_over_costs_half_an_hour_of_what_served() -> None:
    """Two replicas at 2 USD/h over 6 hours; nothing where who serves goes on, or was promoted, or nobody will serve."""
    pair = wanted(posture="active_passive", survivability="region", min_replicas=2)
    us = replace(current("p-us-on_demand", 2), standby=True)
    world = problem(pair, current=(current("p-eu-on_demand", 2), us))
    as_before = plan_of(row("p-eu-on_demand", 2), row("p-us-on_demand", 2, standby=True))
    handed_over = plan_of(row("p-us-on_demand", 2), row("p-eu-on_demand", 2, standby=True))
    nobody = plan_of(row("p-us-on_demand", 2, standby=True), row("p-eu-on_demand", 2, standby=True))
    promoted = replace(world, current=tuple(replace(one, standby=not one.standby) for one in world.current))
    everybody = replace(world, deployments=(replace(pair, posture="active_active"),))
    for asked, plan, usd in (
        (world, as_before, 0),
        (world, handed_over, 2 * 2 * USD * 0.5 / 6),
        (world, nobody, 0),
        (promoted, handed_over, 0),
        (everybody, handed_over, 0),
    ):
        assert plan_cost(asked, plan).churn_micro_usd_per_h == round(usd)


@pytest.mark.parametrize(
    ("fields", "rows", "hours"),
    [
        ({"min_replicas": 3}, [("p-us-on_demand", 2)], 1000),
        ({"min_replicas": 3}, [], 3000),
        ({"survivability": "region"}, [("p-us-on_demand", 1), ("p-eu-on_demand", 1)], 0),
        ({"survivability": "region"}, [("p-us-on_demand", 2)], 100),
        ({"survivability": "zone", "min_replicas": 2}, [("p-us-on_demand", 2)], 100),
        (
            {"posture": "active_passive", "min_replicas": 2},
            [("p-us-on_demand", 1), ("p-eu-on_demand", 1)],
            1000,
        ),
    ],
)
def test_broken_wishes_cost_hours_of_the_dearest_replica(
    fields: dict[str, Any], rows: list[tuple[str, int]], hours: int
) -> None:
    """Found from the allocations: the dearest replica costs 3 USD/h here."""
    cost = plan_cost(problem(wanted(**fields)), plan_of(*(row(*one) for one in rows)))
    assert cost.relaxed_micro_usd_per_h == hours * 3 * USD


def test_a_standby_serves_only_when_the_first_is_lost() -> None:
    """Two clusters: with the second as standby the region may be lost; a standby alone serves nobody."""
    world = problem(wanted(posture="active_passive", survivability="region"))
    pair = plan_of(row("p-us-on_demand", 1), row("p-eu-on_demand", 1, standby=True))
    assert plan_cost(world, pair).relaxed_micro_usd_per_h == 0
    alone = plan_of(row("p-eu-on_demand", 1, standby=True))
    assert plan_cost(world, alone).relaxed_micro_usd_per_h >= 1000 * 3 * USD


def test_spot_survives_only_by_its_chance() -> None:
    """With a hazard of 0.1/h two spot replicas count 1.81: not enough for 2 after a loss, three are."""
    spots = [pool(name, procurement="spot", hazard_per_h=0.1) for name in ("eu", "us")]
    world = problem(wanted(min_replicas=2, survivability="region", max_replicas=9), pools=tuple(spots))
    for each, keeps in ((2, False), (3, True)):
        cost = plan_cost(world, plan_of(row("p-eu-spot", each), row("p-us-spot", each)))
        assert (cost.relaxed_micro_usd_per_h == 0) is keeps


def test_demand_that_is_not_served_counts_as_missing_replicas() -> None:
    """2 requests/s at 0.6 a replica take 4; three leave a part of one replica's work, which counts whole."""
    world = problem(wanted(max_replicas=9), demands=(demand("paris"),), profiles=(profile(0.6),))
    for replicas, missing in ((4, 0), (3, 1), (1, 3)):
        cost = plan_cost(world, plan_of(row("p-us-on_demand", replicas)))
        assert cost.relaxed_micro_usd_per_h == missing * 1000 * 3 * USD
    bounded = replace(world, deployments=(wanted(max_replicas=2),))
    assert plan_cost(bounded, plan_of(row("p-us-on_demand", 2))).relaxed_micro_usd_per_h == 0


def test_a_far_cluster_breaks_the_wish_for_latency_and_a_higher_priority_weighs_more() -> None:
    """Round trip 0.2 s on a target of 0.1 s: 300 hours; half as much again for the higher of two priorities."""
    far = {"latencies": (Latency(origin_region="paris", target_region="us", rtt_ms=200),)}
    first = wanted(slo=Slo(ttft_s_p95=0.1))
    world = problem(first, demands=(demand("paris"),), **far)
    assert plan_cost(world, plan_of(row("p-us-on_demand", 1))).relaxed_micro_usd_per_h == 300 * 3 * USD
    both = problem(replace(first, priority=5), wanted("other"), demands=(demand("paris"),), **far)
    cost = plan_costs(both, plan_of(row("p-us-on_demand", 1)))["d-chat"]
    assert cost.relaxed_micro_usd_per_h == 1.5 * 300 * 3 * USD


@settings(max_examples=examples(200), deadline=None)
@given(problems(), st.data())
def test_one_replica_more_never_lowers_the_rent(world: PlacementProblem, data: st.DataObject) -> None:
    """Reservations, odd sizes and full pools included; the total is the sum of its deployments."""
    plan = solve(world)
    rows = [(i, j) for i, entry in enumerate(plan.deployments) for j in range(len(entry.allocations))]
    assert plan_cost(world, plan).total_micro_usd_per_h == sum(
        cost.total_micro_usd_per_h
        for one in world.deployments
        for cost in plan_costs(world, plan, only=(one,)).values()
    )
    if not rows:
        return
    i, j = data.draw(st.sampled_from(rows))
    entry = plan.deployments[i]
    grown = list(entry.allocations)
    grown[j] = replace(grown[j], planned_replicas=grown[j].room_replicas + 1)
    entries = list(plan.deployments)
    entries[i] = replace(entry, allocations=tuple(grown))
    more = replace(plan, deployments=tuple(entries))
    before, after = plan_cost(world, plan), plan_cost(world, more)
    assert after.rent_micro_usd_per_h >= before.rent_micro_usd_per_h
    tariff = world.tariff_by_pool[grown[j].pool_id]
    assert (
        after.rent_micro_usd_per_h - before.rent_micro_usd_per_h
        <= grown[j].gpus_per_replica * tariff.instance_micro_usd_per_h // tariff.gpus_per_instance + 9
    )


def test_every_part_has_its_weight() -> None:
    """With all weights at nothing only rent and lateness' unit price are left, and that is nothing too."""
    free = Weights(
        interruption_h=0, refusal_h=0, cache_h=0, late_micro_usd_per_request_s=0, missing_replica_h=0
    )
    spot = pool("eu", procurement="spot", hazard_per_h=1, obtainability=0.5)
    world = problem(wanted(), pools=(*POOLS, spot), weights=free, demands=(demand("paris"),))
    sent = plan_of(
        row("p-eu-spot", 1), traffic=(TrafficShare(origin_region="paris", cluster_id="c-eu", share=1.0),)
    )
    assert plan_cost(world, sent) == PlanCost(rent_micro_usd_per_h=2 * USD)
