"""Other systems' policies do what their descriptions say, and what a comparison of costs needs of them."""

from collections import Counter
from dataclasses import replace

import pytest

from controlplane.placement import Demand, PerformanceProfile, PlacementProblem, certify
from tests.benchmarks.placement.instances import instance
from tests.benchmarks.placement.policies import POLICIES, modelplane, price_greedy, skyserve
from tests.controlplane.placement.worlds import CLUSTERS, adopted, pool, problem, wanted

TEN_A_SECOND = Demand(
    deployment_id="d-chat",
    origin_region="eu",
    requests_per_s_p50=5.0,
    requests_per_s_p95=10.0,
    tokens_per_s_p50=500.0,
    tokens_per_s_p95=1000.0,
)
#: One replica serves 4 requests/s, so that ten take three.
FOUR_A_SECOND = PerformanceProfile(
    model_version_id="m",
    instance_type_id="i-1",
    tensor_parallel=1,
    requests_per_s=4.0,
    tokens_per_s=4000.0,
    concurrency=8,
)


def world(**fields) -> PlacementProblem:
    """Ten requests a second for one deployment in three regions, each with on-demand and cheaper spot machines."""
    pools = tuple(
        pool(name, procurement=kind, instance_micro_usd_per_h=price, capacity_instances=4)
        for name, price in (("eu", 3_000_000), ("us", 1_000_000), ("jp", 2_000_000))
        for kind, price in (("on_demand", price), ("spot", price // 4))
    )
    one = wanted(max_replicas=12, **fields)
    return problem(one, clusters=CLUSTERS, pools=pools, demands=(TEN_A_SECOND,), profiles=(FOUR_A_SECOND,))


def rooms(plan) -> dict[str, int]:
    return {row.pool_id: row.planned_replicas for row in plan.by_deployment["d-chat"].allocations}


def test_skyserve_takes_spot_in_each_zone_before_a_second_one_anywhere():
    assert rooms(skyserve(world())) == {"p-eu-spot": 1, "p-us-spot": 1, "p-jp-spot": 1}


def test_skyserve_falls_back_to_on_demand_where_no_spot_is_left():
    full = world()
    without = tuple(
        replace(one, capacity_instances=0) if one.procurement == "spot" else one for one in full.pools
    )
    assert rooms(skyserve(replace(full, pools=without))) == {"p-us-on_demand": 3}


def test_modelplane_keeps_what_runs_where_it_is_dear_and_spreads_the_rest():
    dear = replace(world(), pools=tuple(one for one in world().pools if one.procurement == "on_demand"))
    only_eu = replace(dear, pools=tuple(one for one in dear.pools if one.cluster_id == "c-eu"))
    running = replace(adopted(only_eu, modelplane(only_eu)), pools=dear.pools)
    assert rooms(modelplane(running)) == {"p-eu-on_demand": 3}
    assert rooms(modelplane(dear)) == {"p-eu-on_demand": 1, "p-jp-on_demand": 1, "p-us-on_demand": 1}


def test_price_greedy_fills_the_cheapest_first():
    assert rooms(price_greedy(world())) == {"p-us-spot": 3}


@pytest.mark.parametrize("name", ["Modelplane", "price-greedy"])
def test_with_survive_the_demand_is_served_whatever_region_is_lost(name):
    plan = POLICIES[name](world(survivability="region"), survive=True)
    assert plan.by_deployment["d-chat"].refusal is None
    by_region: Counter[str] = Counter()
    for pool_id, replicas in rooms(plan).items():
        by_region[pool_id.split("-")[1]] += replicas
    assert all(sum(by_region.values()) - lost >= 3 for lost in by_region.values())


@pytest.mark.parametrize("name", POLICIES)
def test_pools_hold_what_is_planned_and_what_is_not_served_is_said(name):
    fleet = instance(deployments=100, pools=40, regions=8, seed=3)
    plan = POLICIES[name](fleet, survive=True)
    used: Counter[str] = Counter()
    for entry in plan.deployments:
        for row in entry.allocations:
            used[row.pool_id] += row.room_replicas * row.gpus_per_replica
    for one in fleet.pools:
        assert used[one.pool_id] <= one.capacity_instances * one.gpus_per_instance
    broken = {text.partition(":")[0] for text in certify(fleet, plan).broken_promises}
    refused = {fleet.deployment_by_id[one.deployment_id].name for one in plan.deployments if one.refusal}
    assert broken <= refused
