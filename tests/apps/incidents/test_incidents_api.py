"""Incidents and places over REST: who reads what, and whose names."""

from itertools import count

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.incidents.models import (
    Incident,
    IncidentDeployment,
    IncidentEntry,
    IncidentMove,
)
from apps.incidents.services.incident_close import incident_close
from apps.telemetry.prometheus import metrics
from tests.apps.conftest import Tenant, bearer
from tests.apps.incidents.seen import all_sound, died
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db

_numbers = count(1)
INCIDENTS = "/api/v1/incidents"


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world()


@pytest.fixture
def other(world: FleetWorld) -> Project:
    return Project.objects.create(organization=world.organization, name="other")


def client(world: FleetWorld, *scopes: str, project: Project | None = None) -> APIClient:
    project = project or world.project
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    made = api_key_create(actor=actor, project_id=project.pk, name=f"key-{next(_numbers)}", scopes=scopes)
    return bearer(made[1])


def incident(
    world: FleetWorld, *, kind: str = "region", name: str = "us-east4", **fields: object
) -> Incident:
    now = timezone.now()
    values: dict[str, object] = {
        "state": "open",
        "severity": "error",
        "cause": "lost",
        "members": [[kind, name]],
        "evidence": "ejected, lost to 3 of 3 observers, 1.4 s ago",
        "evidence_at": now,
        "opened_at": now,
        "since": now,
    }
    return Incident.objects.create(organization=world.organization, kind=kind, name=name, **(values | fields))


def touched(incident: Incident, project: Project, name: str, deployment_id: str, extra: int = 0) -> None:
    IncidentDeployment.objects.create(
        incident=incident,
        project=project,
        deployment_id=deployment_id,
        deployment=name,
        micro_usd_per_h_before=1_000_000,
        micro_usd_per_h=1_000_000,
        counted_since=incident.opened_at,
        extra_micro_usd=extra,
    )
    for place in ("us-east/main", ""):
        IncidentMove.objects.create(
            incident=incident,
            at=incident.opened_at,
            plan_generation=2,
            project=project,
            deployment=name,
            from_pool=place,
            to_pool="eu-west/main",
            replicas=2,
        )
    IncidentEntry.objects.create(
        incident=incident,
        event_id=next(_numbers),
        project=project,
        at=incident.opened_at,
        severity="warning",
        reason="ReplicaFailed",
        message=f"a replica of {name} failed",
    )


ONE, TWO = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


def test_a_project_sees_what_touched_it_and_no_name_of_another(world: FleetWorld, other: Project) -> None:
    """An operator's key sees all incidents, still without other projects' names; the record likewise."""
    shared = incident(world)
    touched(shared, world.project, "chat", ONE, extra=1_500_000)
    touched(shared, other, "classified", TWO, extra=7_000_000)
    theirs = incident(world, name=f"us-east/main/{TWO}", kind="replica", severity="warning", cause="replicas")
    touched(theirs, other, "classified", TWO)

    reader = client(world, "read")
    (row,) = reader.get(INCIDENTS).json()["items"]
    assert (row["id"], row["title"], row["evidence"]) == (
        str(shared.pk), "region us-east4", "ejected, lost to 3 of 3 observers, 1.4 s ago",
    )  # fmt: skip
    assert row["deployments"] == [{"deployment": "chat", "usd_per_h_before": "1.00", "usd_per_h": "1.00"}]
    assert (row["other_deployments"], row["extra_usd"]) == (1, "1.50")
    shown = reader.get(f"{INCIDENTS}/{shared.pk}").json()
    assert [entry["message"] for entry in shown["entries"]] == ["a replica of chat failed"]
    assert {move["deployment"] for move in shown["moves"]} == {"chat"}
    assert reader.get(f"{INCIDENTS}/{str(shared.pk)[:8]}").json()["id"] == str(shared.pk)
    assert reader.get(f"{INCIDENTS}/{theirs.pk}").status_code == 404

    operator = client(world, "operate")
    assert len(operator.get(INCIDENTS, {"open": "true"}).json()["items"]) == 2
    assert len(operator.get(INCIDENTS, {"kind": "replica"}).json()["items"]) == 1
    secret = operator.get(f"{INCIDENTS}/{theirs.pk}").json()
    assert secret["title"] == "replicas of a deployment of another project in us-east/main"
    assert client(world, "read", project=other).get(f"{INCIDENTS}/{theirs.pk}").json()["title"] == (
        "replicas of classified in us-east/main"
    )

    assert operator.get(f"{INCIDENTS}/{shared.pk}/record").status_code == 404
    for row in (shared, theirs):
        row.state, row.resolved_at = "resolved", timezone.now()
        row.save()
        incident_close(row, now=timezone.now())
    record = reader.get(f"{INCIDENTS}/{shared.pk}/record").json()["markdown"]
    assert "It touched 2 deployments, 1 of them of other projects." in record
    assert "2 of chat move from us-east/main to eu-west/main" in record
    assert operator.get(INCIDENTS, {"open": "true"}).json()["items"] == []
    for api in (reader, operator):
        for path in (INCIDENTS, f"{INCIDENTS}/{shared.pk}", f"{INCIDENTS}/{shared.pk}/record"):
            assert b"classified" not in api.get(path).content


def test_another_organization_reads_nothing(world: FleetWorld, rival: Tenant) -> None:
    mine = incident(world)
    assert rival.client.get(INCIDENTS).json()["items"] == []
    assert rival.client.get(f"{INCIDENTS}/{mine.pk}").status_code == 404
    assert rival.client.get("/api/v1/places").json()["items"] == []
    assert client(world, "inference").get(INCIDENTS).status_code == 403


def test_places_tell_their_state_and_who_says_so(world: FleetWorld) -> None:
    """By kind, the largest first, with the incident that tells of each."""
    now = timezone.now()
    all_sound(world, now)
    died(world, "us-east", now, heard_ago_s=7)
    row = incident(world, members=[["region", "us-east4"], ["cluster", "us-east"]])
    items = client(world, "read").get("/api/v1/places").json()["items"]
    assert [item["kind"] for item in items] == sorted(
        (item["kind"] for item in items), key=["provider", "region", "cluster"].index
    )
    by_name = {(item["kind"], item["name"]): item for item in items}
    lost = by_name["cluster", "us-east"]
    assert (lost["state"], lost["health"], lost["lost_to"], lost["observers"]) == ("ejected", "failing", 3, 3)
    assert lost["incident_id"] == str(row.pk)
    assert {word["observer"]: word["state"] for word in lost["says"]} == {
        "ap-northeast": "ejected",
        "eu-west": "ejected",
    }
    sound = by_name["region", "eu-west-1"]
    assert (sound["state"], sound["incident_id"]) == ("healthy", None)
    assert sound["evidence"].startswith(
        "seen by 3 of 3 observers" if sound["observers"] == 3 else "seen by 2 of 2"
    )
    (only,) = client(world, "read").get("/api/v1/places", {"kind": "provider"}).json()["items"][:1]
    assert only["kind"] == "provider"


def test_open_incidents_are_counted_for_the_pager(world: FleetWorld, rf: object) -> None:
    """By kind and severity; what is folded under another is not a page of its own."""
    parent = incident(world, kind="provider", name="gcp")
    incident(world, parent=parent)
    incident(world, kind="cluster", name="eu-west", severity="warning", cause="unheard")
    request = rf.get("/metrics")  # type: ignore[attr-defined]
    text = metrics(request).content.decode()
    assert 'meridian_incidents_open{drill="no",kind="provider",severity="error"} 1.0' in text
    assert 'meridian_incidents_open{drill="no",kind="region",severity="error"} 0.0' in text
    assert 'meridian_incidents_open{drill="no",kind="cluster",severity="warning"} 1.0' in text
    assert 'meridian_webhook_deliveries{state="abandoned"} 0.0' in text
