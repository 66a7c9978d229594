"""What if: a problem with something changed in it, and what is in force as a plan."""

from dataclasses import replace

import pytest
from hypothesis import given

from controlplane.placement import (
    Demand,
    FailureDomain,
    PlacementProblem,
    Reservation,
    solve,
)
from controlplane.placement.questions.what_if import (
    CapacityChanged,
    Change,
    DemandScaled,
    DeploymentChanged,
    Lost,
    PoolAdded,
    PriceChanged,
    applied,
    in_force,
)
from controlplane.placement.supply import LossKind
from tests.controlplane.placement.rules.test_cost import demand
from tests.controlplane.placement.worlds import adopted, placed, pool, problem, problems, wanted
from workloadplane.protocol.refusal import Refusal


def after(before: PlacementProblem, *changes: Change) -> PlacementProblem:
    """The problem in which all of these have happened."""
    for change in changes:
        answer = applied(before, change)
        assert not isinstance(answer, Refusal), answer
        before = answer
    return before


@pytest.mark.parametrize(
    ("kind", "name", "lost"),
    [
        ("region", "us", {"p-us-on_demand", "p-us-spot"}),
        ("zone", "us-a", {"p-us-on_demand", "p-us-spot"}),
        ("provider", "us-provider", {"p-us-on_demand", "p-us-spot"}),
        ("cluster", "us", {"p-us-on_demand", "p-us-spot"}),
        ("pool", "us/on-demand", {"p-us-on_demand"}),
        ("spot_group", "h100-1x@us-a", {"p-us-spot"}),
    ],
)
def test_a_loss_takes_the_pools_that_fail_together(kind: LossKind, name: str, lost: set[str]) -> None:
    """They keep their rows, without room, reservation or anything that runs; all else is as it was."""
    chat = wanted(min_replicas=2)
    pools = (pool("eu"), pool("us", instance_micro_usd_per_h=1), pool("us", procurement="spot"))
    before = problem(chat, pools=pools)
    before = replace(
        adopted(before, solve(before)),
        reservations=tuple(
            Reservation(pool_id=one.pool_id, instances=1, instance_micro_usd_per_h=1) for one in pools
        ),
    )
    seen = after(before, Lost(domain=FailureDomain(kind=kind, name=name)))
    assert {one.pool_id for one in seen.pools if one.capacity_instances == 0 and one.closed} == lost
    assert [one.pool_id for one in seen.pools] == [one.pool_id for one in before.pools]
    assert not {row.pool_id for row in seen.current} & lost
    assert not {row.pool_id for row in seen.reservations} & lost
    assert not set(placed(solve(seen))) & lost


@pytest.mark.parametrize(
    "change",
    [
        Lost(domain=FailureDomain(kind="region", name="mars")),
        Lost(domain=FailureDomain(kind="pool", name="us/spot")),
        PriceChanged(pool="us", instance_micro_usd_per_h=1),
        CapacityChanged(pool="mars/on-demand", capacity_instances=1),
        PoolAdded(pool=pool("us")),
        DemandScaled(deployment_ids=frozenset(("d-chat",)), factor=2.0),
        DeploymentChanged(deployment_id="d-chat", min_replicas=9),
    ],
)
def test_what_is_not_there_or_not_possible_is_refused_with_a_remedy(change: Change) -> None:
    """And nothing is raised."""
    answer = applied(problem(wanted()), change)
    assert isinstance(answer, Refusal)
    assert answer.remedy


def test_a_dearer_pool_sends_what_is_new_elsewhere() -> None:
    """The answer is the solver's own."""
    before = problem(wanted())
    assert set(placed(solve(before))) == {"p-us-on_demand"}
    dear = after(before, PriceChanged(pool="us/on-demand", instance_micro_usd_per_h=9_000_000))
    assert set(placed(solve(dear))) == {"p-eu-on_demand"}


def test_a_pool_more_is_used_and_a_reserved_one_is_paid_for() -> None:
    """At no marginal cost, as any reservation."""
    more = pool("jp", procurement="reserved", instance_micro_usd_per_h=5_000_000)
    plan = solve(after(problem(wanted()), PoolAdded(pool=more)))
    assert set(placed(plan)) == {"p-jp-reserved"}
    assert (plan.micro_usd_per_h, plan.marginal_micro_usd_per_h) == (5_000_000, 0)


def test_demand_is_multiplied_for_those_who_are_named() -> None:
    """Requests and tokens, median and peak."""
    rows = tuple(
        Demand(
            deployment_id=f"d-{name}",
            origin_region="eu",
            requests_per_s_p50=1.0,
            requests_per_s_p95=2.0,
            tokens_per_s_p50=3.0,
            tokens_per_s_p95=4.0,
        )
        for name in ("chat", "other")
    )
    before = problem(wanted(), wanted("other"), demands=rows)
    seen = after(before, DemandScaled(deployment_ids=frozenset(("d-chat",)), factor=2.5))
    assert seen.demands[1] == rows[1]
    assert (seen.demands[0].requests_per_s_p95, seen.demands[0].tokens_per_s_p50) == (5.0, 7.5)


@given(problems())
def test_what_was_adopted_is_what_is_in_force(before: PlacementProblem) -> None:
    """The same rooms at the same money as the plan that was adopted, and its words."""
    plan = solve(before)
    now = in_force(adopted(before, plan), plan)
    assert now.micro_usd_per_h == plan.micro_usd_per_h
    for entry in plan.deployments:
        shown = now.by_deployment[entry.deployment_id]
        assert {row.pool_id: row.reasons for row in shown.allocations} == {
            row.pool_id: row.reasons for row in entry.allocations
        }
        assert (shown.refusal, shown.traffic) == (entry.refusal, entry.traffic)


def test_before_any_plan_nothing_is_in_force() -> None:
    """An entry for every deployment, with nothing in it."""
    (entry,) = in_force(problem(wanted()), None).deployments
    assert (entry.allocations, entry.refusal) == ((), None)


def test_what_no_problem_may_say_is_refused_without_telling_whose_it_is() -> None:
    """Two factors of a thousand, and a price of another unit: an answer, and no word of a demand or its deployment."""
    before = problem(wanted(), demands=(demand("eu", requests_per_s_p95=5_000.0, tokens_per_s_p95=5_000.0),))
    said = applied(before, DemandScaled(deployment_ids=frozenset(("d-chat",)), factor=1000.0))
    assert isinstance(said, Refusal) and said.rule == "out_of_range"
    assert "chat" not in str(said) and "5000" not in str(said)
    dear = applied(before, PriceChanged(pool="eu/on-demand", instance_micro_usd_per_h=10**15))
    assert isinstance(dear, Refusal) and "gpu_micro_usd_per_h is 1000000000000000" in dear.value
