"""What the solver chooses, and what it answers where nothing fits."""

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from controlplane.placement import (
    Budget,
    Latency,
    Occupancy,
    Reservation,
    Slo,
    explain,
    resolve,
    smallest_change,
    solve,
)
from tests.controlplane.placement.rules.test_cost import demand, profile
from tests.controlplane.placement.worlds import GIB, POOLS, adopted, cluster, placed, pool, problem, wanted


def refusal(plan, name: str = "chat"):
    found = plan.by_deployment[f"d-{name}"].refusal
    assert found is not None
    return found


def relaxed(plan, name: str = "chat"):
    """What was given up, by rule."""
    entry = plan.by_deployment[f"d-{name}"]
    assert entry.refusal is None
    return {wish.rule: wish for wish in entry.relaxed}


def test_one_replica_goes_where_it_is_cheapest() -> None:
    """Price decides where nothing else does, and the plan says what it costs."""
    plan = solve(problem(wanted()))
    assert placed(plan) == {"p-us-on_demand": 1}
    assert plan.micro_usd_per_h == plan.marginal_micro_usd_per_h == 1_000_000


def test_reserved_capacity_is_used_before_cheaper_capacity() -> None:
    """What is paid for already costs nothing more, until it is full."""
    reserved = pool("eu", procurement="reserved", capacity_instances=1)
    world = problem(
        wanted("a"),
        wanted("b", created_at_s=2.0),
        pools=(*POOLS, reserved),
        reservations=(
            Reservation(pool_id=reserved.pool_id, instances=1, instance_micro_usd_per_h=1_500_000),
        ),
    )
    plan = solve(world)
    assert placed(plan, "a") == {"p-eu-reserved": 1}
    assert placed(plan, "b") == {"p-us-on_demand": 1}
    assert (plan.micro_usd_per_h, plan.marginal_micro_usd_per_h) == (2_500_000, 1_000_000)


def test_several_replicas_go_where_they_are_cheapest_until_that_is_full() -> None:
    """Spreading is what survivability is for; without one it costs money for nothing."""
    assert placed(solve(problem(wanted(min_replicas=2)))) == {"p-us-on_demand": 2}
    assert placed(solve(problem(wanted(min_replicas=6, max_replicas=6)))) == {
        "p-us-on_demand": 4,
        "p-eu-on_demand": 2,
    }


def test_active_passive_serves_in_one_cluster() -> None:
    """However many replicas, they stand in one place."""
    assert placed(solve(problem(wanted(min_replicas=3, posture="active_passive")))) == {"p-us-on_demand": 3}


def test_residency_is_kept_and_fails_closed() -> None:
    """A dearer pool inside beats a cheaper one outside; a cluster without a jurisdiction is outside."""
    assert placed(solve(problem(wanted(residency=("jp",))))) == {"p-jp-on_demand": 1}
    nowhere = problem(wanted(residency=("eu",)), clusters=(cluster("eu", ""),), pools=(pool("eu"),))
    answer = refusal(solve(nowhere))
    assert answer.rule == "residency"
    assert "unknown" in answer.value


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"precision": "fp32"}, "precision"),
        ({"gpus_per_replica": 2}, "gpus_per_instance"),
        ({"weights_bytes": 80 * GIB}, "gpu_memory"),
        ({"providers_allowed": ("elsewhere",)}, "provider"),
    ],
)
def test_each_rule_says_what_it_refused(fields: dict[str, Any], rule: str) -> None:
    """The refusal names the rule that stands in the way."""
    assert refusal(solve(problem(wanted(**fields)))).rule == rule


@pytest.mark.parametrize(
    ("fields", "rule", "words", "replicas"),
    [
        ({"min_replicas": 13, "max_replicas": 13}, "replicas", "no single pool would do|add 1 h100-1x", 12),
        ({"survivability": "region", "residency": ("eu",)}, "survivability", "a second region in eu", 1),
        ({"survivability": "region", "max_replicas": 1}, "survivability", "max_replicas to 2", 1),
        (
            {"survivability": "region", "posture": "active_passive", "residency": ("jp",)},
            "survivability",
            "a second region in jp",
            1,
        ),
    ],
)
def test_what_does_not_fit_gives_way_and_says_so(
    fields: dict[str, Any], rule: str, words: str, replicas: int
) -> None:
    """The rest is granted; the plan names the wish that it does not keep and what would keep it."""
    plan = solve(problem(wanted(**fields)))
    assert re.search(words, relaxed(plan)[rule].remedy)
    assert sum(placed(plan).values()) == replicas


def test_survivability_gives_way_kind_by_kind() -> None:
    """Two regions of one provider: no provider may be lost, but a region may, and that much is kept."""
    clusters = (cluster("eu", "eu", provider="aws"), cluster("us", "us", provider="aws"))
    world = problem(wanted(survivability="provider"), clusters=clusters, pools=POOLS[:2])
    plan = solve(world)
    assert relaxed(plan)["survivability"].value.startswith("survives only region instead of provider")
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-on_demand": 1}


def test_a_standby_of_equal_capacity_waits_in_another_region() -> None:
    """The cheapest serves, the next stands by, and once adopted both stay what they are."""
    world = problem(wanted(min_replicas=2, posture="active_passive", survivability="region"))
    plan = solve(world)
    roles = {row.pool_id: (row.min_replicas, row.standby) for row in plan.by_deployment["d-chat"].allocations}
    assert roles == {"p-us-on_demand": (2, False), "p-eu-on_demand": (2, True)}
    assert {share.cluster_id for share in plan.by_deployment["d-chat"].traffic} <= {"c-us"}
    standing = adopted(world, plan)
    cheaper = tuple(replace(one, instance_micro_usd_per_h=1) if "eu" in one.pool_id else one for one in POOLS)
    again = solve(replace(standing, pools=cheaper)).by_deployment["d-chat"]
    assert {row.pool_id: (row.min_replicas, row.standby) for row in again.allocations} == roles


def test_demand_decides_how_many_replicas_by_what_each_pool_was_measured_to_do() -> None:
    """4 requests/s: two of the fast pool cost less than four of the cheap one; the room is planned, one is ready."""
    fast = pool(
        "us", pool_id="p-us-fast", name="fast", instance_type_id="i-2", instance_micro_usd_per_h=1_500_000
    )
    world = problem(
        wanted(max_replicas=9),
        pools=(*POOLS, fast),
        demands=(demand("paris", requests_per_s_p95=4.0),),
        profiles=(profile(1.0), profile(2.0, instance_type_id="i-2")),
    )
    (row,) = solve(world).by_deployment["d-chat"].allocations
    assert (row.pool_id, row.min_replicas, row.planned_replicas, row.max_replicas) == ("p-us-fast", 1, 2, 4)
    unmeasured = replace(world, profiles=world.profiles[:1])
    assert {row.pool_id for row in solve(unmeasured).by_deployment["d-chat"].allocations} == {
        "p-us-on_demand"
    }


def test_a_maximum_bounds_the_demand_that_is_planned_for() -> None:
    """Four are asked for and two allowed: two are planned, and the plan says what serving all would take."""
    world = problem(
        wanted(max_replicas=2), demands=(demand("paris", requests_per_s_p95=4.0),), profiles=(profile(1.0),)
    )
    plan = solve(world)
    assert "raise autoscaling.max_replicas to 4" in relaxed(plan)["max_replicas"].remedy
    assert [row.planned_replicas for row in plan.by_deployment["d-chat"].allocations] == [2]


#: A pool of many weak replicas, which serve most for their price.
WEAK = pool(
    "eu",
    pool_id="p-eu-weak",
    name="weak",
    instance_type_id="i-weak",
    instance_micro_usd_per_h=50_000,
    capacity_instances=40,
)


def test_few_strong_replicas_serve_where_the_maximum_forbids_many_weak_ones() -> None:
    """No wish is given up for the sake of the cheaper ones, whether they run already or not."""
    asked = problem(
        wanted(max_replicas=3, survivability="region"),
        pools=(*POOLS, WEAK),
        demands=(demand("paris", requests_per_s_p95=2.0),),
        profiles=(profile(2.0), profile(0.1, instance_type_id="i-weak")),
    )
    plan = solve(asked)
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-on_demand": 1} and relaxed(plan) == {}
    running = adopted(asked, solve(replace(asked, pools=(WEAK,))))
    assert placed(solve(running)) == {"p-us-on_demand": 1, "p-eu-on_demand": 1}


def test_a_strong_replica_and_a_weak_one_are_the_two_that_are_asked_for() -> None:
    """One serves all of the demand and the other makes up the number: neither has to do both."""
    world = problem(
        wanted(min_replicas=2, max_replicas=9),
        pools=(
            pool("us", capacity_instances=1, instance_micro_usd_per_h=500_000),
            replace(WEAK, instance_micro_usd_per_h=300_000),
        ),
        demands=(demand("paris", requests_per_s_p95=2.0),),
        profiles=(profile(2.0), profile(0.4, instance_type_id="i-weak")),
    )
    plan = solve(world)
    assert {row.pool_id: row.planned_replicas for row in plan.by_deployment["d-chat"].allocations} == {
        "p-us-on_demand": 1,
        "p-eu-weak": 1,
    }


def test_where_too_little_fits_the_maximum_goes_to_those_that_serve_most() -> None:
    """Two strong ones are all that there are: they and one weak one serve more than three weak ones."""
    strong = pool("us", capacity_instances=2)
    asked = problem(
        wanted(max_replicas=3),
        pools=(strong, WEAK),
        demands=(demand("paris", requests_per_s_p95=6.0),),
        profiles=(profile(2.0), profile(0.1, instance_type_id="i-weak")),
    )
    rows = solve(asked).by_deployment["d-chat"].allocations
    assert {row.pool_id: row.planned_replicas for row in rows} == {"p-us-on_demand": 2, "p-eu-weak": 1}


def test_a_maximum_that_serves_too_little_leaves_nothing_to_spare() -> None:
    """Nor is there room for all that the demand takes: the owner's bound is named, not the room that is left."""
    asked = problem(
        wanted(max_replicas=2, survivability="region"),
        demands=(demand("paris", requests_per_s_p95=1000.0),),
        profiles=(profile(1.0),),
    )
    wish = relaxed(solve(asked))["survivability"]
    assert "max_replicas 2 serve 0% of the demand, so none is to spare" in wish.value
    assert wish.remedy.startswith("raise autoscaling.max_replicas and add the capacity for it")


def test_scale_to_zero_keeps_room_for_its_demand_and_nothing_ready() -> None:
    """The owner's 0 stands whatever is expected; the room is there when it comes."""
    world = problem(
        wanted(min_replicas=0), demands=(demand("paris", requests_per_s_p95=2.0),), profiles=(profile(1.0),)
    )
    (row,) = solve(world).by_deployment["d-chat"].allocations
    assert (row.min_replicas, row.planned_replicas) == (0, 2)


def test_clusters_beyond_the_ttft_target_are_not_used_unless_there_is_no_other() -> None:
    """us is cheapest but 0.3 s away from a client who waits 0.2 s; with eu and jp closed it is used, and said."""
    world = problem(
        wanted(slo=Slo(ttft_s_p95=0.2)),
        demands=(demand("paris"),),
        latencies=(
            Latency(origin_region="paris", target_region="us", rtt_ms=300),
            Latency(origin_region="paris", target_region="eu", rtt_ms=15),
            Latency(origin_region="paris", target_region="jp", rtt_ms=250),
        ),
    )
    assert placed(solve(world)) == {"p-eu-on_demand": 1}
    closed = replace(world, pools=(replace(POOLS[0], closed="not schedulable"), *POOLS[1:]))
    plan = solve(closed)
    assert placed(plan) == {"p-us-on_demand": 1}
    assert "nearer" in relaxed(plan)["latency"].remedy


def test_a_budget_cuts_replicas_and_never_breaks() -> None:
    """Three at 1 USD/h with 2 USD/h to spend: two are granted, and the sum that three take is named."""
    world = problem(
        wanted(min_replicas=3), budgets=(Budget(project_id="project", micro_usd_per_h=2_000_000),)
    )
    plan = solve(world)
    assert placed(plan) == {"p-us-on_demand": 2}
    assert "raise the budget to 3.000" in relaxed(plan)["replicas"].remedy


def test_an_engine_goes_only_on_gpus_it_runs_on() -> None:
    """TensorRT-LLM does not run on another vendor's GPU; vLLM does."""
    amd = (pool("eu", gpu_vendor="amd", gpu_type="MI300X"),)
    assert refusal(solve(problem(wanted(engine="tensorrt_llm"), pools=amd))).rule == "engine"
    assert placed(solve(problem(wanted(engine="vllm"), pools=amd)))


def test_no_pool_at_all_says_so() -> None:
    """An organization without pools gets the first thing to do."""
    assert refusal(solve(problem(wanted(), pools=()))).rule == "no_pool"


def test_of_equal_pools_the_remedy_names_the_same_whatever_the_order() -> None:
    """Pools of one name and price in two clusters: the order in which they were read decides nothing."""
    full = (pool("eu", capacity_instances=0), pool("us", capacity_instances=0))
    answers = {refusal(solve(problem(wanted(), pools=pools))).remedy for pools in (full, full[::-1])}
    assert len(answers) == 1


def test_lack_of_room_names_the_pool_to_enlarge() -> None:
    """The smallest change is an exact number of machines in a named pool."""
    plan = solve(problem(wanted(min_replicas=6, max_replicas=6, residency=("eu",))))
    answer = relaxed(plan)["replicas"]
    assert "add 2 h100-1x (2 H100) to pool eu/on-demand" in answer.remedy


def test_surviving_a_region_keeps_enough_outside_it() -> None:
    """With three regions, two replicas that must survive cost one spare, not two."""
    plan = solve(problem(wanted(min_replicas=2, survivability="region")))
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-on_demand": 1, "p-jp-on_demand": 1}


def test_a_provider_with_two_regions_is_one_domain() -> None:
    """Regions of one provider do not back each other up under survivability: provider."""
    clusters = (
        cluster("eu", "eu", provider="aws"),
        cluster("us", "us", provider="aws"),
        cluster("jp", "jp", provider="azure"),
    )
    plan = solve(problem(wanted(survivability="provider"), clusters=clusters))
    assert placed(plan) == {"p-us-on_demand": 1, "p-jp-on_demand": 1}


def test_spot_is_weighed_with_its_hazard() -> None:
    """Cheap spot is taken unless its losses cost more than it saves; for a promise it counts by its chance."""
    spot = pool("eu", procurement="spot", instance_micro_usd_per_h=700_000, hazard_per_h=0.1)
    assert placed(solve(problem(wanted(), pools=(*POOLS, spot)))) == {"p-eu-spot": 1}
    risky = replace(spot, hazard_per_h=0.5)
    assert placed(solve(problem(wanted(), pools=(*POOLS, risky)))) == {"p-us-on_demand": 1}
    plan = solve(problem(wanted(survivability="region"), pools=(*POOLS, spot)))
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-spot": 2}
    dearer = replace(spot, instance_micro_usd_per_h=1_900_000)
    plan = solve(problem(wanted(survivability="region"), pools=(*POOLS, dearer)))
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-on_demand": 1}


def test_a_zone_that_has_spot_alone_is_a_second_one_to_survive_in() -> None:
    """All that the loss of the zone takes is then one spot group; it counts as a domain all the same."""
    spot = pool("eu", procurement="spot", instance_micro_usd_per_h=700_000, hazard_per_h=0.1)
    plan = solve(problem(wanted(survivability="zone"), pools=(POOLS[1], spot)))
    assert placed(plan) == {"p-us-on_demand": 1, "p-eu-spot": 2}
    other = pool("us", procurement="spot", instance_micro_usd_per_h=700_000, hazard_per_h=0.1)
    plan = solve(problem(wanted(survivability="zone"), pools=(other, spot)))
    assert placed(plan) == {"p-us-spot": 2, "p-eu-spot": 2}


def test_a_newcomer_displaces_nobody_but_waits_by_priority() -> None:
    """What runs stays, whatever the newcomer's priority; among newcomers the higher priority wins the last GPU."""
    last = (pool("eu", capacity_instances=1),)
    world = problem(wanted("old"), pools=last)
    standing = adopted(world, solve(world))
    plan = solve(replace(standing, deployments=(wanted("old"), wanted("new", priority=100))))
    assert placed(plan, "old") and refusal(plan, "new").rule == "pool_capacity"
    plan = solve(problem(wanted("low"), wanted("high", priority=1, created_at_s=2.0), pools=last))
    assert placed(plan, "high") and refusal(plan, "low").rule == "pool_capacity"


def test_what_runs_does_not_move_for_a_price() -> None:
    """A cheaper pool that opens later attracts nothing that runs."""
    world = problem(wanted(), pools=(POOLS[0],))
    standing = adopted(world, solve(world))
    assert placed(solve(replace(standing, pools=POOLS))) == {"p-eu-on_demand": 1}


def test_a_disconnected_cluster_keeps_what_it_has_and_gets_nothing_new() -> None:
    """Closing a cluster moves nothing; more replicas go elsewhere."""
    world = problem(wanted())
    standing = adopted(world, solve(world))
    clusters = tuple(
        replace(c, closed="agent not connected") if c.name == "us" else c for c in standing.clusters
    )
    closed = replace(standing, clusters=clusters)
    assert placed(solve(closed)) == {"p-us-on_demand": 1}
    more = replace(closed, deployments=(wanted(min_replicas=2),))
    assert placed(solve(more)) == {"p-us-on_demand": 1, "p-eu-on_demand": 1}


def test_a_wish_that_fits_nowhere_takes_nothing_away() -> None:
    """Asking for too much gets what there is; asking for what nobody has keeps what lawfully runs."""
    world = problem(wanted())
    standing = adopted(world, solve(world))
    plan = solve(replace(standing, deployments=(wanted(min_replicas=99, max_replicas=99),)))
    assert sum(placed(plan).values()) == 12
    assert set(relaxed(plan)) == {"replicas"}
    plan = solve(replace(standing, deployments=(wanted(precision="fp4"),)))
    assert placed(plan) == {"p-us-on_demand": 1}
    assert refusal(plan).rule == "precision"
    unlawful = replace(standing, deployments=(wanted(precision="fp4", residency=("eu",)),))
    assert placed(solve(unlawful)) == {}


def test_a_new_revision_takes_the_gpus_of_the_old_one_over() -> None:
    """In a full pool the successor is placed where its predecessor drains; nobody else gets that room."""
    last = (pool("eu", capacity_instances=1),)
    leaving = Occupancy(deployment_id="d-chat", pool_id="p-eu-on_demand", gpus_per_replica=1, replicas=1)
    plan = solve(problem(wanted(), wanted("other", created_at_s=0.0), pools=last, occupancies=(leaving,)))
    assert placed(plan) == {"p-eu-on_demand": 1}
    assert refusal(plan, "other").rule == "pool_capacity"


def test_ceilings_share_what_the_minima_leave() -> None:
    """The maximum is split over the places that have room, and never exceeds it."""
    plan = solve(problem(wanted(min_replicas=2, max_replicas=5, survivability="region")))
    ceilings = {row.pool_id: row.max_replicas for row in plan.by_deployment["d-chat"].allocations}
    assert sum(ceilings.values()) == 5
    assert max(ceilings.values()) == 2
    crowded = solve(problem(wanted(max_replicas=10), pools=(pool("eu", capacity_instances=2),)))
    assert crowded.by_deployment["d-chat"].allocations[0].max_replicas == 2


def test_scale_to_zero_has_a_place_to_start_in() -> None:
    """min_replicas 0 promises no room but names a place, and costs nothing while it sleeps."""
    plan = solve(problem(wanted(min_replicas=0)))
    (row,) = plan.by_deployment["d-chat"].allocations
    assert (row.min_replicas, row.max_replicas, plan.micro_usd_per_h) == (0, 4, 0)


def test_a_budget_is_never_exceeded() -> None:
    """The second deployment of a project that can pay one is refused with the sum it takes."""
    world = problem(
        wanted("a"),
        wanted("b", created_at_s=2.0),
        budgets=(Budget(project_id="project", micro_usd_per_h=1_500_000),),
    )
    answer = refusal(solve(world), "b")
    assert (answer.rule, "2.000" in answer.remedy) == ("budget", True)


def test_a_budget_raised_to_what_a_refusal_or_the_smallest_change_says_is_enough() -> None:
    """To the micro-dollar: a GPU at 4.096412 USD/h is not to be had for 4.096."""
    pools = (pool("us", instance_micro_usd_per_h=4_096_412),)
    poor = problem(wanted(), pools=pools, budgets=(Budget(project_id="project", micro_usd_per_h=4_096_411),))
    plan = solve(poor)
    change = smallest_change(poor, plan, "d-chat")
    assert change is not None
    assert "may spend 4.096411 USD/h" in refusal(plan).remedy
    for said, told in (
        (r"raise the budget to ([\d.]+),", refusal(plan).remedy),
        (r"a budget of ([\d.]+) ", change.said),
    ):
        [amount_usd] = re.findall(said, told)
        raised = Budget(project_id="project", micro_usd_per_h=int(Decimal(amount_usd) * 1_000_000))
        assert placed(solve(replace(poor, budgets=(raised,)))), told


def test_traffic_goes_to_the_nearest_place() -> None:
    """Each origin with demand is sent to the cluster with the shortest round trip."""
    asked = demand("paris")
    world = problem(
        wanted(min_replicas=2, survivability="region", max_replicas=4),
        demands=(asked,),
        latencies=(
            Latency(origin_region="paris", target_region="us", rtt_ms=80),
            Latency(origin_region="paris", target_region="eu", rtt_ms=15),
        ),
    )
    (share,) = solve(world).by_deployment["d-chat"].traffic
    assert (share.cluster_id, share.share) == ("c-eu", 1.0)


def test_every_pool_has_a_reason() -> None:
    """Taken or not, each pool can be asked why."""
    world = problem(wanted(residency=("eu", "us")))
    reasons = {reason.cluster: reason for reason in explain(world, solve(world), "d-chat")}
    assert reasons["us"].allocation is not None
    assert reasons["us"].allocation.reasons == ("1 at 1.000 USD/h each, the cheapest on_demand room left",)
    refused = {name: reason.refusal.rule for name, reason in reasons.items() if reason.refusal is not None}
    assert refused == {"eu": "not_needed", "jp": "residency"}


def _refusals(world, name: str = "chat"):
    """cluster/pool -> why not."""
    reasons = explain(world, solve(world), f"d-{name}")
    return {f"{one.cluster}/{one.pool}": one.refusal for one in reasons if one.refusal is not None}


def test_nothing_is_cheaper_than_what_is_paid_for_already() -> None:
    """Whatever a reserved machine's price, using it adds nothing to the bill."""
    paid = Reservation(pool_id=POOLS[0].pool_id, instances=1, instance_micro_usd_per_h=9_000_000)
    world = problem(wanted(), pools=POOLS, reservations=(paid,))
    assert all(
        "paid for already" in said.value for said in _refusals(world).values() if said.rule == "not_needed"
    )


def test_a_cheaper_pool_says_what_stands_against_it() -> None:
    """With money: a zone that carries enough, hazards that eat the difference, a move that is not worth it."""
    second = (
        pool(
            "us", pool_id="p-us-2", name="second", instance_type_id="i-2", instance_micro_usd_per_h=1_690_000
        ),
    )
    world = problem(wanted(survivability="region"), pools=(POOLS[0], POOLS[1], *second))
    said = _refusals(world)["us/second"]
    assert said.rule == "survivability"
    assert said.value == (
        "0.310 USD/h cheaper a replica than eu/on-demand, refused: region us carries 1 of 2 already"
    )
    risky = pool("eu", procurement="spot", instance_micro_usd_per_h=900_000, hazard_per_h=0.5)
    said = _refusals(problem(wanted(), pools=(*POOLS, risky)))["eu/spot"]
    assert (said.rule, "0.450 USD/h a replica" in said.value) == ("not_needed", True)
    before = problem(wanted(), pools=(POOLS[0],))
    after = replace(adopted(before, solve(before)), pools=POOLS)
    said = _refusals(after)["us/on-demand"]
    assert said.rule == "not_worth_moving"
    assert "1.000 USD/h cheaper" in said.value


def test_a_pool_without_a_profile_or_an_instance_says_so() -> None:
    """Where others were measured, one that was not carries no demand; an empty pool is not merely full."""
    unknown = pool("eu", pool_id="p-new", name="new", instance_type_id="i-2", instance_type="b200-8x")
    empty = pool("jp", capacity_instances=0)
    world = problem(
        wanted(), pools=(*POOLS[:2], empty, unknown), demands=(demand("paris"),), profiles=(profile(9.0),)
    )
    said = _refusals(world)
    assert said["eu/new"].rule == "profile_unknown"
    assert "b200-8x" in said["eu/new"].value
    assert said["jp/on-demand"].value == "the pool has no instance"
    assert "1.000 USD/h dearer" in said["eu/on-demand"].value


def test_who_could_go_elsewhere_makes_way_for_who_could_not() -> None:
    """The older takes the cheap GPU first; the younger may run nowhere else, so that the older goes where it is dearer.

    Where it runs already it makes way only if that is asked for; else the younger is told what it lacks.
    """
    last = (pool("us", instance_micro_usd_per_h=1_000_000, capacity_instances=1), POOLS[0])
    old, young = wanted("old"), wanted("young", residency=("us",), created_at_s=2.0)
    plan = solve(problem(old, young, pools=last))
    assert (placed(plan, "old"), placed(plan, "young")) == ({"p-eu-on_demand": 1}, {"p-us-on_demand": 1})
    before = problem(old, pools=last)
    in_force = solve(before)
    after = replace(adopted(before, in_force), deployments=(old, young))
    plan = solve(after, runners_make_way=True)
    assert (placed(plan, "old"), placed(plan, "young")) == ({"p-eu-on_demand": 1}, {"p-us-on_demand": 1})
    for plan in (solve(after), resolve(after, in_force, {"d-young"})):
        assert placed(plan, "old") == {"p-us-on_demand": 1}
        assert refusal(plan, "young").rule == "pool_capacity"


def test_several_make_way_together_but_for_those_who_can_not_go_elsewhere() -> None:
    """The last needs two GPUs in us to survive the loss of eu; each of three holds one, and one of them must stay."""
    pools = (
        pool("us", instance_micro_usd_per_h=1_000_000, capacity_instances=3),
        pool("eu", instance_micro_usd_per_h=1_100_000, capacity_instances=2),
        pool("jp"),
    )
    flexible = [wanted(name, residency=("us", "jp")) for name in ("one", "two")]
    last = wanted("last", residency=("us", "eu"), survivability="region", min_replicas=2, created_at_s=2.0)
    plan = solve(problem(wanted("settled", residency=("us",)), *flexible, last, pools=pools))
    assert placed(plan, "last") == {"p-us-on_demand": 2, "p-eu-on_demand": 2}
    assert placed(plan, "one") == placed(plan, "two") == {"p-jp-on_demand": 1}
    assert all(not row.relaxed and row.refusal is None for row in plan.deployments)


def test_a_budget_that_was_lowered_takes_from_the_lower_priority() -> None:
    """Both run at 1 USD/h each; with 1 to spend the higher priority keeps its place, though it is younger."""
    first, second = wanted("low", created_at_s=0.0), wanted("high", priority=1)
    before = problem(first, second)
    standing = adopted(before, solve(before))
    plan = solve(replace(standing, budgets=(Budget(project_id="project", micro_usd_per_h=1_000_000),)))
    assert placed(plan, "high") == {"p-us-on_demand": 1}
    assert refusal(plan, "low").rule == "budget"


def test_a_pool_that_shrank_keeps_as_many_as_it_holds() -> None:
    """Three ran in four instances of which two are left: one goes elsewhere, two stay."""
    before = problem(wanted(min_replicas=3))
    standing = adopted(before, solve(before))
    shrunk = tuple(replace(one, capacity_instances=2) if "us" in one.pool_id else one for one in POOLS)
    assert placed(solve(replace(standing, pools=shrunk))) == {"p-us-on_demand": 2, "p-eu-on_demand": 1}
