"""What the solver chooses, and what it answers where nothing fits."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.placement import (
    Budget,
    Demand,
    Latency,
    Occupancy,
    Reservation,
    explain,
    solve,
)
from tests.controlplane.placement.worlds import GIB, POOLS, adopted, cluster, placed, pool, problem, wanted


def refusal(plan, name: str = "chat"):
    found = plan.by_deployment[f"d-{name}"].refusal
    assert found is not None
    return found


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


def test_several_replicas_are_spread_over_clusters() -> None:
    """One per cluster first, the rest where it is cheapest."""
    assert placed(solve(problem(wanted(min_replicas=2)))) == {"p-us-on_demand": 1, "p-eu-on_demand": 1}
    assert placed(solve(problem(wanted(min_replicas=4)))) == {
        "p-us-on_demand": 2,
        "p-eu-on_demand": 1,
        "p-jp-on_demand": 1,
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
        ({"min_replicas": 13, "max_replicas": 13}, "pool_capacity"),
        ({"providers_allowed": ("elsewhere",)}, "provider"),
        ({"survivability": "region", "residency": ("eu",)}, "survivability"),
        ({"survivability": "region", "max_replicas": 1}, "max_replicas"),
        ({"survivability": "region", "posture": "active_passive"}, "posture_standby"),
    ],
)
def test_each_rule_says_what_it_refused(fields: dict[str, Any], rule: str) -> None:
    """The refusal names the rule that stands in the way."""
    assert refusal(solve(problem(wanted(**fields)))).rule == rule


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
    answer = refusal(solve(problem(wanted(min_replicas=6, max_replicas=6, residency=("eu",)))))
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


def test_spot_carries_no_promise_but_saves_money_elsewhere() -> None:
    """Cheap spot is taken where nothing was promised, with its hazard priced in, and never for survivability."""
    spot = pool("eu", procurement="spot", instance_micro_usd_per_h=700_000, hazard_per_h=0.1)
    assert placed(solve(problem(wanted(), pools=(*POOLS, spot)))) == {"p-eu-spot": 1}
    risky = replace(spot, hazard_per_h=0.5)
    assert placed(solve(problem(wanted(), pools=(*POOLS, risky)))) == {"p-us-on_demand": 1}
    assert "p-eu-spot" not in placed(solve(problem(wanted(survivability="region"), pools=(*POOLS, spot))))


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
    """Asking for too much keeps what was granted, with the reason beside it."""
    world = problem(wanted())
    standing = adopted(world, solve(world))
    plan = solve(replace(standing, deployments=(wanted(min_replicas=99, max_replicas=99),)))
    assert placed(plan) == {"p-us-on_demand": 1}
    assert refusal(plan).rule == "pool_capacity"
    unlawful = replace(standing, deployments=(wanted(min_replicas=99, max_replicas=99, residency=("eu",)),))
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
    plan = solve(problem(wanted(min_replicas=2, max_replicas=5)))
    ceilings = {row.pool_id: row.max_replicas for row in plan.by_deployment["d-chat"].allocations}
    assert sum(ceilings.values()) == 5
    assert max(ceilings.values()) == 3
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


def test_traffic_goes_to_the_nearest_place() -> None:
    """Each origin with demand is sent to the cluster with the shortest round trip."""
    demand = Demand(
        deployment_id="d-chat",
        origin_region="paris",
        requests_per_s_p50=1,
        requests_per_s_p95=2,
        tokens_per_s_p50=10,
        tokens_per_s_p95=20,
    )
    world = problem(
        wanted(min_replicas=2),
        demands=(demand,),
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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pool("eu", hazard_per_h=float("nan")), "hazard_per_h is nan"),
        (lambda: pool("eu", gpus_per_instance=0), "gpus_per_instance is 0"),
        (lambda: wanted(min_replicas=2, max_replicas=1), "min_replicas 2, max_replicas 1"),
        (lambda: problem(wanted(), wanted()), "deployment d-chat is there twice"),
        (lambda: problem(pools=(pool("mars"),)), "c-mars is not among the clusters"),
    ],
)
def test_a_broken_problem_cannot_be_made(make, words: str) -> None:
    """Bad rows are named when the problem is built, before anything is decided."""
    with pytest.raises(ValueError, match=words):
        make()
