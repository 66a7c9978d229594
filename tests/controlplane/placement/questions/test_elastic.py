"""The smallest change that would give a deployment all that it wishes."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings

from controlplane.placement import (
    Budget,
    Cluster,
    Demand,
    FailureDomain,
    Occupancy,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    SmallestChange,
    WantedDeployment,
    Weights,
    smallest_change,
    solve,
)
from tests.controlplane.placement.random_worlds import random_problem, whole_problems
from tests.controlplane.placement.worlds import pool, problem, wanted
from tests.support.examples import examples


def eu_cluster(region: str, zone: str = "a", *, name: str = "") -> Cluster:
    name = name or region
    return Cluster(
        cluster_id=f"c-{name}",
        name=name,
        generation=1,
        region=region,
        provider="aws",
        jurisdiction="eu",
        failure_domains=(
            FailureDomain(kind="zone", name=f"{region}-{zone}"),
            FailureDomain(kind="region", name=region),
            FailureDomain(kind="provider", name="aws"),
        ),
    )


REGIONS = ("eu-west", "eu-north", "eu-south")
CLUSTERS = tuple(map(eu_cluster, REGIONS))


def europe(
    *deployments: WantedDeployment,
    instances: tuple[int, int, int] = (0, 0, 0),
    prices: tuple[int, int, int] = (2, 2, 2),
    **fields: Any,
) -> PlacementProblem:
    """Three regions of one provider, with so many single H100 each."""
    pools = tuple(
        pool(region, capacity_instances=count, instance_micro_usd_per_h=price * 1_000_000)
        for region, count, price in zip(REGIONS, instances, prices, strict=True)
    )
    return problem(*deployments, clusters=CLUSTERS, pools=pools, **fields)


def test_as_many_gpus_in_any_region_but_one() -> None:
    """By hand: two in eu-west, to survive the loss of a region it takes two more elsewhere."""
    world = europe(wanted(min_replicas=2, survivability="region", residency=("eu",)), instances=(2, 0, 0))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert (change.regions, change.max_replicas) == (("eu-north", "eu-south"), None)
    assert change.said == "2 more H100 (2 x h100-1x) in any EU region but eu-west"
    assert change.micro_usd_per_h == 4_000_000


@pytest.mark.parametrize(("hazard_per_h", "spot_horizon_h"), [(60.0, 1e6), (7.0, 100.0), (60.0, 1.0)])
def test_spot_that_is_never_there_when_it_is_needed_is_asked_for_in_vain(
    hazard_per_h: float, spot_horizon_h: float
) -> None:
    """It counts nothing, or next to nothing, so that what would do stands elsewhere; alone it would never do."""
    world = europe(
        wanted(min_replicas=1, survivability="region", residency=("eu",)),
        weights=Weights(spot_horizon_h=spot_horizon_h),
    )
    spot = [replace(one, procurement="spot", hazard_per_h=hazard_per_h) for one in world.pools]
    some = replace(world, pools=(spot[0], *world.pools[1:]))
    change = smallest_change(some, solve(some), "d-chat")
    assert change is not None
    assert {growth.region for growth in change.growths} == {"eu-north", "eu-south"}
    alone = replace(world, pools=tuple(spot))
    smallest_change(alone, solve(alone), "d-chat")


def test_the_cheapest_pool_is_asked_for() -> None:
    """By hand: one region is as good as the other; eu-south costs least."""
    world = europe(wanted(min_replicas=1, max_replicas=1), prices=(3, 2, 1))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert [(growth.pool, growth.gpus) for growth in change.growths] == [("eu-south/on-demand", 1)]
    assert change.said == "1 more H100 (1 x h100-1x) in any region"


def test_several_pools_where_one_is_not_enough() -> None:
    """By hand: nothing anywhere, and a region's loss to survive: two regions have to grow."""
    world = europe(wanted(survivability="region"), prices=(1, 2, 3))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert change.said == (
        "1 more H100 (1 x h100-1x) in pool eu-west/on-demand"
        " and 1 more H100 (1 x h100-1x) in pool eu-north/on-demand"
    )


def test_limits_of_its_owner_may_have_to_rise() -> None:
    """By hand: room there is; max_replicas and the budget are too low."""
    world = europe(wanted(survivability="region", max_replicas=1), instances=(2, 2, 0), prices=(1, 2, 3))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert (change.growths, change.max_replicas) == ((), 2)
    poor = replace(
        europe(wanted(survivability="region"), instances=(2, 2, 0), prices=(1, 2, 3)),
        budgets=(Budget(project_id="project", micro_usd_per_h=1_500_000),),
    )
    change = smallest_change(poor, solve(poor), "d-chat")
    assert change is not None
    assert (change.growths, change.budget_micro_usd_per_h) == ((), 3_000_000)
    assert change.said == "a budget of 3.000 USD/h for its project"


def test_demand_counts_by_what_was_measured() -> None:
    """By hand: 7 requests/s at 2 a replica take four; three are there."""
    asked = Demand(
        deployment_id="d-chat",
        origin_region="eu-west",
        requests_per_s_p50=1,
        requests_per_s_p95=7,
        tokens_per_s_p50=0,
        tokens_per_s_p95=0,
    )
    profile = PerformanceProfile(
        model_version_id="m",
        instance_type_id="i-1",
        tensor_parallel=1,
        requests_per_s=2,
        tokens_per_s=1,
        concurrency=8,
    )
    world = europe(wanted(max_replicas=9), instances=(3, 0, 0), demands=(asked,), profiles=(profile,))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert sum(growth.gpus for growth in change.growths) == 1


def test_a_pool_that_is_not_there_yet() -> None:
    """By hand: its second region has no pool; the type that its provider has elsewhere would do there."""
    world = europe(wanted(survivability="region", residency=("eu",)), instances=(2, 0, 0))
    world = replace(world, pools=world.pools[:1], clusters=world.clusters[:2])
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert change.said == "1 more H100 (1 x h100-1x) in a new pool in eu-north"


def test_a_standby_needs_a_cluster_of_its_own() -> None:
    """By hand: active_passive with two replicas: two serve, two stand by in another region."""
    world = europe(
        wanted(min_replicas=2, posture="active_passive", survivability="region", max_replicas=4),
        instances=(2, 1, 0),
    )
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert [(growth.pool, growth.gpus) for growth in change.growths] == [("eu-north/on-demand", 1)]


def test_a_standby_is_not_lost_with_what_serves() -> None:
    """By hand: two zones of one region have a GPU each; surviving the region takes one in another."""
    clusters = (eu_cluster("eu-west"), eu_cluster("eu-west", "b", name="eu-west-2"), eu_cluster("eu-north"))
    pools = tuple(pool(one.name, capacity_instances=int(one.region == "eu-west")) for one in clusters)
    world = problem(wanted(posture="active_passive", survivability="region"), clusters=clusters, pools=pools)
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert [(growth.pool, growth.gpus) for growth in change.growths] == [("eu-north/on-demand", 1)]


@pytest.mark.parametrize(
    "deployment",
    [
        wanted(residency=("mars",)),
        wanted(survivability="provider"),
        wanted(precision="fp4"),
        wanted(gpus_per_replica=2),
    ],
)
def test_where_no_growth_would_do_nothing_is_said(deployment: WantedDeployment) -> None:
    """No pool of a known kind would help: the refusal says what stands in the way."""
    world = europe(deployment, instances=(1, 1, 1))
    assert smallest_change(world, solve(world), "d-chat") is None


def test_as_much_survivability_as_can_be_had() -> None:
    """By hand: all is with one provider; a place at all takes one GPU, and surviving a region two."""
    world = europe(wanted(survivability="provider"), prices=(1, 2, 3))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert (change.survivability, sum(growth.gpus for growth in change.growths)) == ("region", 2)
    assert change.said.endswith("(and survives the loss of a region at most)")


def test_others_keep_their_room() -> None:
    """Whoever is placed is not asked to move."""
    world = europe(wanted("other", min_replicas=2, priority=9), wanted(min_replicas=1), instances=(2, 0, 0))
    change = smallest_change(world, solve(world), "d-chat")
    assert change is not None
    assert sum(growth.gpus for growth in change.growths) == 1


@settings(max_examples=examples(150), deadline=None)
@example(random_problem(Random(437), clusters=3, pools=5, deployments=3))
@example(random_problem(Random(1521), clusters=3, pools=5, deployments=3))
@given(whole_problems())
def test_it_is_the_least(world: PlacementProblem) -> None:
    """With an instance less of any pool that would grow, the wishes cannot all be kept. But for replicas of three GPUs,
    which are counted as four of eight, and budgets, which reservations may spare more than is counted on."""
    plan = solve(world)
    sizes = {row.gpus_per_replica for entry in plan.deployments for row in entry.allocations}
    if world.budgets or 3 in sizes | {one.gpus_per_replica for one in world.deployments}:
        return
    for entry in plan.deployments:
        if entry.refusal is None and not entry.relaxed:
            continue
        change = smallest_change(world, plan, entry.deployment_id)
        if change is None or not change.growths or change.budget_micro_usd_per_h:
            continue
        for growth in change.growths:
            assert not _would_do(world, plan, change, growth.pool_id), change.said


def _would_do(world: PlacementProblem, plan: PlacementPlan, change: SmallestChange, pool_id: str) -> bool:
    """Whether one instance less of a pool is enough, in the room that all others leave."""
    growths = {one.pool_id: one.instances - (one.pool_id == pool_id) for one in change.growths}
    if any(one.is_new for one in change.growths):
        return False  # the pool is not in this world
    taken = tuple(
        Occupancy(
            deployment_id=f"not {change.deployment_id}",
            pool_id=row.pool_id,
            gpus_per_replica=row.gpus_per_replica,
            replicas=row.room_replicas,
        )
        for entry in plan.deployments
        for row in entry.allocations
        if entry.deployment_id != change.deployment_id
    )
    wanted_then = replace(
        world.deployment_by_id[change.deployment_id],
        max_replicas=change.max_replicas or world.deployment_by_id[change.deployment_id].max_replicas,
        survivability=change.survivability,
    )
    later = replace(
        world,
        current=world.current_of(change.deployment_id),
        occupancies=(*taken, *world.occupancies),
        pools=tuple(
            replace(one, capacity_instances=one.capacity_instances + growths.get(one.pool_id, 0))
            for one in world.pools
        ),
        deployments=(wanted_then,),
    )
    [entry] = solve(later).deployments
    return entry.refusal is None and not entry.relaxed
