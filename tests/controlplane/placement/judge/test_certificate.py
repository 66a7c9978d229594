"""The judge: what a plan survives, by its own arithmetic."""

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import (
    Demand,
    DeploymentPlan,
    FailureDomain,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    Reservation,
    certify,
    plan_decode,
    plan_encode,
    problem_decode,
    problem_encode,
    problem_sha256,
    solve,
    survive,
)
from controlplane.placement.judge.broken_rules import fits
from tests.controlplane.placement.failures import disagreements, packs_exactly, price_by_trying
from tests.controlplane.placement.plans import allocation, plan_of, planned
from tests.controlplane.placement.random_worlds import planned_problems
from tests.controlplane.placement.worlds import CLUSTERS, POOLS, pool, problem, wanted


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
    assert "chat: losing region us leaves 0 of 1 promised replica" in certificate.broken_promises


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


@settings(max_examples=400, deadline=None)
@given(planned_problems())
def test_the_judge_agrees_with_losing_each_domain_by_hand(
    case: tuple[PlacementProblem, PlacementPlan],
) -> None:
    """Against brute force, for any plan: capacity and replicas left, verdicts, promises and domains."""
    assert list(disagreements(*case)) == []


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from((1, 2, 4, 6, 8)),
    st.dictionaries(st.integers(1, 8), st.integers(0, 4), max_size=3),
)
def test_what_is_said_to_fit_fits(instances: int, gpus: int, replicas: dict[int, int]) -> None:
    """Against trying every way to put replicas into instances; where sizes divide one another, also the other way."""
    sizes = [size for size, count in replicas.items() for _ in range(count)]
    exact = packs_exactly(instances, gpus, sizes)
    said = fits(instances, gpus, replicas)
    assert exact or not said
    if all(size in (1, 2, 4, 8) for size in sizes) and gpus in (1, 2, 4, 8):
        assert said == exact


@settings(max_examples=300, deadline=None)
@given(planned_problems())
def test_the_price_of_a_promise_is_the_dearest_set_that_may_go(
    case: tuple[PlacementProblem, PlacementPlan],
) -> None:
    """Against trying every subset."""
    world, plan = case
    for promise in certify(world, plan).promises:
        assert promise.price_micro_usd_per_h == pytest.approx(price_by_trying(world, plan, promise), abs=2)


def test_whoever_loses_everything_starts_anew_where_that_is_quickest() -> None:
    """Only among open pools that it could use, outside of what is lost."""
    pools = (POOLS[0], *(replace(one, instance_type_id=f"i-{one.pool_id}") for one in POOLS[1:]))
    profiles = tuple(
        replace(H100, instance_type_id=name, weight_load_s=cold_start_s)
        for name, cold_start_s in (("i-1", 10.0), ("i-p-us-on_demand", 70.0), ("i-p-jp-on_demand", 50.0))
    )
    world = problem(wanted(), pools=pools, profiles=profiles)
    plan = plan_of(given_to("chat", {"p-eu-on_demand": 1}))
    assert {loss.recovery_s for loss in certify(world, plan).losses} == {50.0}
    lawful = replace(world, deployments=(wanted(residency=("eu", "us")),))
    assert {loss.recovery_s for loss in certify(lawful, plan).losses} == {70.0}
    nowhere = replace(world, deployments=(wanted(residency=("eu",)),))
    assert {loss.recovery_s for loss in certify(nowhere, plan).losses} == {None}


H100 = PerformanceProfile(
    model_version_id="m",
    instance_type_id="i-1",
    tensor_parallel=1,
    requests_per_s=2.0,
    tokens_per_s=1000.0,
    concurrency=8,
)


def asked(requests_per_s: float, tokens_per_s: float = 0.0, name: str = "chat") -> Demand:
    return Demand(
        deployment_id=f"d-{name}",
        origin_region="eu",
        requests_per_s_p50=0,
        requests_per_s_p95=requests_per_s,
        tokens_per_s_p50=0,
        tokens_per_s_p95=tokens_per_s,
    )


def given_to(name: str, rows: dict[str, int], **fields: Any) -> DeploymentPlan:
    """Ready replicas by pool id."""
    return planned(
        *(allocation(pool_id, ready, name=name, **fields) for pool_id, ready in rows.items()), name=name
    )


def test_demand_is_turned_into_shares_by_what_was_measured() -> None:
    """By hand: 5 requests/s of which a replica serves 2; 3,000 tokens/s ask for more: three replicas of 1,000."""
    world = problem(wanted(survivability="region"), demands=(asked(5),), profiles=(H100,))
    plan = plan_of(given_to("chat", {"p-eu-on_demand": 3, "p-us-on_demand": 2}))
    losses = {str(loss.domain): loss for loss in certify(world, plan).losses}
    assert losses["region us"].share_left == pytest.approx(1.2)
    assert losses["region eu"].share_left == pytest.approx(0.8)
    assert (losses["region us"].verdict, losses["region eu"].verdict) == ("survives", "degraded")
    said = "chat: losing region eu leaves capacity for 80 % of the demand planned for"
    assert said in certify(world, plan).broken_promises
    by_tokens = replace(world, demands=(asked(5, 3000),))
    [eu] = [loss for loss in certify(by_tokens, plan).losses if str(loss.domain) == "region eu"]
    assert eu.share_left == pytest.approx(2 / 3)
    assert eu.margin_share == pytest.approx(-1 / 3)
    assert (eu.requests_per_s, eu.tokens_per_s) == (5, 3000)


def test_spot_counts_with_its_chance_and_is_lost_in_groups() -> None:
    """By hand: at hazard 0.1/h a spot replica lives through the hour with 0.905; two types are two groups."""
    pools = (
        *POOLS,
        pool("eu", procurement="spot", hazard_per_h=0.1),
        pool("eu", procurement="spot", pool_id="p-2", name="2", instance_type="h100-2x", hazard_per_h=0.1),
    )
    world = problem(wanted(survivability="zone", min_replicas=2), pools=pools)
    plan = plan_of(given_to("chat", {"p-eu-spot": 1, "p-2": 3, "p-us-on_demand": 2}))
    left = {str(loss.domain): loss.replicas_left for loss in certify(world, plan).losses}
    assert left["spot group h100-1x@eu-a"] == pytest.approx(2 + 3 * math.exp(-0.1))
    assert left["spot group h100-2x@eu-a"] == pytest.approx(2 + math.exp(-0.1))
    assert left["zone eu-a"] == 2
    assert left["zone us-a"] == pytest.approx(4 * math.exp(-0.1))
    carefree = replace(world, deployments=(wanted(min_replicas=2),))
    left = {str(loss.domain): loss.replicas_left for loss in certify(carefree, plan).losses}
    assert left["zone us-a"] == 4


def test_a_standby_serves_after_a_loss_and_not_before() -> None:
    """Of active_passive one cluster serves: with nothing lost the first, then the standby."""
    world = problem(wanted(posture="active_passive", survivability="region", min_replicas=2))
    serving, standby = (
        given_to("chat", {"p-eu-on_demand": 2}),
        given_to("chat", {"p-us-on_demand": 2}, standby=True),
    )
    both = replace(serving, allocations=(*serving.allocations, *standby.allocations))
    certificate = certify(world, plan_of(both))
    assert certificate.broken_promises == ()
    [promise] = certificate.promises
    assert (promise.kept, promise.replicas) == (True, 2)
    assert promise.price_micro_usd_per_h == 2_000_000
    small = replace(standby, allocations=(replace(standby.allocations[0], min_replicas=1),))
    uneven = replace(serving, allocations=(*serving.allocations, *small.allocations))
    assert (
        "chat: losing region eu leaves 1 of 2 promised replicas"
        in certify(world, plan_of(uneven)).broken_promises
    )


def test_a_promise_costs_what_stands_there_for_it_alone() -> None:
    """By hand: one of three replicas would do; the cheapest one stays, reserved GPUs cost nothing anyway."""
    world = problem(wanted(survivability="region", max_replicas=9))
    plan = plan_of(given_to("chat", {"p-eu-on_demand": 1, "p-us-on_demand": 1, "p-jp-on_demand": 1}))
    assert certify(world, plan).price_of_promises_micro_usd_per_h == 5_000_000
    paid = replace(
        world, reservations=(Reservation(pool_id="p-jp-on_demand", instances=1, instance_micro_usd_per_h=1),)
    )
    assert certify(paid, plan).price_of_promises_micro_usd_per_h == 3_000_000
    carefree = replace(world, deployments=(wanted(max_replicas=9),))
    assert certify(carefree, plan).price_of_promises_micro_usd_per_h == 0


def test_a_domain_says_what_of_all_demand_is_left() -> None:
    """By hand: of 4 + 2 requests/s, losing eu leaves 2 of chat's 4 and all of other's."""
    world = problem(
        wanted(),
        wanted("other"),
        demands=(asked(4), asked(2, name="other")),
        profiles=(H100,),
    )
    plan = plan_of(
        given_to("chat", {"p-eu-on_demand": 1, "p-us-on_demand": 1}), given_to("other", {"p-us-on_demand": 1})
    )
    domains = {str(row.domain): row for row in certify(world, plan).domains}
    assert domains["region eu"].served_share == pytest.approx(4 / 6)
    assert domains["region us"].served_share == pytest.approx(2 / 6)
    assert (domains["region us"].touched, domains["region us"].served_share_now) == (2, 1)
    own = certify(world, plan, only={"d-other"})
    assert {row.served_share for row in own.domains} == {0}
    assert own.cannot_survive == (
        "other would not survive losing zone us-a (nothing left), region us (nothing left),"
        " provider us-provider (nothing left)",
    )


def test_an_unrecorded_zone_may_be_any_of_its_region() -> None:
    """Nobody knows where in eu the cluster is, so that it keeps no promise there; us is certainly elsewhere."""
    eu, us, jp = CLUSTERS
    other = FailureDomain(kind="zone", name="eu-b")
    second = replace(jp, region="eu", failure_domains=(other, *eu.failure_domains[1:]))
    unknown = replace(eu, failure_domains=eu.failure_domains[1:])
    world = problem(wanted(survivability="zone"), clusters=(unknown, us, second))
    far = plan_of(given_to("chat", {"p-eu-on_demand": 1, "p-us-on_demand": 1}))
    assert certify(world, far).broken_promises == ()
    near = plan_of(given_to("chat", {"p-eu-on_demand": 1, "p-jp-on_demand": 1}))
    assert certify(world, near).broken_promises == ("chat: losing zone eu-b leaves 0 of 1 promised replica",)
    alone = plan_of(given_to("chat", {"p-eu-on_demand": 2}))
    assert certify(world, alone).broken_promises == (
        "chat: losing zone not recorded leaves 0 of 1 promised replica",
    )


def test_the_loss_of_a_zone_that_nobody_recorded_can_be_asked_for() -> None:
    """As the certificate names it; where every zone is recorded, there is none of that name."""
    eu, us, jp = CLUSTERS
    unknown = replace(eu, failure_domains=eu.failure_domains[1:])
    world = problem(wanted(survivability="zone"), clusters=(unknown, us, jp))
    lost = FailureDomain(kind="zone", name="not recorded")
    alone = plan_of(given_to("chat", {"p-eu-on_demand": 2}))
    assert lost in {loss.domain for loss in certify(world, alone).losses}
    (told,) = survive(world, alone, (lost,)).deployments
    assert (told.verdict, told.replicas_lost, told.replicas_left) == ("lost", 2, 0)
    far = plan_of(given_to("chat", {"p-eu-on_demand": 1, "p-us-on_demand": 1}))
    assert survive(world, far, (lost,)).deployments[0].verdict == "survives"
    with pytest.raises(ValueError, match="there is no zone not recorded"):
        survive(problem(wanted()), alone, (lost,))


def test_a_certificate_from_before_a_field_was_there_is_verified_still() -> None:
    """Hashed is what was stored: neither the problem's new fields nor the plan's are in it."""
    world = problem(wanted(min_replicas=2, survivability="region"))
    plan = solve(world)
    documents = problem_encode(world), plan_encode(plan)
    for row in documents[0]["pools"]:
        del row["leaving"]
    for entry in documents[1]["deployments"]:
        for row in entry["allocations"]:
            del row["standby"]
    made = [hashlib.sha256(msgspec.json.encode(document)).hexdigest() for document in documents]
    backwards = json.loads(json.dumps(documents, sort_keys=True))  # a database keeps no order of keys
    was = certify(problem_decode(backwards[0]), plan_decode(backwards[1]))
    assert [was.problem_sha256, was.plan_sha256] == made
    assert was.sha256 != certify(world, plan).sha256
    changed = replace(problem_decode(documents[0]), wanted=77)
    assert problem_sha256(changed) not in made


def test_the_hash_ties_certificate_problem_and_plan() -> None:
    """Equal for equal questions and answers, another for any change of either."""
    world = problem(wanted(min_replicas=2, survivability="region"))
    plan = solve(world)
    certificate = certify(world, plan)
    assert certificate.problem_sha256 == problem_sha256(world)
    assert certificate.sha256 == certify(problem_decode(problem_encode(world)), plan).sha256
    dearer = replace(world, pools=(*POOLS[:2], replace(POOLS[2], instance_micro_usd_per_h=3_000_001)))
    assert certify(dearer, plan).sha256 != certificate.sha256
    other = replace(plan, micro_usd_per_h=plan.micro_usd_per_h + 1)
    assert certify(world, other).sha256 != certificate.sha256
