"""Replicas against demand: what agents decided is stored once, and drawn as it was in force."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from apps.accounts.models import Project
from apps.placements.models import Assignment
from apps.telemetry.models import ScalingDecision as DecisionRow
from apps.telemetry.scaling import Wanted, wanted_by_step
from apps.telemetry.services import decisions_store, telemetry_purge
from tests.apps.agents.world import delta, fleet, observed_replica, placed
from tests.apps.telemetry.test_telemetry_api import client_of, reported
from workloadplane.protocol.observed import ScalingDecision

START = datetime(2026, 11, 1, tzinfo=UTC)
STEP = timedelta(seconds=10)


def wanted(who: str, at_s: float, replicas: int) -> Wanted:
    return Wanted((who, "revision"), START + timedelta(seconds=at_s), replicas)


def test_a_decision_holds_until_the_next_of_the_same_cluster() -> None:
    """Clusters add up; within a step the most counts; before the first nothing is known."""
    moments = [START + index * STEP for index in range(5)]
    decisions = [wanted("eu", 15, 2), wanted("us", 22, 1), wanted("eu", 26, 0), wanted("eu", 45, 4)]
    assert wanted_by_step(decisions, moments, STEP) == [None, 2, 3, 1, 5]
    earlier = [wanted("eu", -1000, 3)]
    assert wanted_by_step(earlier, moments, STEP) == [3] * 5


@pytest.fixture
def project(db: None) -> Project:
    return fleet()


def decision(assignment: Assignment, **changes: Any) -> ScalingDecision:
    base = ScalingDecision(
        deployment_id=str(assignment.deployment_id),
        revision_id=str(assignment.revision_id),
        decided_at=timezone.now().timestamp() - 120,
        policy="predictive",
        replicas=3,
        ready=1,
        at_hand=20.0,
        reasons=("20.00 requests at hand",),
    )
    return msgspec.structs.replace(base, **changes)


def test_what_makes_no_sense_is_dropped_and_the_rest_stored_once(project: Project) -> None:
    """Another organization's deployment, impossible numbers and times; a second delivery changes nothing."""
    own, foreign = placed(project, "chat", "eu-west"), placed(fleet("rival", ("rival",)), "chat", "rival")
    good = decision(own, reasons=("a\x00" * 1000,) * 40)
    wrong = [
        decision(foreign),
        decision(own, deployment_id="chat"),
        decision(own, replicas=-1),
        decision(own, decided_at=float("inf")),
        decision(own, at_hand=float("nan")),
        decision(own, policy=""),
    ]
    for _ in range(2):
        decisions_store(cluster=own.pool.cluster, decisions=[*wrong, good])
    row = DecisionRow.objects.get()
    assert (row.replicas, len(row.reasons), len(row.reasons[0])) == (3, 16, 500)
    assert telemetry_purge(now=timezone.now() + timedelta(days=31)) >= 1
    assert not DecisionRow.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_api_shows_the_series_and_the_last_decisions() -> None:
    """As an agent's syncs brought them; a rival sees nothing of it."""
    project = fleet()
    own = placed(project, "chat", "eu-west")
    ready = observed_replica(own)
    told = decision(own)
    reported(project, own, observed=delta(1, {"1": ready}), decisions=(told, told))
    client = client_of(project)
    document = client.get("/api/v1/deployments/chat/scaling?step_s=864").json()
    assert (document["step_s"], len(document["points"])) == (864, 100)
    newest = document["points"][-1]
    assert (newest["wanted"], newest["ready"], newest["at_hand"]) == (3, 1, None)
    assert document["points"][0]["wanted"] is None
    assert [(d["cluster"], d["revision"], d["replicas"], d["reasons"]) for d in document["decisions"]] == [
        ("eu-west", 1, 3, ["20.00 requests at hand"])
    ]
    for odd, points in (
        ("to=9999-12-31T23:59:59Z&from=9999-12-31T00:00:00Z", 0),
        ("from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z", 100),
    ):
        answer = client.get(f"/api/v1/deployments/chat/scaling?{odd}")
        assert (answer.status_code, len(answer.json()["points"])) == (200, points)
    rival = client_of(fleet("rival", ("rival-west",)))
    assert rival.get("/api/v1/deployments/chat/scaling").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("series", ["scaling", "metrics"])
def test_nothing_is_told_of_the_time_to_come(series: str) -> None:
    """An hour back and an hour ahead, by ten minutes: what has begun, and of steps as long as if all were there."""
    project = fleet()
    placed(project, "chat", "eu-west")
    now = timezone.now()
    ahead, back = (now + timedelta(hours=sign) for sign in (1, -1))
    span = {"from": back.isoformat(), "to": ahead.isoformat()}
    client = client_of(project)
    answer = client.get(f"/api/v1/deployments/chat/{series}", {**span, "step_s": "600"}).json()
    moments = [datetime.fromisoformat(point["at"]) for point in answer["points"]]
    assert moments[:6] == [back + timedelta(minutes=10 * place) for place in range(6)]
    assert len(moments) in (6, 7) and moments[-1] <= timezone.now()
    assert client.get(f"/api/v1/deployments/chat/{series}", span).json()["step_s"] == 72
