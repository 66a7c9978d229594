"""Demand that is planned for: from what gateways counted, or from what owners expect."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create, deployment_patch
from apps.fleet.models import Cluster
from apps.placements.demand import Rates, Usage, demand_planned
from apps.placements.models import DeploymentDemand, PlacementClock
from apps.placements.services import demand_notice, placement_load
from apps.telemetry.models import Event, MetricWindow
from controlplane.placement import solve
from tests.support.fleet_world import FleetWorld, fleet_world

NOW = datetime(2026, 6, 1, 12, 2, tzinfo=UTC)
STEP = timedelta(minutes=5)


@pytest.fixture
def world(db: None) -> FleetWorld:
    return fleet_world()


@pytest.fixture
def chat(world: FleetWorld) -> Deployment:
    return deployment_create(actor=world.actor, document=world.document())


def counted(
    deployment: Deployment, cluster: Cluster, *, steps_ago: int, requests: int, tokens: int = 0
) -> None:
    """A window of ten seconds in the whole step that ended so many steps before the present one began."""
    started_at = NOW.replace(minute=0) - steps_ago * STEP + timedelta(seconds=30)
    MetricWindow.objects.create(
        gateway_instance=str(cluster.pk)[:36],
        sequence=MetricWindow.objects.count() + 1,
        cluster_id=cluster.pk,
        deployment_id=deployment.pk,
        revision_id=deployment.current_revision_id or deployment.pk,
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=10),
        requests=requests,
        errors=0,
        input_tokens=0,
        output_tokens=tokens,
        in_flight_max=0,
        waiting_max=0,
        ttft_counts=[],
        ttft_sum_s=0,
        inter_token_latency_counts=[],
        inter_token_latency_sum_s=0,
        duration_counts=[],
        duration_sum_s=0,
    )


def planned(world: FleetWorld, now: datetime = NOW) -> dict[str, tuple[float, float, float, float]]:
    """origin -> requests p50, p95, tokens p50, p95, as the problem has them."""
    problem = placement_load(organization_id=world.organization.pk, now=now)
    return {
        row.origin_region: (
            row.requests_per_s_p50,
            row.requests_per_s_p95,
            row.tokens_per_s_p50,
            row.tokens_per_s_p95,
        )
        for row in problem.demands
    }


def wanted() -> int:
    return PlacementClock.objects.get().wanted


def test_usage_becomes_quantiles_by_region_of_the_clients(world: FleetWorld, chat: Deployment) -> None:
    """Over all steps since the first; one without traffic counts as the lowest. Units are per second."""
    for steps_ago in range(1, 11):  # 300 requests in 5 minutes are one a second
        counted(chat, world.clusters["eu-west"], steps_ago=steps_ago, requests=300 * steps_ago, tokens=3000)
    counted(chat, world.clusters["us-east"], steps_ago=3, requests=600)
    demand_notice(now=NOW)
    assert planned(world) == {"eu-west-1": (5.0, 10.0, 10.0, 10.0), "us-east4": (0.0, 2.0, 0.0, 0.0)}
    assert Event.objects.get(reason="DemandMoved").project_id == world.project.pk


def test_what_is_counted_twice_or_seen_again_changes_nothing(world: FleetWorld, chat: Deployment) -> None:
    """The task may run twice; a ripple below a fifth wakes nobody, more than that does."""
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=3000)
    assert demand_notice(now=NOW) == 1
    before = wanted()
    assert demand_notice(now=NOW) == 0
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=600)
    assert demand_notice(now=NOW) == 0, "12 a second instead of 10"
    assert planned(world)["eu-west-1"][1] == 10.0
    assert wanted() == before
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=600)
    assert demand_notice(now=NOW) == 1
    assert planned(world)["eu-west-1"][1] == 14.0
    assert wanted() == before + 1


def test_demand_that_was_not_seen_for_a_day_is_forgotten(world: FleetWorld, chat: Deployment) -> None:
    """Nobody asks any more: nothing is planned for it."""
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=3000)
    demand_notice(now=NOW)
    later = NOW + timedelta(hours=25)
    assert demand_notice(now=later) == 1
    assert planned(world, later) == {}
    assert not DeploymentDemand.objects.exists()


def test_stated_demand_holds_until_usage_is_known(world: FleetWorld, chat: Deployment) -> None:
    """Alone at first, the greater of both for a day, then usage alone."""
    stated = [{"origin": "eu-west-1", "requests_per_s": 4, "output_tokens_per_s": 800}]
    deployment_patch(actor=world.actor, deployment=chat, changes={"demand": stated})
    assert planned(world) == {"eu-west-1": (4.0, 4.0, 800.0, 800.0)}
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=1500, tokens=300)
    demand_notice(now=NOW)
    assert planned(world) == {"eu-west-1": (5.0, 5.0, 800.0, 800.0)}
    assert planned(world, NOW + timedelta(hours=23)) == {"eu-west-1": (5.0, 5.0, 800.0, 800.0)}
    assert planned(world, NOW + timedelta(hours=24)) == {"eu-west-1": (5.0, 5.0, 1.0, 1.0)}


def test_usage_is_known_though_its_first_day_counts_no_more(world: FleetWorld, chat: Deployment) -> None:
    """Clients who come by day alone don't bring the stated demand back each morning."""
    stated = [{"origin": "eu-west-1", "requests_per_s": 40, "output_tokens_per_s": 0}]
    deployment_patch(actor=world.actor, deployment=chat, changes={"demand": stated})
    counted(chat, world.clusters["eu-west"], steps_ago=1, requests=3000)
    demand_notice(now=NOW)
    for steps_before_later in (1, 2):
        counted(chat, world.clusters["eu-west"], steps_ago=steps_before_later - 25 * 12, requests=6000)
    later = NOW + timedelta(hours=25)
    assert demand_notice(now=later) == 1
    assert planned(world, later)["eu-west-1"][1] == 20.0


def test_demand_stated_for_all_is_parted_over_the_regions_that_let_clients_in(
    world: FleetWorld, chat: Deployment
) -> None:
    """Evenly over all regions with a cluster; where gateways outside the residency refuse, over those inside."""
    changes: dict[str, Any] = {"demand": [{"requests_per_s": 3}]}
    deployment_patch(actor=world.actor, deployment=chat, changes=changes)
    assert {origin: rates[1] for origin, rates in planned(world).items()} == {
        "eu-west-1": 1.0, "us-east4": 1.0, "japaneast": 1.0,
    }  # fmt: skip
    changes = {"residency": ["eu"], "residency_ingress": "refuse"}
    deployment_patch(actor=world.actor, deployment=chat, changes=changes)
    assert planned(world) == {"eu-west-1": (3.0, 3.0, 0.0, 0.0)}


def test_demand_costs_the_same_queries_however_large(world: FleetWorld, chat: Deployment) -> None:
    """Steps, quantiles and rows are each one statement for an organization."""
    counts = []
    for names in (("a",), ("b", "c", "d")):
        for name in names:
            made = deployment_create(actor=world.actor, document=world.document(name))
            for cluster in world.clusters.values():
                counted(made, cluster, steps_ago=1, requests=300)
        with CaptureQueriesContext(connection) as queries:
            demand_notice(now=NOW)
        counts.append(len(queries))
    assert counts[0] == counts[1]


@given(
    known_s=st.integers(0, 2 * 86_400),
    usage=st.dictionaries(st.sampled_from("abc"), st.floats(0, 100), max_size=3),
    stated=st.dictionaries(st.sampled_from("abcd"), st.floats(0, 100), max_size=4),
)
def test_no_origin_is_planned_for_twice_and_none_below_its_usage(
    known_s: int, usage: dict[str, float], stated: dict[str, float]
) -> None:
    """Whatever is known and stated."""
    rows = [
        Usage(origin, Rates(0, rate, 0, 0), NOW - timedelta(seconds=known_s))
        for origin, rate in usage.items()
    ]
    entries = [{"origin": o, "requests_per_s": r, "output_tokens_per_s": 0.0} for o, r in stated.items()]
    found = demand_planned("d", usage=rows, stated=entries, everywhere=["a"], now=NOW)
    by_origin = {row.origin_region: row.requests_per_s_p95 for row in found}
    assert len(by_origin) == len(found)
    usage = {origin: rate if rate >= 1e-6 else 0.0 for origin, rate in usage.items()}
    assert usage.keys() <= by_origin.keys()
    assert all(by_origin[origin] >= rate for origin, rate in usage.items())
    if known_s >= 86_400 and usage:
        assert by_origin == usage
    else:
        assert by_origin.keys() == usage.keys() | stated.keys()


@given(rates=st.lists(st.floats(0, 1e6), min_size=4, max_size=4), stated=st.floats(0, 1e6))
def test_whatever_usage_shows_can_be_planned_for(rates: list[float], stated: float) -> None:
    """Answers without tokens, or tokens without requests, as where most are cancelled, void no plan."""
    p50, p95, tokens_p50, tokens_p95 = rates
    row = Usage("a", Rates(min(p50, p95), p95, min(tokens_p50, tokens_p95), tokens_p95), NOW)
    entry = {"requests_per_s": 0.0, "output_tokens_per_s": stated}
    (found,) = demand_planned("d", usage=[row], stated=[entry], everywhere=["a"], now=NOW)
    assert found.tokens_per_s_p95 in (max(tokens_p95, stated), 0.0)
    assert found.requests_per_s_p95 in (p95, 0.0)


def test_next_to_no_demand_is_none(world: FleetWorld, chat: Deployment) -> None:
    """A rate so small that quotients of it are no numbers keeps nobody of the organization from being placed."""
    for stated in (5e-324, 1e-310, 1e-7):
        entry = {"requests_per_s": stated, "output_tokens_per_s": 0.0}
        deployment_patch(actor=world.actor, deployment=chat, changes={"demand": [entry]})
        assert {rates[1] for rates in planned(world).values()} == {0.0}
        problem = placement_load(organization_id=world.organization.pk, now=NOW)
        assert len(solve(problem).deployments) == 1
