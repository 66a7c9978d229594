"""What the search promises of any plan that it gives: no dearer, lawful, repeatable, and with a bound that holds."""

import subprocess
import sys
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from controlplane.placement import (
    Budget,
    Demand,
    Latency,
    Occupancy,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    Reservation,
    certify,
    plan_cost,
    plan_costs,
    priced,
    resolve,
    solve,
    to_place_anew,
)
from controlplane.placement.questions.diff import plan_diff
from controlplane.placement.search.batches import Prices, batches, rounded
from controlplane.placement.search.bidding import Bidding
from controlplane.placement.search.clock import Clock
from controlplane.placement.search.full import full_solve
from controlplane.placement.search.improve import Effort, improve
from controlplane.placement.search.market import Demanders, column_of
from controlplane.placement.search.master import Master
from controlplane.placement.search.offers import Offers
from controlplane.placement.search.pricing import price
from tests.benchmarks.placement.instances import instance
from tests.controlplane.placement import test_judged
from tests.controlplane.placement.failures import untruths
from tests.controlplane.placement.random_worlds import random_problem, whole_problems
from tests.controlplane.placement.rules.test_cost import current
from tests.controlplane.placement.test_properties import check
from tests.controlplane.placement.worlds import adopted, cluster, placed, pool, problem, problems, wanted
from workloadplane.protocol.refusal import Refusal

EFFORT = Effort(rounds=12, nodes=200, repairs=4)


def improved(asked: PlacementProblem, start: PlacementPlan | None = None) -> PlacementPlan:
    return improve(asked, start=start, effort=EFFORT, seed=1)


def judged(asked: PlacementProblem, plan: PlacementPlan, start: PlacementPlan) -> None:
    """Lawful by the certificate, as dear as it says, no dearer than the start, no cheaper than its bound."""
    cost = plan_cost(asked, plan).total_micro_usd_per_h
    assert plan.objective_micro_usd_per_h == cost
    assert cost <= plan_cost(asked, start).total_micro_usd_per_h
    assert plan.lower_bound_micro_usd_per_h is None or plan.lower_bound_micro_usd_per_h <= cost
    assert {rule.rule for rule in certify(asked, plan).broken_rules} <= {
        rule.rule for rule in certify(asked, start).broken_rules
    }


@settings(max_examples=60, deadline=None)
@given(problems())
def test_a_better_plan_breaks_no_rule_either(asked: PlacementProblem) -> None:
    """On worlds of every kind, often too small."""
    start = solve(asked)
    plan = improved(asked, start)
    check(asked, plan)
    judged(asked, plan, start)


@settings(max_examples=60, deadline=None)
@given(whole_problems())
def test_a_better_plan_keeps_what_the_first_one_kept(asked: PlacementProblem) -> None:
    """With demand, spot, budgets, distances: who was served as wished still is, by the certificate's arithmetic.

    But for survivability, where somebody lacks more than that.
    """
    start = solve(asked)
    plan = improved(asked, start)
    judged(asked, plan, start)
    test_judged.check(asked, plan)
    relaxed = {entry.deployment_id for entry in start.deployments if entry.relaxed or entry.refusal}
    in_need = any(
        entry.refusal or {wish.rule for wish in entry.relaxed} & {"replicas", "latency"}
        for entry in start.deployments
    )
    for entry in plan.deployments:
        if entry.deployment_id not in relaxed:
            assert entry.refusal is None
            assert {wish.rule for wish in entry.relaxed} <= ({"survivability"} if in_need else set())


def test_the_search_finds_whose_spare_makes_way_too() -> None:
    """One holds two replicas and one is refused: one each costs less, and the bound is one on that."""
    pair = tuple(wanted(name, survivability="region") for name in ("a", "b"))
    asked = problem(*pair, pools=(pool("eu", capacity_instances=1), pool("us", capacity_instances=1)))
    (whole,) = solve(replace(asked, deployments=pair[:1])).deployments
    refused = replace(
        whole,
        deployment_id="d-b",
        allocations=(),
        refusal=Refusal(rule="pool_capacity", subject="b", value="none", remedy="add some"),
    )
    start = priced(
        asked, PlacementPlan(deployments=(whole, refused), micro_usd_per_h=0, marginal_micro_usd_per_h=0)
    )
    plan = improved(asked, start)
    assert [sum(row.room_replicas for row in entry.allocations) for entry in plan.deployments] == [1, 1]
    assert (
        plan.deployments[0]
        .relaxed[0]
        .value.endswith("its spare went to another deployment that needs it more")
    )
    cost, bound = plan.objective_micro_usd_per_h, plan.lower_bound_micro_usd_per_h
    assert cost is not None and bound is not None and bound <= cost <= bound * 1.001
    assert improved(asked).objective_micro_usd_per_h == cost


def test_who_shares_no_pool_with_the_needy_keeps_its_survivability() -> None:
    """Spares in the United States help nobody who must stay in Europe."""
    asked = problem(
        wanted("a", survivability="region", residency=("us", "jp")),
        wanted("b", residency=("eu",), min_replicas=5, max_replicas=5),
    )
    start = solve(asked)
    plan = improved(asked, start)
    assert {wish.rule for wish in start.by_deployment["d-b"].relaxed} == {"replicas"}
    assert plan.by_deployment["d-a"].relaxed == () and len(placed(plan, "a")) == 2


@pytest.mark.parametrize("number", (1240, 4080, 6300, 8356))
def test_what_those_hold_who_are_not_searched_for_is_not_given_away(number: int) -> None:
    """A place to start in takes no room, and yet may hold some, and money of its project's budget."""
    rng = Random(f"0 {number}")
    asked = random_problem(
        rng, clusters=rng.randint(1, 6), pools=rng.randint(1, 9), deployments=rng.randint(1, 6)
    )
    plan = improve(asked, start=solve(asked), effort=Effort(rounds=8, nodes=50, repairs=4), seed=number)
    assert list(untruths(asked, plan)) == []


def _bid(asked: PlacementProblem) -> tuple[float, float]:
    """The bound that prices show, and what the plan costs that they begin from."""
    start = priced(asked, solve(asked))
    offers, costs = Offers(asked), plan_costs(asked, start)
    demanders = Demanders(offers, start.deployments)
    master = Master(offers, demanders.numbers)
    entries = [(number, start.deployments[number]) for number in demanders.numbers]
    master.add([column_of(offers, number, entry, costs[entry.deployment_id]) for number, entry in entries])
    bidding = Bidding(demanders, master, master.guess())
    if entries:
        bidding.run(8, Clock(None))
    return bidding.bound, master.value(range(len(entries)))


@settings(max_examples=60, deadline=None)
@given(whole_problems())
def test_no_bound_is_above_a_plan_that_is_known(asked: PlacementProblem) -> None:
    """Whatever runs already, and whether it could be placed there today."""
    bound, cost = _bid(asked)
    assert bound <= cost + 1e-6 * abs(cost) + 100


def test_what_runs_where_it_could_not_be_placed_today_is_below_no_bound() -> None:
    """It is refused, for its weights are fp8 now and the GPUs compute bf16, and keeps what it has."""
    asked = problem(wanted(min_replicas=2, survivability="region"), pools=(pool("eu", precisions=("bf16",)),))
    asked = replace(
        adopted(asked, solve(asked)), deployments=(replace(asked.deployments[0], precision="fp8"),)
    )
    assert solve(asked).deployments[0].refusal is not None
    bound, cost = _bid(asked)
    assert bound <= cost + 100


@pytest.mark.parametrize("leaving", (0, 1))
def test_replicas_of_an_odd_size_fill_instances_as_the_rules_say(leaving: int) -> None:
    """Two of three GPUs go into an instance of eight, and may take over what one of their own leaves there."""
    dear = pool("eu", gpus_per_instance=8, capacity_instances=2)
    cheap = pool("us", gpus_per_instance=8, capacity_instances=2, instance_micro_usd_per_h=1_000_000)
    gone = Occupancy(deployment_id="d-chat", pool_id=cheap.pool_id, gpus_per_replica=1, replicas=leaving)
    asked = problem(wanted(gpus_per_replica=3, min_replicas=4), pools=(dear, cheap), occupancies=(gone,))
    start = solve(replace(asked, pools=(dear,), occupancies=()))
    plan = improved(asked, start)
    assert placed(start) == {dear.pool_id: 4}
    assert placed(plan) == {cheap.pool_id: 4}
    assert plan.objective_micro_usd_per_h == 1_500_000
    assert (plan.lower_bound_micro_usd_per_h or 0) >= 1_500_000 - 100
    judged(asked, plan, start)


def test_who_runs_beyond_the_minimum_stays_where_that_costs_nothing() -> None:
    """Three are promised, nobody knows a demand: a fourth on reserved GPUs stays, for to stop it costs."""
    pools = tuple(pool(at, procurement="reserved", capacity_instances=8) for at in ("eu", "us"))
    asked = problem(
        wanted(min_replicas=3, max_replicas=6),
        pools=pools,
        reservations=tuple(
            Reservation(pool_id=one.pool_id, instances=8, instance_micro_usd_per_h=1_500_000) for one in pools
        ),
        current=(current("p-eu-reserved", 2), current("p-us-reserved", 2)),
    )
    plan = improved(asked)
    rows = plan.deployments[0].allocations
    assert {row.pool_id: row.room_replicas for row in rows} == {"p-eu-reserved": 2, "p-us-reserved": 2}
    assert sum(row.min_replicas for row in rows) == 3
    assert plan.objective_micro_usd_per_h == plan.lower_bound_micro_usd_per_h == 0
    judged(asked, plan, solve(asked))


def test_spares_that_a_loss_demands_are_kept_ready_and_not_told_as_planned() -> None:
    """Nobody knows a demand and nothing runs yet: what is more than the minimum is there for a loss alone."""
    asked = problem(wanted(min_replicas=2, max_replicas=6, survivability="region"))
    for plan in (solve(asked), improved(asked)):
        rows = plan.deployments[0].allocations
        assert sum(row.min_replicas for row in rows) > 2
        assert [row.planned_replicas for row in rows] == [0] * len(rows)


def test_what_serves_nothing_may_stay_where_leaving_costs_more() -> None:
    """Reserved GPUs of a type of which nothing was measured: four stay beside two that serve, all for nothing."""
    asked = _served(survivability="region")
    asked = replace(
        asked,
        pools=(
            *(pool(name, instance_micro_usd_per_h=0) for name in ("eu", "us")),
            pool("jp", procurement="reserved", instance_type_id="i-2", instance_type="a100-1x"),
        ),
        reservations=(Reservation(pool_id="p-jp-reserved", instances=4, instance_micro_usd_per_h=1),),
        current=(current("p-jp-reserved", 4),),
        demands=(replace(asked.demands[0], requests_per_s_p95=4.0, tokens_per_s_p95=40.0),),
    )
    offers = Offers(asked)
    offer = offers.offer(0)
    needs = rounded(offer, offers.pools)
    assert needs is not None and list(offer.held) == [0, 4, 0]
    (batch,) = batches(offers.pools, [(offer, needs)])
    free = np.zeros(len(asked.pools))
    (found,) = price(batch, Prices(used=free, scarce=free, budget=np.zeros(0)), np.array([-1]))
    assert (
        found.bound == float(offer.late[0].min())
        and found.replicas is not None
        and list(found.replicas) == [1, 4, 1]
    )


@pytest.mark.parametrize("seed", range(1, 5))
def test_realistic_worlds_get_cheaper_and_keep_their_promises(seed: int) -> None:
    """Thirty deployments on twelve pools: all that is promised certified, and a bound close below."""
    asked = instance(deployments=30, pools=12, regions=4, seed=seed)
    start = solve(asked)
    plan = improve(asked, start=start, effort=Effort(rounds=20, nodes=500, repairs=8), seed=1)
    judged(asked, plan, start)
    test_judged.check(asked, plan)
    cost, bound = plan.objective_micro_usd_per_h, plan.lower_bound_micro_usd_per_h
    assert cost is not None and bound is not None and bound <= cost <= bound * 1.1


def test_the_same_seed_and_effort_give_the_same_plan() -> None:
    """Work is counted, not timed."""
    asked = instance(deployments=20, pools=10, regions=3, seed=3)
    assert improved(asked) == improved(asked)


def test_small_worlds_are_solved_to_the_end() -> None:
    """Ten deployments on twelve pools: the bound meets the plan."""
    for seed in (1, 2, 3):
        asked = instance(deployments=8, pools=10, regions=3, seed=seed)
        plan = improve(asked, start=None, effort=Effort(nodes=20_000), seed=1)
        assert _gap_of_what_is_spent(asked, plan) <= 0.001


def test_small_worlds_where_not_all_fits_are_solved_to_the_end() -> None:
    """Six tenths of the capacity, seven of the money: who lacks how much is decided, and nothing is cheaper."""
    lacking = 0
    for seed in (23, 24, 26):
        asked = instance(deployments=10, pools=12, regions=4, seed=seed)
        asked = replace(
            asked,
            pools=tuple(
                replace(one, capacity_instances=max(1, one.capacity_instances * 6 // 10))
                for one in asked.pools
            ),
            budgets=tuple(
                replace(one, micro_usd_per_h=one.micro_usd_per_h * 7 // 10) for one in asked.budgets
            ),
        )
        start = solve(asked)
        plan = improve(asked, start=start, effort=Effort(nodes=20_000), seed=1)
        judged(asked, plan, start)
        test_judged.check(asked, plan)
        assert _gap_of_what_is_spent(asked, plan) <= 0.001
        lacking += plan_cost(asked, plan).relaxed_micro_usd_per_h > 0
    assert lacking


def _gap_of_what_is_spent(asked: PlacementProblem, plan: PlacementPlan) -> float:
    cost = plan_cost(asked, plan)
    assert plan.lower_bound_micro_usd_per_h is not None
    spent = cost.total_micro_usd_per_h - cost.relaxed_micro_usd_per_h
    return (cost.total_micro_usd_per_h - plan.lower_bound_micro_usd_per_h) / spent


def test_the_search_says_nothing() -> None:
    """What a command prints is its own. HiGHS names itself once a process: so in one of its own."""
    begun = "from controlplane.placement.search.highs import silent; silent().run()"
    told = subprocess.run([sys.executable, "-c", begun], capture_output=True, text=True, check=True)
    assert told.stdout == ""


def test_the_cheapest_of_all_plans_is_found() -> None:
    """Every way to put three deployments into three pools, tried one by one, against what the search found."""
    clusters = tuple(cluster(name, name) for name in ("eu", "us", "jp"))
    prices = (3_000_000, 2_000_000, 2_500_000)
    pools = tuple(
        pool(name, instance_micro_usd_per_h=price, capacity_instances=size)
        for name, price, size in zip(("eu", "us", "jp"), prices, (4, 3, 2), strict=True)
    )
    wishes = (
        wanted("a", min_replicas=2, survivability="none", created_at_s=1),
        wanted("b", min_replicas=1, survivability="region", created_at_s=2),
        wanted("c", min_replicas=2, survivability="none", residency=("eu", "jp"), created_at_s=3),
    )
    asked = problem(*wishes, clusters=clusters, pools=pools)
    best = min(
        sum(count * prices[place] for row in rows for place, count in enumerate(row))
        for rows in product(product(range(4), repeat=3), repeat=3)
        if all(sum(row[place] for row in rows) <= (4, 3, 2)[place] for place in range(3))
        and sum(rows[0]) >= 2
        and sum(rows[1]) - max(rows[1]) >= 1
        and rows[2][1] == 0
        and sum(rows[2]) >= 2
    )
    plan = improved(asked)
    assert plan.objective_micro_usd_per_h == best
    assert plan.lower_bound_micro_usd_per_h is not None
    assert best - 100 <= plan.lower_bound_micro_usd_per_h <= best


def _served(**fields: object) -> PlacementProblem:
    """One deployment that asks for 10 requests/s of replicas that do 4 each, on three regions."""
    clusters = tuple(cluster(name, name) for name in ("eu", "us", "jp"))
    demand = Demand(
        deployment_id="d-chat",
        origin_region="eu",
        requests_per_s_p50=5,
        requests_per_s_p95=10,
        tokens_per_s_p50=50,
        tokens_per_s_p95=100,
    )
    profile = PerformanceProfile(
        model_version_id="m",
        instance_type_id="i-1",
        tensor_parallel=1,
        requests_per_s=4,
        tokens_per_s=400,
        concurrency=8,
    )
    return problem(
        wanted("chat", max_replicas=20, **fields),
        clusters=clusters,
        pools=tuple(pool(name, capacity_instances=20) for name in ("eu", "us", "jp")),
        demands=(demand,),
        profiles=(profile,),
    )


def test_a_loss_is_survived_with_the_fewest_replicas() -> None:
    """Three are needed: 2 + 2 + 2 survive the loss of a region with one less than 3 + 3 and two of no use."""
    plan = improved(_served(survivability="region"))
    rows = plan.deployments[0].allocations
    assert sum(row.room_replicas for row in rows) == 5
    assert max(row.room_replicas for row in rows) == 2


def test_one_region_serves_and_another_stands_by() -> None:
    """active_passive: all that serves in one cluster, as much again in another one."""
    plan = improved(_served(survivability="region", posture="active_passive"))
    rows = plan.deployments[0].allocations
    assert sorted((row.standby, row.room_replicas) for row in rows) == [(False, 3), (True, 3)]


def test_a_budget_is_kept_though_a_dearer_plan_would_be_nearer() -> None:
    """Traffic is late from afar, yet the money only reaches for the cheap and distant region."""
    asked = _served(survivability="none")
    dear = tuple(
        replace(one, instance_micro_usd_per_h=2_000_000 if one.cluster_id == "c-jp" else 2_100_000)
        for one in asked.pools
    )
    asked = replace(asked, pools=dear, budgets=(Budget(project_id="project", micro_usd_per_h=6_000_000),))
    assert set(placed(improved(asked))) == {"p-jp-on_demand"}


def test_what_runs_stays_where_moving_saves_less_than_it_costs() -> None:
    """A region that is cheaper by less than the move costs takes nothing over."""
    asked = problem(wanted("chat"), pools=(pool("eu"), pool("us", instance_micro_usd_per_h=1_999_000)))
    here = adopted(asked, solve(replace(asked, pools=(pool("eu"),))))
    assert set(placed(improved(replace(here, pools=asked.pools)))) == {"p-eu-on_demand"}


@pytest.mark.parametrize(
    ("rtt_ms", "serves"),
    [(150.0, "p-us-on_demand"), (300.0, "p-us-on_demand"), (2000.0, "p-eu-on_demand")],
)
def test_a_pair_is_handed_over_for_dollars_and_not_for_cents(rtt_ms: float, serves: str) -> None:
    """Three replicas at 2 USD/h serve in us and as many stand by in eu, from where all ask.

    To hand over costs 0.5 USD/h. It saves the way: 0.18 USD/h, or 0.72; that is below half as much again. Or 6.84.
    """
    asked = _served(survivability="region", posture="active_passive")
    us, eu = current("p-us-on_demand", 3), replace(current("p-eu-on_demand", 3), standby=True)
    far = Latency(origin_region="eu", target_region="us", rtt_ms=rtt_ms)
    found = full_solve(replace(asked, current=(us, eu), latencies=(far,)), effort=EFFORT)
    plan = found.better if found.worth.adopt else found.stay
    serving = {row.pool_id for row in plan.deployments[0].allocations if not row.standby}
    assert serving == {serves}
    assert plan_diff(found.problem, found.stay, found.problem, plan).replicas_moved == 0


def test_a_pair_whose_region_is_lost_is_handed_over_at_once() -> None:
    """Whatever that costs: a wish costs more."""
    asked = _served(survivability="region", posture="active_passive")
    us, eu = current("p-us-on_demand", 3), replace(current("p-eu-on_demand", 3), standby=True)
    before = replace(asked, current=(us, eu))
    lost = tuple(
        replace(one, capacity_instances=0, closed="lost") if one.cluster_id == "c-us" else one
        for one in asked.pools
    )
    after = replace(before, pools=lost)
    in_force = solve(before)
    for plan in (resolve(after, in_force, to_place_anew(in_force, before, after)), improved(after)):
        serving = {row.pool_id for row in plan.deployments[0].allocations if not row.standby}
        assert serving == {"p-eu-on_demand"}


def test_what_is_paid_for_already_is_not_filled_for_nothing() -> None:
    """One moves to reserved GPUs, which cost no more whoever fills them; chat needs none beside its two and two."""
    pools = tuple(pool(at, procurement="reserved", capacity_instances=8) for at in ("eu", "us", "jp"))
    running = [current("p-eu-reserved", 2), current("p-us-reserved", 2)]
    moving = replace(
        current("p-us-on_demand", 1), assignment_id="a-m", deployment_id="d-moves", revision_id="r-moves-1"
    )
    asked = problem(
        wanted(survivability="provider", min_replicas=2, max_replicas=6),
        wanted("moves"),
        pools=(*pools, pool("us", instance_micro_usd_per_h=3_000_000)),
        reservations=tuple(
            Reservation(pool_id=one.pool_id, instances=8, instance_micro_usd_per_h=1_500_000) for one in pools
        ),
        current=(*running, moving),
    )
    plan = improved(asked)
    assert placed(plan, "moves").keys() != {"p-us-on_demand"}
    assert placed(plan) == {"p-eu-reserved": 2, "p-us-reserved": 2}


def test_scarce_gpus_have_a_price() -> None:
    """Two want the one cheap GPU; one more of it would save what the next pool costs more."""
    asked = problem(
        wanted("a"),
        wanted("b"),
        wanted("c"),
        pools=(
            pool("us", capacity_instances=1, instance_micro_usd_per_h=1_000_000),
            pool("eu", instance_micro_usd_per_h=3_000_000),
        ),
    )
    prices = improved(asked).gpu_micro_usd_per_h_by_pool
    assert 1_900_000 <= prices["p-us-on_demand"] <= 2_100_000 and "p-eu-on_demand" not in prices


def test_last_prices_bring_the_next_search_near_the_end_at_once() -> None:
    """A third more demand for one in four: with what GPUs were worth before, three rounds prove more than without."""
    asked = instance(deployments=30, pools=12, regions=4, seed=2)
    before = improve(asked, start=None, effort=Effort(rounds=14, nodes=1, repairs=0), seed=1)
    later = replace(
        asked,
        demands=tuple(
            replace(
                row,
                requests_per_s_p95=row.requests_per_s_p95 * 1.3,
                tokens_per_s_p95=row.tokens_per_s_p95 * 1.3,
            )
            if number % 4 == 0
            else row
            for number, row in enumerate(asked.demands)
        ),
    )
    known = before.gpu_micro_usd_per_h_by_pool
    short = Effort(rounds=3, nodes=1, repairs=0)
    cold = improve(later, start=None, effort=short, seed=1)
    warm = improve(later, start=None, effort=short, seed=1, gpu_micro_usd_per_h_by_pool=known)
    stale = {pool_id: 100 * worth for pool_id, worth in known.items()} | {"gone": 5}
    odd = improve(later, start=None, effort=short, seed=1, gpu_micro_usd_per_h_by_pool=stale)
    best = improve(later, start=None, effort=Effort(rounds=30, repairs=0), seed=1)
    assert cold.lower_bound_micro_usd_per_h is not None and warm.lower_bound_micro_usd_per_h is not None
    assert best.objective_micro_usd_per_h is not None and odd.lower_bound_micro_usd_per_h is not None
    assert warm.lower_bound_micro_usd_per_h > cold.lower_bound_micro_usd_per_h
    assert (
        max(warm.lower_bound_micro_usd_per_h, odd.lower_bound_micro_usd_per_h)
        <= best.objective_micro_usd_per_h
    )


def test_a_deadline_ends_the_search_with_a_plan() -> None:
    """With no time at all there is still the plan that it began with."""
    asked = instance(deployments=20, pools=10, regions=3, seed=2)
    start = solve(asked)
    plan = improve(asked, start=start, effort=Effort(left_s=lambda: 0.0), seed=1)
    judged(asked, plan, start)
