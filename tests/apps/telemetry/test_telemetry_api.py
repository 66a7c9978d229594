"""Replicas, agents, events, usage, traffic over REST, and the control plane's own metrics."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.placements.models import Assignment
from tests.apps.agents.world import delta, enrolled, fleet, observed_replica, placed, plane
from tests.apps.conftest import bearer
from tests.apps.telemetry.test_usage import record, window
from workloadplane.protocol.observed import ObservedReplica

pytestmark = pytest.mark.django_db(transaction=True)


def client_of(project: Project) -> APIClient:
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    _, key = api_key_create(actor=actor, project_id=project.pk, name="reader", scopes=("read",))
    return bearer(key)


@pytest.fixture
def project() -> Project:
    return fleet()


@pytest.fixture
def assignment(project: Project) -> Assignment:
    return placed(project, "chat", "eu-west")


def reported(project: Project, assignment: Assignment, **report: Any) -> None:
    """An agent enrols and reports this."""

    async def run() -> None:
        async with plane() as http:
            agent = await enrolled(http, project, assignment.pool.cluster.name)
            await agent.sync(**report)

    asyncio.run(run())


def test_replicas_show_what_truly_runs(project: Project, assignment: Assignment) -> None:
    """With the cold start by phase, null where a phase was not passed; filters narrow, and unknown ones are refused."""
    ready, failed = observed_replica(assignment), observed_replica(assignment, "failed")
    reported(project, assignment, observed=delta(1, {"1": ready, "2": failed}))
    client = client_of(project)
    items = client.get("/api/v1/replicas?state=ready").json()["items"]
    assert [(item["id"], item["deployment"], item["cluster"], item["engine"]) for item in items] == [
        (ready.replica_id, "chat", "eu-west", "simulator")
    ]
    assert items[0]["cold_start"] == {
        "gpu_procurement_s": None,
        "image_pull_s": None,
        "weight_load_s": 1.5,
        "engine_start_s": 1.0,
    }
    assert len(client.get("/api/v1/deployments/chat/replicas").json()["items"]) == 2
    assert client.get("/api/v1/replicas?cluster=us-east").json()["items"] == []
    assert client.get("/api/v1/replicas?state=floating").status_code == 400
    assert client.get("/api/v1/replicas?colour=red").status_code == 400


def test_nothing_of_another_tenant_is_shown(project: Project, assignment: Assignment) -> None:
    """Not its replicas, events, usage or agents; its names are answered like names that do not exist."""
    reported(
        project,
        assignment,
        observed=delta(1, {"1": observed_replica(assignment)}),
        usage=(record(assignment, 1),),
    )
    rival = client_of(fleet("rival", ("rival-west",)))
    assert rival.get("/api/v1/replicas").json()["items"] == []
    assert rival.get("/api/v1/usage").json()["items"] == []
    assert rival.get("/api/v1/events").json()["items"] == []
    for path in ("deployments/chat/replicas", "deployments/chat/events", "deployments/chat/metrics"):
        assert rival.get(f"/api/v1/{path}").status_code == 404
    assert rival.get("/api/v1/clusters/eu-west/agent").status_code == 404


def test_another_projects_events_stay_there(project: Project, assignment: Assignment) -> None:
    """A key sees its own project's events and those of the fleet that all projects share."""
    reported(project, assignment, observed=delta(1, {"1": observed_replica(assignment)}))
    sibling = Project.objects.create(organization=project.organization, name="sibling")
    client = client_of(sibling)
    reasons = {event["reason"] for event in client.get("/api/v1/events").json()["items"]}
    assert "AgentEnrolled" in reasons
    assert "ReplicaReady" not in reasons
    assert client.get("/api/v1/replicas").json()["items"] == []


def test_events_come_newest_first_and_in_pages(project: Project, assignment: Assignment) -> None:
    """One order for all, and filters by severity, reason, deployment, cluster."""
    replicas = {str(n): observed_replica(assignment, "failed") for n in range(5)}
    reported(project, assignment, observed=delta(1, replicas))
    client = client_of(project)
    first = client.get("/api/v1/deployments/chat/events?reason=ReplicaFailed&limit=3").json()
    second = client.get(
        f"/api/v1/deployments/chat/events?reason=ReplicaFailed&limit=3&cursor={first['next_cursor']}"
    ).json()
    ids = [event["id"] for event in first["items"] + second["items"]]
    assert (len(ids), ids) == (5, sorted(ids, reverse=True))
    failed = client.get("/api/v1/events?severity=warning&deployment=chat&cluster=eu-west").json()["items"]
    assert {event["reason"] for event in failed} >= {"ReplicaFailed"}


def test_usage_is_summed_by_deployment(project: Project, assignment: Assignment) -> None:
    """Over the stretch asked for; a stretch that ends before it begins is refused."""
    yesterday = (timezone.now() - timedelta(days=2)).timestamp()
    batch = (
        record(assignment, 1),
        record(assignment, 2, outcome="upstream_error"),
        record(assignment, 3, finished_at=yesterday),
    )
    reported(project, assignment, usage=batch)
    client = client_of(project)
    (item,) = client.get("/api/v1/usage?deployment=chat").json()["items"]
    assert (item["deployment"], item["requests"], item["errors"], item["output_tokens"]) == ("chat", 2, 1, 68)
    wide = client.get("/api/v1/usage", {"from": "2020-01-01T00:00:00Z"}).json()
    assert (wide["from"], wide["items"][0]["requests"]) == ("2020-01-01T00:00:00Z", 3)
    backwards = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    assert client.get("/api/v1/usage", backwards).status_code == 400
    assert client.get("/api/v1/usage", {"to": "0001-01-01T00:00:00Z"}).status_code == 400
    assert client.get("/api/v1/usage?deployment=nobody").json()["items"] == []


def test_a_deployments_traffic_and_its_price(project: Project, assignment: Assignment) -> None:
    """Points in equal steps, and what the replicas that run now cost."""
    reported(
        project,
        assignment,
        observed=delta(1, {"1": observed_replica(assignment), "2": observed_replica(assignment)}),
        windows=(window(assignment, 1, ended_at=timezone.now() - timedelta(seconds=5)),),
    )
    client = client_of(project)
    since = (timezone.now() - timedelta(minutes=1)).isoformat()
    answer = client.get("/api/v1/deployments/chat/metrics", {"from": since, "step_s": "10"}).json()
    assert answer["usd_per_h"] == "1.60"
    assert sum(point["requests_per_s"] * 10 for point in answer["points"]) == pytest.approx(20)
    assert client.get("/api/v1/deployments/chat/metrics", {"step_s": "1"}).status_code == 400


def test_an_agents_standing(project: Project, assignment: Assignment) -> None:
    """Before, and after it was heard."""
    client = client_of(project)
    assert client.get("/api/v1/clusters/eu-west/agent").json()["enrolled"] is False
    reported(project, assignment, observed=delta(1, {}))
    status = client.get("/api/v1/clusters/eu-west/agent").json()
    assert (status["connected"], status["fenced"], status["agent_version"]) == (True, False, "0.1")
    assert status["newest_generations"]["desired"] >= 1


@pytest.mark.parametrize(
    "path", ["replicas", "events", "usage", "deployments/chat/replicas", "deployments/chat/events"]
)
def test_lists_ask_the_same_number_of_queries_however_long(
    project: Project, assignment: Assignment, path: str
) -> None:
    """No query per item."""
    client = client_of(project)
    counts = []
    replicas: dict[str, ObservedReplica] = {}
    for round_ in range(2):
        replicas |= {f"{round_}-{n}": observed_replica(assignment) for n in range(1 + 6 * round_)}
        usage = tuple(record(assignment, n + 1) for n in range(1 + 6 * round_))
        reported(project, assignment, observed=delta(1, replicas), usage=usage)
        client.get(f"/api/v1/{path}")
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/api/v1/{path}").json()["items"]
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_metrics_are_for_this_machine_or_for_whoever_shows_the_token(settings: Settings) -> None:
    """Behind a proxy or from elsewhere nobody reads them without the token."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    reported(project, assignment, observed=delta(1, {"1": observed_replica(assignment)}))
    client = Client()
    text = client.get("/metrics").content.decode()
    for line in (
        'meridian_clusters{state="connected"} 1.0',
        'meridian_replicas{state="ready"} 1.0',
        'meridian_deployments{state="ready"} 1.0',
        'meridian_agent_syncs_total{outcome="report"}',
    ):
        assert line in text
    assert "chat" not in text
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="127.0.0.1").status_code == 403
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 403
    settings.MERIDIAN_METRICS_TOKEN = "scrape-me"
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer scrape-me").status_code == 200
