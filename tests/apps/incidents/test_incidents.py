"""Incidents from what agents tell: opened, followed, resolved and written down."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, Replica
from apps.agents.services import agents_reconcile
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.drains.services import drain_start
from apps.drills.models import Drill
from apps.incidents.models import Incident, IncidentRecord, IncidentWatch, Webhook
from apps.incidents.services import incidents_look, places_find
from apps.incidents.tasks import incidents_look as incidents_look_task
from apps.placements.models import PlacementClock, PlacementPlan
from apps.placements.services import placements_solve
from apps.telemetry.models import Event
from controlplane.failover import Place
from tests.apps.incidents.seen import all_sound, died, heard
from tests.apps.placements.moves import agents_work, ready_by_cluster
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db
#: For tests in which something is placed: no solver works inside a transaction.
placing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def deployed(world: FleetWorld, name: str = "chat", **fields: Any) -> Deployment:
    """Two replicas, ready where it is cheapest: us-east."""
    policy = {"min_replicas": 2, "max_replicas": 8}
    made = deployment_create(actor=world.actor, document=world.document(name, autoscaling=policy, **fields))
    work(world)
    PlacementPlan.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    return made


def work(world: FleetWorld) -> None:
    for _ in range(4):
        placements_solve(organization_id=world.organization.pk)
        agents_work()


def watched(world: FleetWorld, now: datetime) -> None:
    """Somebody has been looking for a while, and all was sound."""
    for ago_s in (20, 12, 4):
        all_sound(world, now - timedelta(seconds=ago_s))
        incidents_look(now=now - timedelta(seconds=ago_s))


def later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def places_failing(world: FleetWorld) -> list[str]:
    """Of which there is an incident."""
    return sorted(map(str, Incident.objects.filter(organization=world.organization)))


def only() -> Incident:
    return Incident.objects.get()


def reasons() -> list[str]:
    return list(
        Event.objects.filter(reason__startswith="Incident").order_by("pk").values_list("reason", flat=True)
    )


@placing
def test_a_lost_region_is_one_incident_from_its_detection_to_its_record(world: FleetWorld) -> None:
    """Who said so and how soon, what moved where and at what price, and that it was over."""
    chat = deployed(world)
    assert ready_by_cluster(chat) == {"us-east": 2}
    now = timezone.now()
    watched(world, now)
    agents_reconcile(now=now)
    assert not Incident.objects.exists()
    died(world, "us-east", now, heard_ago_s=3)
    assert incidents_look(now=now) == 1
    incident = only()
    assert (str(incident), incident.state, incident.severity, incident.cause) == (
        "region us-east4", "open", "error", "lost",
    )  # fmt: skip
    assert incident.evidence == "ejected, lost to 2 of 3 observers, 0.0 s ago"
    assert (now - incident.evidence_at).total_seconds() == 1.0
    assert incident.last_heard_at is not None
    assert (incident.evidence_at - incident.last_heard_at).total_seconds() == 2.0
    assert incidents_look(now=now) == 0, "twice is once"
    touched = incident.deployments.get()
    assert (touched.deployment, touched.micro_usd_per_h_before) == ("chat", 2_000_000)

    drain_start(
        actor=world.actor, organization_id=world.organization.pk, kind="cluster", name="us-east", now=now
    )
    work(world)
    agents_reconcile(now=later(now, 8))
    died(world, "us-east", later(now, 8), heard_ago_s=11)
    incidents_look(now=later(now, 8))
    moved = incident.moves.get()
    assert str(moved) == "2 of chat from us-east/on-demand to eu-west/on-demand"
    assert incident.deployments.get().micro_usd_per_h == 4_000_000
    assert only().evidence.startswith("ejected, lost to 3 of 3 observers")

    all_sound(world, later(now, 30))
    incidents_look(now=later(now, 30))
    assert only().state == "recovering"
    all_sound(world, later(now, 1830))
    incidents_look(now=later(now, 1830))
    resolved = only()
    assert (resolved.state, resolved.resolved_at) == ("resolved", later(now, 1830))
    assert reasons() == ["IncidentOpened", "IncidentRecovering", "IncidentResolved"]
    cost = resolved.deployments.get().extra_micro_usd
    assert 2_000_000 * 1800 / 3600 < cost < 2_000_000 * 1900 / 3600

    record = IncidentRecord.objects.get(project=None).markdown
    assert record.startswith("# Incident: region us-east4\n")
    assert "What was seen was enough after 2.0 s; the incident was open after 3.0 s." in record
    assert "2 of chat move from us-east/on-demand to eu-west/on-demand" in record
    assert "(2.000 USD/h before, 4.000 USD/h at the end)" in record
    for told in ("**IncidentOpened**", "**ClusterDisconnected**", "**IncidentResolved**"):
        assert told in record
    assert incidents_look(now=later(now, 1832)) == 0


@placing
def test_forty_replicas_of_a_lost_region_are_nothing_of_their_own(world: FleetWorld) -> None:
    """Neither while it is gone nor when its agent comes back and tells that they have died."""
    deployed(world)
    now = timezone.now()
    watched(world, now)
    Replica.objects.filter(cluster=world.clusters["us-east"]).update(state="failed")
    died(world, "us-east", now, heard_ago_s=10)
    for seconds in (0, 30, 60):
        died(world, "us-east", later(now, seconds), heard_ago_s=10 + seconds)
        incidents_look(now=later(now, seconds))
    assert only().kind == "region"
    for seconds in (62, 90):
        all_sound(world, later(now, seconds))
        incidents_look(now=later(now, seconds))
    incident = only()
    assert incident.state == "open", "its replicas still fail"
    assert [kind for kind, _ in incident.members if kind == "replica"] == ["replica"]
    assert str(incident) == "region us-east4"


@placing
def test_replicas_that_fail_alone_are_told_to_their_project(world: FleetWorld) -> None:
    """After twenty seconds, as a warning; they end it by being ready."""
    chat = deployed(world)
    now = timezone.now()
    watched(world, now)
    Replica.objects.filter(deployment=chat).update(state="unhealthy")
    for seconds in (0, 10, 19):
        all_sound(world, later(now, seconds))
        incidents_look(now=later(now, seconds))
    assert not Incident.objects.exists()
    all_sound(world, later(now, 21))
    incidents_look(now=later(now, 21))
    incident = only()
    assert (incident.kind, incident.severity, incident.evidence) == (
        "replica", "warning", "0 of 2 ready, 2 failing",
    )  # fmt: skip
    assert Event.objects.get(reason="IncidentOpened").project_id == world.project.pk
    assert incident.deployments.get().deployment == "chat"
    Replica.objects.filter(deployment=chat).update(state="ready")
    for seconds in (22, 83):
        all_sound(world, later(now, seconds))
        incidents_look(now=later(now, seconds))
    assert only().state == "resolved"


def test_an_agent_that_is_not_heard_is_a_warning_while_its_gateways_answer(world: FleetWorld) -> None:
    """And a control plane that did not look for an hour blames nobody for its own deafness."""
    now = timezone.now()
    watched(world, now)
    last = AgentSession.objects.get(cluster=world.clusters["us-east"]).last_sync_at
    for seconds in (4, 8, 12, 15):
        for name in ("eu-west", "ap-northeast"):
            heard(world, name, later(now, seconds))
        incidents_look(now=later(now, seconds))
    warning = only()
    assert (str(warning), warning.severity, warning.cause) == ("cluster us-east", "warning", "unheard")
    assert warning.last_heard_at == last
    other = fleet_world("other")
    an_hour_ago = later(now, -3600)
    all_sound(other, an_hour_ago)
    incidents_look(now=an_hour_ago)
    incidents_look(now=now)
    assert places_failing(other) == ["control plane"]
    incidents_look(now=later(now, 2))
    assert places_failing(other) == ["control plane"]
    for seconds in (5, 9, 13, 17):
        incidents_look(now=later(now, seconds))
    assert len(places_failing(other)) > 1, "nobody came back"


def test_two_that_speak_for_one_cluster_and_a_missing_gateway_are_incidents(world: FleetWorld) -> None:
    """Each with what is wrong, in the words of who sees it."""
    now = timezone.now()
    watched(world, now)
    AgentSession.objects.filter(cluster=world.clusters["us-east"]).update(fenced_at=now)
    for seconds in (0, 6):
        for name in ("eu-west", "us-east"):
            heard(world, name, later(now, seconds))
        heard(world, "ap-northeast", later(now, seconds), gateways_connected=0)
        incidents_look(now=later(now, seconds))
    assert {str(row): (row.cause, row.evidence) for row in Incident.objects.all()} == {
        "cluster us-east": ("fenced", "two agents speak for it: both are fenced"),
        "cluster ap-northeast": ("no_gateway", "its agent has no gateway"),
    }


def test_a_disk_that_takes_nothing_is_told_of(world: FleetWorld) -> None:
    """By whose agent says so for a while; it serves on, so nobody is woken. It is over when it is well again."""
    now = timezone.now()
    watched(world, now)
    for seconds, reason in (
        (0, "No space left on device"),
        (11, "No space left on device"),
        (13, ""),
        (74, ""),
    ):
        for name in world.clusters:
            told = reason if name == "us-east" else ""
            heard(world, name, later(now, seconds), state_unkept=told)
        incidents_look(now=later(now, seconds))
    row = Incident.objects.get()
    assert (str(row), row.cause, row.severity) == ("cluster us-east", "unkept", "warning")
    opened = row.entries.earliest("event_id")
    assert opened.message == "cluster us-east: its agent's disk takes nothing, No space left on device"
    assert row.state == "resolved"


def test_a_control_plane_that_was_away_says_so_when_it_is_back(world: FleetWorld) -> None:
    """From when it looked last until now; nobody is blamed meanwhile, and it is over once it has looked for a while."""
    now = timezone.now()
    watched(world, now)
    back = later(now, 40)
    incidents_look(now=back)
    row = only()
    assert (str(row), row.cause, row.severity, row.state) == ("control plane", "away", "warning", "open")
    assert row.evidence == "it looked at nothing for 44 s, 0 of 3 agents heard now"
    assert row.detected_after_s == 44.0
    for seconds in (2, 10, 20, 81):
        all_sound(world, later(back, seconds))
        incidents_look(now=later(back, seconds))
    row = only()
    assert (row.state, row.deployments.count(), row.members) == (
        "resolved",
        0,
        [["control_plane", "control plane"]],
    )
    assert reasons() == ["IncidentOpened", "IncidentRecovering", "IncidentResolved"]
    assert "control plane" in IncidentRecord.objects.get(project=None).markdown


def drill_of(world: FleetWorld, name: str, **fields: Any) -> Drill:
    """By faults, of the region of this cluster, injected just before ``started_at`` and a second."""
    values: dict[str, Any] = {
        "kind": "lose-region", "target": "us-east4", "method": "faults", "driver": "client", "state": "during",
        "deployment_id": uuid4(), "deployment": "chat", "created_by": "tests", "plan_generation": 0,
        "blast": {}, "promise": {}, "limits": {}, "fault_s": 20.0, "injected_at_s": 1.0,
        "lost_cluster_ids": [str(world.clusters[name].pk)],
    }  # fmt: skip
    started_at = fields.pop("started_at")
    return Drill.objects.create(
        organization=world.organization,
        project=world.project,
        started_at=started_at,
        deadline_at=later(started_at, 300),
        **(values | fields),
    )


def test_what_a_drill_brings_about_is_marked_until_it_is_more_than_that(world: FleetWorld) -> None:
    """The pager learns of it with the message; what still fails a minute after the fault is a drill no more."""
    now = timezone.now()
    watched(world, now)
    webhook = Webhook.objects.create(
        organization=world.organization,
        url="https://x.example",
        salt=b"s",
        secret_sha256=b"h",
        created_by="t",
    )
    drill = drill_of(world, "us-east", started_at=later(now, -4))
    died(world, "us-east", now, heard_ago_s=3)
    incidents_look(now=now)
    assert only().drill == drill
    told = json.loads(webhook.deliveries.latest("created_at").body)["data"]
    assert told["drill"] == {"id": str(drill.pk), "title": "lose-region us-east4"}
    assert (
        "(brought about by drill lose-region us-east4)" in Event.objects.get(reason="IncidentOpened").message
    )

    Drill.objects.update(state="after", repaired_at_s=24.0)
    for seconds in (70, 79):
        died(world, "us-east", later(now, seconds), heard_ago_s=3 + seconds)
        incidents_look(now=later(now, seconds))
    assert only().drill == drill
    died(world, "us-east", later(now, 82), heard_ago_s=85)
    incidents_look(now=later(now, 82))
    assert only().drill is None
    assert reasons()[-1] == "IncidentOutlivesDrill"
    told = json.loads(webhook.deliveries.latest("created_at").body)
    assert (told["type"], told["data"]["drill"]) == ("incident.updated", None)


def test_what_the_next_drill_opens_again_is_the_next_ones(world: FleetWorld) -> None:
    """Nobody is told that it is a drill no more."""
    now = timezone.now()
    watched(world, now)
    drill_of(
        world,
        "us-east",
        started_at=later(now, -4),
        state="passed",
        ended_at=later(now, 30),
        repaired_at_s=10.0,
    )
    died(world, "us-east", now, heard_ago_s=3)
    incidents_look(now=now)
    all_sound(world, later(now, 20))
    incidents_look(now=later(now, 20))
    second = drill_of(world, "us-east", started_at=later(now, 65))
    died(world, "us-east", later(now, 70), heard_ago_s=3)
    incidents_look(now=later(now, 70))
    assert (only().state, only().drill) == ("open", second)
    assert reasons() == ["IncidentOpened", "IncidentRecovering", "IncidentReopened"]


def test_what_is_drained_or_retired_is_no_incident(world: FleetWorld) -> None:
    """A retired cluster is no place any more: what was open of it ends."""
    now = timezone.now()
    watched(world, now)
    died(world, "us-east", now, heard_ago_s=10)
    incidents_look(now=now)
    world.clusters["us-east"].schedulable = False
    world.clusters["us-east"].retired_at = now
    world.clusters["us-east"].save()
    for seconds in (1, 62):
        for name in ("eu-west", "ap-northeast"):
            heard(world, name, later(now, seconds))
        incidents_look(now=later(now, seconds))
    assert only().state == "resolved"


def test_facts_that_are_no_facts_have_no_voice(world: FleetWorld) -> None:
    """Whatever an agent of another version sends, or one that lies: it is passed over."""
    now = timezone.now()
    nonsense: list[Any] = [
        3,
        {"cluster_id": 7},
        {"cluster_id": str(world.clusters["us-east"].pk), "state": 1},
    ]
    for name in world.clusters:
        heard(world, name, now, peers=nonsense)
    rows = {row.place: row for row in places_find(organization_id=world.organization.pk, now=now).findings}
    assert rows[Place("cluster", "us-east")].health == "unknown"
    heard(world, "eu-west", now, peers="all are dead", gateways_connected="none")
    places_find(organization_id=world.organization.pk, now=now)


def test_beat_looks_and_one_broken_organization_keeps_no_other_waiting(world: FleetWorld) -> None:
    """The task is the look; what can't be read is logged."""
    other = fleet_world("other")
    all_sound(other, timezone.now())
    IncidentWatch.objects.create(organization=world.organization, suspected=[["no"]])
    incidents_look_task()
    incidents_look_task()
    assert IncidentWatch.objects.get(organization=other.organization).looked_at is not None
    assert IncidentWatch.objects.get(organization=world.organization).looked_at is None


def test_a_plan_that_cannot_be_read_keeps_no_incident_from_being_told(world: FleetWorld) -> None:
    """What moved is not known then; that the region is lost, and that it is over, is."""
    now = timezone.now()
    PlacementPlan.objects.create(
        organization=world.organization, plan_generation=1, problem={}, plan={"deployments": 7}, micro_usd_per_h=0,
        solve_s=0.0,
    )  # fmt: skip
    PlacementPlan.objects.update(created_at=now - timedelta(minutes=5))
    PlacementClock.objects.create(organization=world.organization, plan_generation=1)
    watched(world, now)
    died(world, "us-east", now, heard_ago_s=10)
    assert incidents_look(now=now) == 1
    for seconds in (1, 62):
        all_sound(world, later(now, seconds))
        incidents_look(now=later(now, seconds))
    assert only().state == "resolved"
    assert reasons()[0] == "IncidentOpened"
    assert IncidentRecord.objects.get().markdown.startswith("# Incident: "), (
        "its record is written all the same"
    )
