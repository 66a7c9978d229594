"""The judge finds every hard rule that a plan breaks, and nothing where none is broken."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.placement import (
    Allocation,
    Budget,
    CurrentAssignment,
    Demand,
    DeploymentPlan,
    Latency,
    Occupancy,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    Slo,
    TrafficShare,
    WantedDeployment,
    certify,
)
from tests.controlplane.placement.worlds import CLUSTERS, POOLS, pool, problem, wanted
from workloadplane.protocol.refusal import Refusal


def row(pool_id: str = "p-us-on_demand", **fields: Any) -> Allocation:
    """One replica, ready and allowed, at 1 USD/h."""
    values: dict[str, Any] = {
        "revision_id": "r-chat-1",
        "revision": 1,
        "pool_id": pool_id,
        "min_replicas": 1,
        "max_replicas": 1,
        "gpus_per_replica": 1,
        "micro_usd_per_h": 3_000_000,
        "marginal_micro_usd_per_h": 3_000_000,
        "reasons": (),
    }
    return Allocation(**(values | fields))


def plan(*rows: Allocation, **fields: Any) -> PlacementPlan:
    """``chat`` gets these."""
    entry = DeploymentPlan(deployment_id="d-chat", generation=1, allocations=rows, **fields)
    return PlacementPlan(deployments=(entry,), micro_usd_per_h=0, marginal_micro_usd_per_h=0)


def broken(world: PlacementProblem, judged: PlacementPlan) -> list[str]:
    return [rule.rule for rule in certify(world, judged).broken_rules]


def world_with(deployment: WantedDeployment | None = None, **fields: Any) -> PlacementProblem:
    return problem(deployment or wanted(), **fields)


HELD = CurrentAssignment(
    assignment_id="a",
    deployment_id="d-chat",
    revision_id="r-chat-1",
    revision=1,
    pool_id="p-us-on_demand",
    min_replicas=1,
    max_replicas=1,
    gpus_per_replica=1,
)
PROFILE = PerformanceProfile(
    model_version_id="m",
    instance_type_id="i-2",
    tensor_parallel=1,
    requests_per_s=1,
    tokens_per_s=100,
    concurrency=8,
)
DEMAND = Demand(
    deployment_id="d-chat",
    origin_region="eu",
    requests_per_s_p50=1,
    requests_per_s_p95=1,
    tokens_per_s_p50=0,
    tokens_per_s_p95=0,
)
CLOSED_US = tuple(replace(one, closed="agent not connected" if one.name == "us" else "") for one in CLUSTERS)
REFUSAL = Refusal(rule="pool_capacity", subject="deployment chat", value="none", remedy="add some")
EU_TRAFFIC = (TrafficShare(origin_region="eu", cluster_id="c-us", share=1.0),)
OTHER_TYPE = pool("eu", instance_type_id="i-2", pool_id="p-other", name="other")


@pytest.mark.parametrize(
    ("world", "judged", "rules"),
    [
        (world_with(), plan(row()), []),
        (world_with(), plan(), ["answer"]),
        (world_with(wanted(residency=("eu",))), plan(row()), ["residency"]),
        (world_with(wanted(providers_denied=("us-provider",))), plan(row()), ["provider"]),
        (world_with(wanted(providers_allowed=("eu-provider",))), plan(row()), ["provider"]),
        (world_with(wanted(max_replicas=1)), plan(row(max_replicas=2)), ["max_replicas"]),
        (world_with(), plan(row(min_replicas=2)), ["bounds"]),
        (world_with(), plan(row(planned_replicas=2)), ["bounds"]),
        (
            world_with(),
            plan(row(gpus_per_replica=2)),
            ["gpus_per_instance", "gpus_per_replica", "pool_capacity"],
        ),
        (
            world_with(wanted(gpus_per_replica=2)),
            plan(row(gpus_per_replica=2)),
            ["gpus_per_instance", "pool_capacity"],
        ),
        (world_with(wanted(precision="fp4")), plan(row()), ["precision"]),
        (world_with(pools=(pool("us", gpu_vendor="amd"),)), plan(row()), []),
        (world_with(wanted(engine="nim"), pools=(pool("us", gpu_vendor="amd"),)), plan(row()), ["engine"]),
        (world_with(wanted(weights_bytes=80 * 1024**3)), plan(row()), ["gpu_memory"]),
        (
            world_with(wanted(max_replicas=9)),
            plan(row(min_replicas=5, max_replicas=5, micro_usd_per_h=5_000_000)),
            ["pool_capacity"],
        ),
        (
            world_with(wanted(max_replicas=9)),
            plan(row(planned_replicas=5, max_replicas=5, micro_usd_per_h=5_000_000)),
            ["pool_capacity"],
        ),
        (
            world_with(
                occupancies=(
                    Occupancy(deployment_id="d-x", pool_id="p-us-on_demand", gpus_per_replica=1, replicas=4),
                )
            ),
            plan(row()),
            ["pool_capacity"],
        ),
        (
            world_with(
                occupancies=(
                    Occupancy(
                        deployment_id="d-chat", pool_id="p-us-on_demand", gpus_per_replica=1, replicas=4
                    ),
                )
            ),
            plan(row()),
            [],
        ),
        (
            world_with(budgets=(Budget(project_id="project", micro_usd_per_h=2_999_999),)),
            plan(row()),
            ["budget"],
        ),
        (world_with(budgets=(Budget(project_id="project", micro_usd_per_h=3_000_000),)), plan(row()), []),
        (
            world_with(budgets=(Budget(project_id="project", micro_usd_per_h=1),), current=(HELD,)),
            plan(row()),
            [],
        ),
        (world_with(), plan(row(micro_usd_per_h=1)), ["price"]),
        (world_with(clusters=CLOSED_US), plan(row()), ["cluster_closed"]),
        (world_with(clusters=CLOSED_US, current=(HELD,)), plan(row()), []),
        (
            world_with(clusters=CLOSED_US, current=(HELD,)),
            plan(row(min_replicas=2, max_replicas=2)),
            ["cluster_closed"],
        ),
        (world_with(pools=(pool("us", closed="not schedulable"),)), plan(row()), ["pool_closed"]),
        (world_with(pools=(pool("us", instance_micro_usd_per_h=None),)), plan(row()), ["price_unknown"]),
        (
            world_with(demands=(DEMAND,), profiles=(PROFILE,), pools=(*POOLS, OTHER_TYPE)),
            plan(row(), traffic=EU_TRAFFIC),
            ["profile"],
        ),
        (
            world_with(demands=(DEMAND,), profiles=(PROFILE,), pools=(*POOLS, OTHER_TYPE), current=(HELD,)),
            plan(row(), traffic=EU_TRAFFIC),
            [],
        ),
        (
            world_with(wanted(posture="active_passive")),
            plan(row(), row("p-eu-on_demand")),
            ["posture"],
        ),
        (
            world_with(wanted(posture="active_passive")),
            plan(row(), row("p-eu-on_demand", standby=True)),
            [],
        ),
        (
            world_with(wanted(posture="active_passive"), pools=(*POOLS, pool("us", procurement="spot"))),
            plan(row(), row("p-us-spot", standby=True)),
            ["posture"],
        ),
        (
            world_with(wanted(posture="active_passive")),
            plan(row(), row("p-eu-on_demand", standby=True), row("p-jp-on_demand", standby=True)),
            ["posture"],
        ),
        (world_with(), plan(row(), row("p-eu-on_demand", standby=True)), ["posture"]),
        (
            world_with(wanted(posture="active_passive")),
            plan(row(), row("p-eu-on_demand"), refusal=REFUSAL),
            [],
        ),
        (
            world_with(
                wanted(slo=Slo(ttft_s_p95=0.1)),
                demands=(DEMAND,),
                latencies=(Latency(origin_region="eu", target_region="us", rtt_ms=101),),
            ),
            plan(row(), traffic=EU_TRAFFIC),
            ["latency"],
        ),
        (
            world_with(
                wanted(slo=Slo(ttft_s_p95=0.1)),
                demands=(DEMAND,),
                latencies=(Latency(origin_region="eu", target_region="us", rtt_ms=99),),
            ),
            plan(row(), traffic=EU_TRAFFIC),
            [],
        ),
        (world_with(demands=(DEMAND,)), plan(row()), ["traffic"]),
        (
            world_with(demands=(DEMAND,)),
            plan(row(), traffic=(TrafficShare(origin_region="eu", cluster_id="c-us", share=0.9),)),
            ["traffic"],
        ),
        (
            world_with(demands=(DEMAND,)),
            plan(row(), traffic=(TrafficShare(origin_region="eu", cluster_id="c-jp", share=1.0),)),
            ["traffic"],
        ),
    ],
)
def test_each_rule(world: PlacementProblem, judged: PlacementPlan, rules: list[str]) -> None:
    """Told by its stable name; what is merely kept breaks nothing."""
    assert broken(world, judged) == rules


def test_a_rule_is_said_with_its_subject_and_shown_to_those_concerned() -> None:
    """Words for people; nothing of others."""
    world = problem(wanted(residency=("eu",)), wanted("other"))
    other = DeploymentPlan(deployment_id="d-other", generation=1, allocations=(row(revision_id="r-other-1"),))
    judged = plan(row())
    judged = replace(judged, deployments=(*judged.deployments, other))
    said = "deployment chat: on us/on-demand, jurisdiction us; allowed is eu (rule residency)"
    assert [str(rule) for rule in certify(world, judged).broken_rules] == [said]
    assert certify(world, judged, only={"d-other"}).broken_rules == ()


def test_a_plan_for_another_problem_is_refused() -> None:
    """By name of what the problem does not have."""
    with pytest.raises(ValueError, match="pool_id p-x is not in the problem"):
        certify(world_with(), plan(row("p-x")))
    with pytest.raises(ValueError, match="deployment_id d-chat is not in the problem"):
        certify(problem(wanted("other")), plan(row()))
