"""Drills in rows: stated first, one at a time, kept away by weights, ended by their guard, set against the promise."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from django.conf import LazySettings
from django.utils import timezone

from apps.agents.models import ClusterTableEntry, TableKind
from apps.api.actors import system_actor
from apps.api.models import AuditEvent
from apps.api.problems import Problem
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.drills import selectors
from apps.drills.models import Drill, DrillSchedule
from apps.drills.services import (
    drill_abort,
    drill_go_on,
    drill_observe,
    drill_start,
    drills_advance,
    schedule_create,
    schedule_delete,
)
from apps.placements.services import placements_solve
from apps.telemetry import selectors as telemetry
from apps.telemetry.models import Event, UsageRecord
from controlplane.failover import DrillLimits
from tests.apps.placements.moves import agents_work
from tests.support.fleet_world import FleetWorld, fleet_world
from workloadplane.protocol.routing import Route

pytestmark = pytest.mark.django_db(transaction=True)

EU = "eu-west-1"
LIMITS = DrillLimits(duration_s_max=400.0)


@pytest.fixture
def world() -> FleetWorld:
    made = fleet_world(instances=8)
    deployed(made)
    return made


def deployed(world: FleetWorld, name: str = "chat", **fields: Any) -> Deployment:
    """Ready where placement wants it, and able to lose a region unless told otherwise."""
    wanted = {"survivability": "region", "autoscaling": {"min_replicas": 2, "max_replicas": 8}} | fields
    made = deployment_create(actor=world.actor, document=world.document(name, **wanted))
    for _ in range(4):
        placements_solve(organization_id=world.organization.pk)
        agents_work()
    return made


def place_of(world: FleetWorld, name: str = "chat") -> str:
    """A region in which it runs."""
    found = Deployment.objects.get(name=name).assignments.filter(ended_at=None, min_replicas__gt=0)
    return str(found.order_by("created_at").first().pool.cluster.region.name)  # type: ignore[union-attr]


def start(world: FleetWorld, **fields: Any) -> Drill:
    values: dict[str, Any] = {
        "kind": "lose-region",
        "target": place_of(world),
        "deployment": "chat",
        "method": "weights",
        "driver": "client",
        "fault_s": 20.0,
        "limits": LIMITS,
        "now": timezone.now(),
    }
    return drill_start(actor=world.actor, **(values | fields))


def go_on(drill: Drill, event: Any, at_s: float, **more: Any) -> Drill:
    return drill_go_on(drill=drill, event=event, at_s=at_s, now=timezone.now(), **more)


def observe(drill: Drill, sequence: int, *rows: tuple[float, str, str], elapsed_s: float = 20.0) -> Drill:
    told = [
        {"at_s": at_s, "ttft_s": 0.1, "outcome": outcome, "region": region} for at_s, outcome, region in rows
    ]
    return drill_observe(
        drill=drill, sequence=sequence, elapsed_s=elapsed_s, samples=told, now=timezone.now()
    )


def withheld(world: FleetWorld) -> set[str]:
    """Clusters from which signed tables keep chat away, as every cluster was told."""
    chat = str(Deployment.objects.get(name="chat", project=world.project).pk)
    entries = ClusterTableEntry.objects.filter(table__kind=TableKind.ROUTING, key=chat)
    told = {msgspec.json.decode(bytes(entry.payload), type=Route).withheld for entry in entries}
    assert len(told) == 1, told
    by_id = {str(cluster.pk): cluster.region.name for cluster in world.clusters.values()}
    return {by_id[name] for name in told.pop()}


def reasons() -> list[tuple[str, str]]:
    found = Event.objects.filter(reason__startswith="Drill").order_by("pk")
    return list(found.values_list("reason", "severity"))


def test_a_drill_by_weights_keeps_traffic_away_and_is_set_against_its_promise(world: FleetWorld) -> None:
    """Blast radius and promise are there from the start; tables change with the phases; the report is stored."""
    target = place_of(world)
    drill = start(world)
    (touched,) = drill.blast["deployments"]
    assert (touched["deployment"], touched["verdict"]) == ("chat", "survives")
    assert touched["replicas_there"] >= 1
    assert drill.promise["basis"] == "certificate"
    assert drill.promise["promised"]
    assert drill.promise["served_share"] == 1.0
    assert drill.plan_generation > 0
    assert withheld(world) == set()
    observe(drill, 0, (1.0, "ok", target))
    go_on(drill, "injected", 5.0)
    assert withheld(world) == {target}
    observe(drill, 1, (5.5, "ok", target), (9.0, "ok", "elsewhere"))
    observe(drill, 1, (5.5, "ok", target), (9.0, "ok", "elsewhere"))
    go_on(drill, "repaired", 25.0)
    assert withheld(world) == set()
    ended = go_on(drill, "reported", 30.0, detected_at_s=6.0)
    assert ended.state == "passed"
    report = Drill.objects.get().report or {}
    assert report["detected_s"] == 1.0
    assert (report["moved_s"], report["served_share"], report["differences"]) == (0.5, 1.0, [])
    assert [phase["requests"] for phase in report["phases"]] == [1, 2, 0], "a batch counts once"
    assert report["cost_micro_usd"] > 0
    assert reasons() == [("DrillBegan", "info"), ("DrillPassed", "info")]
    with pytest.raises(Problem, match="nothing follows this state"):
        go_on(drill, "reported", 31.0)


def test_what_differs_from_the_promise_is_an_alert(world: FleetWorld) -> None:
    """An event of severity error, in the project whose promise it is, that says both sides."""
    target = place_of(world)
    drill = start(world)
    go_on(drill, "injected", 5.0)
    observe(drill, 0, *[(10.0 + number / 10, "ok", target) for number in range(20)])
    go_on(drill, "repaired", 25.0)
    assert go_on(drill, "reported", 30.0).state == "differs"
    alert = Event.objects.get(reason="DrillDiffers")
    assert (alert.severity, alert.project_id, alert.deployment_id) == (
        "error",
        world.project.pk,
        drill.deployment_id,
    )
    assert "the others take all of it" in alert.message
    assert "100.0 % had no room there and stayed" in alert.message


def test_errors_end_a_drill_by_themselves_and_traffic_returns(world: FleetWorld) -> None:
    """What was measured until then is kept; who drives it learns of it by the answer."""
    drill = start(world)
    go_on(drill, "injected", 1.0)
    assert observe(drill, 0, *[(2.0, "failed", "")] * 2).state == "during"
    assert observe(drill, 1, (2.5, "failed", "")).state == "aborted"
    assert withheld(world) == set()
    ended = Drill.objects.get()
    assert ended.because == "error_budget: 3 of 3 requests failed"
    assert (ended.report or {})["served_share"] == 0.0
    assert reasons()[-1] == ("DrillAborted", "warning")
    assert observe(drill, 2, (3.0, "ok", EU)).state == "aborted"


def test_a_drill_whose_client_died_ends_at_its_deadline(world: FleetWorld) -> None:
    """By the control plane's own clock; and only then."""
    drill = start(world)
    go_on(drill, "injected", 1.0)
    assert drills_advance(now=drill.deadline_at) == 0
    assert withheld(world) != set()
    assert drills_advance(now=drill.deadline_at + timedelta(seconds=1)) == 1
    assert Drill.objects.get().state == "aborted"
    assert withheld(world) == set()


def test_a_fault_of_the_first_moment_is_over_once_its_drill_is_aborted(world: FleetWorld) -> None:
    """Nothing that fails later is taken for it."""
    drill = start(world)
    go_on(drill, "injected", 0.0)
    ended = drill_abort(actor=world.actor, drill=drill, now=timezone.now())
    assert ended.repaired_at_s is not None


def test_an_operator_ends_it_at_any_point(world: FleetWorld) -> None:
    """The audit says who; a second time is told that it is over."""
    drill = start(world)
    go_on(drill, "injected", 1.0)
    assert drill_abort(actor=world.actor, drill=drill, now=timezone.now()).because == "by api_key:test"
    assert withheld(world) == set()
    assert set(AuditEvent.objects.filter(subject_type="drill").values_list("action", flat=True)) == {
        "started",
        "aborted",
    }
    with pytest.raises(Problem, match="nothing follows this state"):
        drill_abort(actor=world.actor, drill=drill, now=timezone.now())
    assert start(world).state == "before"


def test_one_at_a_time_in_an_organization(world: FleetWorld) -> None:
    """Two would measure each other; another organization's has nothing to do with it."""
    start(world)
    with pytest.raises(Problem, match="a drill is under way"):
        start(world)
    other = fleet_world("elsewhere", instances=8)
    deployed(other, "theirs")
    assert start(other, deployment="theirs", target=place_of(other, "theirs")).state == "before"
    stranger = system_actor("tests", organization_id=other.organization.pk, project_id=other.project.pk)
    assert [row.deployment for row in selectors.drills(actor=stranger)] == ["theirs"]


def test_what_the_certificate_does_not_promise_is_refused_unless_accepted(world: FleetWorld) -> None:
    """With what would be left; a drill is no surprise."""
    deployed(world, "alone", survivability="none", autoscaling={"min_replicas": 1, "max_replicas": 1})
    fields = {"deployment": "alone", "target": place_of(world, "alone")}
    with pytest.raises(Problem, match=r"deployment alone would be served for 0\.0 %") as raised:
        start(world, **fields)
    assert raised.value.type_id == "refused"
    assert start(world, **fields, accept_risk=True).promise["served_share"] == 0.0


def test_what_cannot_be_is_named(world: FleetWorld) -> None:
    """Each at its field."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"target": "mars"}, "/target"),
        ({"kind": "lose-control-plane", "method": "weights"}, "/method"),
        ({"fault_s": 500.0}, "/limits/duration_s_max"),
        ({"method": "faults", "driver": "plane"}, "/driver"),
        ({"kind": "lose-provider", "target": EU}, "/target"),
    ]
    for fields, pointer in wrong:
        with pytest.raises(Problem) as raised:
            start(world, **fields)
        assert [error.pointer for error in raised.value.errors] == [pointer]


def test_nothing_is_broken_in_a_production_system(world: FleetWorld, settings: LazySettings) -> None:
    """Faults are for systems that one machine holds; there the control plane can be lost too."""
    with pytest.raises(Problem, match="nothing is broken in a production system"):
        start(world, method="faults")
    settings.MERIDIAN_FAULTS = True
    drill = start(world, kind="lose-control-plane", target="", method="faults")
    assert drill.promise["basis"] == "static_stability"
    go_on(drill, "injected", 1.0)
    assert withheld(world) == set(), "by faults no table changes"


def used(drill: Drill, at: datetime, region_cluster: Any, **fields: Any) -> None:
    values: dict[str, Any] = {
        "gateway_instance": str(uuid4()),
        "sequence": 1,
        "request_id": "r",
        "finished_at": at,
        "project_id": drill.project_id,
        "api_key_id": uuid4(),
        "deployment_id": drill.deployment_id,
        "revision_id": uuid4(),
        "reported_by_cluster_id": region_cluster.pk,
        "served_cluster_id": region_cluster.pk,
        "origin": EU,
        "request_class": "interactive",
        "route": "chat",
        "status": 200,
        "outcome": "ok",
        "input_tokens": 1,
        "cached_tokens": 0,
        "output_tokens": 1,
        "queue_s": 0.0,
        "ttft_s": 0.2,
        "duration_s": 0.5,
    }
    UsageRecord.objects.create(**(values | fields))


def test_a_scheduled_drill_runs_by_itself_and_comes_again(world: FleetWorld) -> None:
    """From its window on: measured by what real clients used, phase by phase."""
    now = timezone.now().replace(hour=1, minute=0, second=0, microsecond=0)
    target = place_of(world)
    schedule = schedule_create(
        actor=world.actor,
        kind="lose-region",
        target=target,
        deployment="chat",
        every_days=7,
        starts_at_utc="03:30",
        window_minutes=30,
        fault_s=60.0,
        limits=LIMITS,
        now=now,
    )
    begins = now.replace(hour=3, minute=30)
    assert schedule.next_at == begins
    assert drills_advance(now=begins - timedelta(seconds=1)) == 0
    drills_advance(now=begins)
    drill = Drill.objects.get()
    assert (drill.driver, drill.state, drill.created_by) == ("plane", "before", "system:drills")
    assert DrillSchedule.objects.get().next_at == begins + timedelta(days=7)
    elsewhere = next(c for c in world.clusters.values() if c.region.name != target)
    drills_advance(now=begins + timedelta(seconds=60))
    assert withheld(world) == {target}
    used(drill, begins + timedelta(seconds=90), elsewhere)
    used(drill, begins + timedelta(seconds=91), elsewhere, outcome="client_gone", status=499)
    drills_advance(now=begins + timedelta(seconds=120))
    assert withheld(world) == set()
    drills_advance(now=begins + timedelta(seconds=180))
    drill.refresh_from_db()
    assert drill.state == "passed"
    during = (drill.report or {})["phases"][1]
    assert (during["requests"], during["regions"]) == (1, [[elsewhere.region.name, 1.0]])
    schedule_delete(actor=world.actor, schedule=DrillSchedule.objects.get())
    assert drills_advance(now=begins + timedelta(days=8)) == 0


def test_of_more_requests_than_are_read_all_of_the_time_is_seen(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy deployment's drill is judged by what was used during the fault, not by what came first."""
    monkeypatch.setattr(telemetry, "REQUESTS_MOST", 4)
    drill = start(world)
    elsewhere = next(iter(world.clusters.values()))
    for number in range(12):
        used(drill, drill.started_at + timedelta(seconds=10 * number), elsewhere)
    seen = telemetry.requests_of_deployment(
        deployment_id=drill.deployment_id,
        start=drill.started_at,
        end=drill.started_at + timedelta(seconds=120),
    )
    assert len(seen) == 4
    assert seen[-1].began_at > drill.started_at + timedelta(seconds=80)


def test_a_window_that_passed_and_a_drill_that_is_refused_are_told(world: FleetWorld) -> None:
    """And the next one is tried; a drill that is under way is waited for."""
    now = timezone.now()
    fields: dict[str, Any] = {
        "actor": world.actor,
        "kind": "lose-region",
        "target": place_of(world),
        "every_days": 2,
        "starts_at_utc": "03:30",
        "window_minutes": 10,
        "fault_s": 60.0,
        "limits": LIMITS,
        "now": now,
    }
    schedule = schedule_create(deployment="chat", **fields)
    drill = start(world)
    begins = schedule.next_at
    drills_advance(now=drill.deadline_at)
    DrillSchedule.objects.update(next_at=now)
    assert drills_advance(now=now) == 0
    assert DrillSchedule.objects.get().next_at == now, "it waits for the other one"
    DrillSchedule.objects.update(next_at=begins)
    drills_advance(now=begins + timedelta(days=5))
    assert DrillSchedule.objects.get().next_at == begins + timedelta(days=6)
    assert Event.objects.get(reason="DrillMissed").message.endswith("its window passed without it")
    with pytest.raises(Problem, match="is scheduled for chat already"):
        schedule_create(deployment="chat", **fields)
