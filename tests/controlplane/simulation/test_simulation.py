"""The simulated world: what is lost is not served, what is promised is kept, and whoever breaks a rule is told of."""

from dataclasses import replace
from random import Random

import pytest

from controlplane.placement import (
    Allocation,
    DeploymentPlan,
    FailureDomain,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    Reservation,
)
from controlplane.simulation import CapacityLost, DemandMoved, Outcome, Queue, incidents_of, simulate
from tests.benchmarks.placement.instances import instance
from tests.benchmarks.placement.test_policies import FOUR_A_SECOND, TEN_A_SECOND
from tests.controlplane.placement.worlds import POOLS, problem, wanted
from workloadplane.protocol.refusal import Refusal

HOUR_S = 3600.0
COLD = replace(FOUR_A_SECOND, gpu_procurement_s=60.0, weight_load_s=240.0)
EU_LOST = CapacityLost(
    HOUR_S,
    2 * HOUR_S,
    {"p-eu-on_demand": 4},
    FailureDomain(kind="region", name="eu"),
    "region eu lost",
)


def world(profile: PerformanceProfile = COLD, **fields) -> PlacementProblem:
    """One deployment that needs three replicas for its ten requests a second; four machines in each region."""
    one = wanted(**({"max_replicas": 12} | fields))
    return problem(one, demands=(TEN_A_SECOND,), profiles=(profile,))


def fixed(replicas: dict[str, int], **fields):
    """A planner that always wants the same."""

    def planner(asked: PlacementProblem, before: PlacementPlan, touched: frozenset[str]) -> PlacementPlan:
        one = asked.deployments[0]
        rows = tuple(
            Allocation(
                revision_id=one.revision_id,
                revision=one.revision,
                pool_id=pool_id,
                min_replicas=count,
                max_replicas=count,
                gpus_per_replica=one.gpus_per_replica,
                micro_usd_per_h=0,
                marginal_micro_usd_per_h=0,
                reasons=(),
                planned_replicas=count,
            )
            for pool_id, count in replicas.items()
        )
        entry = DeploymentPlan(deployment_id=one.deployment_id, generation=1, allocations=rows, **fields)
        return PlacementPlan(deployments=(entry,), micro_usd_per_h=0, marginal_micro_usd_per_h=2_000_000)

    return planner


def then(first: dict[str, int], second: dict[str, int]):
    """A planner that wants something else from its second plan on."""
    planners = [fixed(first), fixed(second)]

    def planner(asked, before, touched):
        return planners[bool(before.deployments)](asked, before, touched)

    return planner


def played(asked: PlacementProblem, planner, *incidents, hours: float = 3) -> Outcome:
    return simulate(asked, planner, incidents, end_s=hours * HOUR_S, rng=Random(0))


def test_time_goes_forward_and_equal_times_keep_their_order():
    queue: Queue[str] = Queue()
    for at_s, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "d")):
        queue.put(at_s, name)
    assert [queue.take(5.0) for _ in range(4)] == ["a", "b", "c", None]
    assert queue.now_s == 5.0
    with pytest.raises(ValueError, match="time to come"):
        queue.put(4.0, "late")


def test_what_is_lost_is_not_served_until_others_are_ready():
    outcome = played(world(), then({"p-eu-on_demand": 3}, {"p-us-on_demand": 3}), EU_LOST)
    assert outcome.lost_replicas == 3
    assert outcome.unserved_requests == pytest.approx(10 * 300)


def test_without_a_new_plan_it_is_not_served_until_the_region_is_back_and_its_replicas_warm():
    outcome = played(world(), fixed({"p-eu-on_demand": 3}, relaxed=(_no(),)), EU_LOST)
    assert outcome.unserved_requests == pytest.approx(10 * (3600 + 300))


def test_reserved_machines_need_not_be_procured():
    reserved = replace(
        world(),
        pools=tuple(
            replace(one, procurement="reserved") if one.pool_id == "p-us-on_demand" else one for one in POOLS
        ),
        reservations=(Reservation(pool_id="p-us-on_demand", instances=4, instance_micro_usd_per_h=1),),
    )
    outcome = played(reserved, then({"p-eu-on_demand": 3}, {"p-us-on_demand": 3}), EU_LOST)
    assert outcome.unserved_requests == pytest.approx(10 * 240)


def test_a_promise_that_the_plan_keeps_loses_nothing():
    spread = {"p-eu-on_demand": 2, "p-us-on_demand": 2, "p-jp-on_demand": 1}
    outcome = played(world(survivability="region"), fixed(spread), EU_LOST)
    assert outcome.unserved_requests == 0
    assert outcome.broken == []


def test_a_standby_is_promoted_where_the_first_can_no_longer_serve_all():
    """A part of the first cluster's pool is lost: the standby serves all, and the two never serve together."""

    def planner(asked: PlacementProblem, before: PlacementPlan, touched: frozenset[str]) -> PlacementPlan:
        plan: PlacementPlan = fixed({"p-eu-on_demand": 3, "p-us-on_demand": 3})(asked, before, touched)
        first, second = plan.deployments[0].allocations
        rows = (first, replace(second, standby=True))
        return replace(plan, deployments=(replace(plan.deployments[0], allocations=rows),))

    part = CapacityLost(HOUR_S, 2 * HOUR_S, {"p-eu-on_demand": 3}, None, "a part of eu lost")
    outcome = played(world(posture="active_passive", survivability="region"), planner, part)
    assert outcome.lost_replicas == 2
    assert outcome.unserved_requests == 0
    assert outcome.broken == []


def test_a_broken_promise_is_told_unless_the_plan_said_so():
    unsafe = {"p-eu-on_demand": 3}
    told = played(world(survivability="region"), fixed(unsafe), EU_LOST).broken
    assert any("rule 5: chat serves 0.0%" in text for text in told)
    said = fixed(unsafe, relaxed=(_no(),))
    assert played(world(survivability="region"), said, EU_LOST).broken == []


def test_moving_loses_nothing():
    grown = DemandMoved(HOUR_S, {"d-chat": 1.0})
    outcome = played(world(), then({"p-eu-on_demand": 3}, {"p-us-on_demand": 3}), grown)
    assert outcome.started_replicas == 3
    assert outcome.unserved_requests == 0


def test_more_demand_than_the_replicas_serve_is_not_served():
    grown = DemandMoved(HOUR_S, {"d-chat": 2.0})
    outcome = played(world(), fixed({"p-eu-on_demand": 3}), grown)
    assert outcome.unserved_requests == pytest.approx((20 - 12) * 2 * HOUR_S)


def test_the_bill_is_what_plans_add_to_it():
    assert played(world(), fixed({"p-eu-on_demand": 3})).usd == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("fields", "replicas", "rule"),
    [
        ({"residency": ("us",)}, {"p-eu-on_demand": 3}, "rule 2"),
        ({"providers_denied": ("eu-provider",)}, {"p-eu-on_demand": 3}, "rule 2"),
        ({"max_replicas": 2}, {"p-eu-on_demand": 3}, "rule 4"),
        ({"posture": "active_passive"}, {"p-eu-on_demand": 3, "p-us-on_demand": 1}, "rule 6"),
    ],
)
def test_a_planner_that_breaks_a_rule_is_told_of(fields, replicas, rule):
    told = played(world(**fields), fixed(replicas)).broken
    assert [text for text in told if rule in text]


def test_a_day_is_the_same_for_the_same_seed():
    asked = instance(deployments=20, pools=12, regions=4, seed=1)
    assert incidents_of(asked, Random(3), hours=24) == incidents_of(asked, Random(3), hours=24)
    kinds = {type(one) for one in incidents_of(asked, Random(3), hours=24)}
    assert kinds == {CapacityLost, DemandMoved}


def _no() -> Refusal:
    return Refusal(rule="region", subject="deployment chat", value="one region", remedy="add another")
