"""Planned moves: make before break, checked before, called off at any point."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.agents.models import Replica
from apps.api.actors import system_actor
from apps.api.models import AuditEvent
from apps.api.problems import Problem
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.drains import selectors
from apps.drains.models import Drain
from apps.drains.services import drain_lift, drain_start, drains_advance
from apps.drains.tasks import drains_advance as drains_advance_task
from apps.fleet.services import pool_patch
from apps.placements.models import Assignment
from apps.placements.services import placements_solve
from apps.telemetry.models import Event
from tests.apps.placements.moves import agents_work, ready_by_cluster
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def deployed(world: FleetWorld, name: str = "chat", *, replicas: int = 2, **fields: Any) -> Deployment:
    """With so many replicas ready where placement wants them."""
    policy = {"min_replicas": replicas, "max_replicas": 8}
    made = deployment_create(actor=world.actor, document=world.document(name, autoscaling=policy, **fields))
    work(world)
    return made


def work(world: FleetWorld, passes: int = 6, *, may_start: bool = True) -> None:
    """Solver, agents and beat, side by side."""
    for _ in range(passes):
        placements_solve(organization_id=world.organization.pk)
        agents_work(may_start=may_start)
        drains_advance_task()


def start(world: FleetWorld, kind: str = "cluster", name: str = "us-east", **fields: Any) -> Drain:
    values: dict[str, Any] = {"now": timezone.now(), "organization_id": world.organization.pk} | fields
    return drain_start(actor=world.actor, kind=kind, name=name, **values)


def lift(world: FleetWorld, drain: Drain) -> Drain:
    return drain_lift(actor=world.actor, drain=drain, now=timezone.now())


def state_of(drain: Drain) -> str:
    return Drain.objects.get(pk=drain.pk).state


def reasons() -> list[str]:
    found = Event.objects.filter(reason__startswith="Drain").order_by("pk")
    return list(found.values_list("reason", flat=True))


@pytest.mark.parametrize(("kind", "name"), [("region", "us-east4"), ("pool", "us-east/on-demand")])
def test_what_runs_there_is_ready_elsewhere_before_it_goes(world: FleetWorld, kind: str, name: str) -> None:
    """Whatever is emptied: never less ready than before, progress is told, nothing returns until it is lifted."""
    chat = deployed(world)
    assert ready_by_cluster(chat) == {"us-east": 2}
    drain = start(world, kind, name)
    assert (drain.state, drain.replicas_at_start) == ("moving", 2)
    placements_solve(organization_id=world.organization.pk)
    agents_work(may_start=False)
    progress = selectors.progress(drain=drain, now=timezone.now())
    assert (progress.here, progress.gone, progress.eta_s) == (2, 0, None), "no cold start is known"
    (moving,) = progress.deployments
    assert (moving.deployment, moving.here, moving.wanted, moving.ready) == ("chat", 2, 2, 0)
    agents_work()
    assert sum(ready_by_cluster(chat).values()) == 4, "those that take over stand beside those that leave"
    work(world)
    assert ready_by_cluster(chat) == {"eu-west": 2}
    assert state_of(drain) == "drained"
    drained = selectors.progress(drain=Drain.objects.get(), now=timezone.now())
    assert (drained.replicas, drained.here, drained.gone, drained.eta_s) == (2, 0, 2, 0.0)
    other = deployed(world, "other")
    assert ready_by_cluster(other) == {"eu-west": 2}, "nothing new goes where it is cheapest"
    lift(world, drain)
    assert state_of(drain) == "over"
    third = deployed(world, "third")
    assert ready_by_cluster(third) == {"us-east": 2}
    assert reasons() == ["DrainStarted", "Drained", "DrainOver"]
    over = selectors.progress(drain=Drain.objects.get(), now=timezone.now())
    assert (over.replicas, over.gone, over.here, over.deployments) == (2, 2, 0, ())


def test_a_promise_that_would_break_is_told_before_anything_moves(world: FleetWorld) -> None:
    """Deployment, jurisdiction, what is short and the remedy; nothing is written."""
    deployed(world, residency=["us"])
    with pytest.raises(Problem) as raised:
        start(world)
    problem = raised.value
    assert problem.type_id == "refused"
    assert problem.detail.startswith("refused: would leave chat with nothing in jurisdiction us (")
    assert "only us is allowed: add capacity there, or widen residency" in problem.detail
    assert "--accept-risk" in problem.detail
    assert [refusal.subject for refusal in problem.refusals] == ["deployment chat"]
    assert not Drain.objects.exists()
    assert not Event.objects.filter(reason__startswith="Drain").exists()


def test_n_plus_one_is_a_promise_too(world: FleetWorld) -> None:
    """Two regions of three may carry it: with one it would serve, and survive nothing."""
    deployed(world, residency=["us", "eu"], survivability="region")
    with pytest.raises(
        Problem, match="would leave chat under N\\+1 in jurisdictions eu, us: losing region eu-west-1"
    ):
        start(world)


def test_whoever_accepts_the_risk_is_written_down(world: FleetWorld) -> None:
    """What finds no other place stops; the audit and the event say who decided that."""
    chat = deployed(world, residency=["us"])
    drain = start(world, accept_risk=True)
    assert drain.accepted_by == str(world.actor)
    work(world)
    assert ready_by_cluster(chat) == {}
    assert state_of(drain) == "drained"
    audited = AuditEvent.objects.get(subject_type="drain")
    assert audited.actor == str(world.actor)
    said = audited.after or {}
    assert (said["accept_risk"], [short["rule"] for short in said["shortfalls"]]) == (True, ["nowhere"])
    assert f"risk accepted by {world.actor}" in Event.objects.get(reason="DrainStarted").message


def test_a_move_that_loses_its_aim_leaves_what_serves_where_it_is(world: FleetWorld) -> None:
    """Half way the only other place is gone: nobody stops. It moves when there is room again."""
    chat = deployed(world, residency=["us", "eu"])
    drain = start(world)
    placements_solve(organization_id=world.organization.pk)
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], capacity_instances=0)
    work(world)
    assert ready_by_cluster(chat) == {"us-east": 2}
    assert state_of(drain) == "moving"
    row = Assignment.objects.get(ended_at=None)
    assert (row.leaving, row.draining) == (True, False)
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], capacity_instances=8)
    work(world)
    assert ready_by_cluster(chat) == {"eu-west": 2}
    assert state_of(drain) == "drained"


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_it_is_called_off_at_any_point(world: FleetWorld, passes: int) -> None:
    """However far it is: as many are ready as before at every moment, and the place may be used again."""
    chat = deployed(world)
    drain = start(world)
    for _ in range(passes):
        work(world, 1)
        assert sum(ready_by_cluster(chat).values()) >= 2
    lift(world, drain)
    for _ in range(6):
        work(world, 1)
        assert sum(ready_by_cluster(chat).values()) >= 2
    assert sum(ready_by_cluster(chat).values()) == 2
    assert state_of(drain) in ("cancelled", "over")
    with pytest.raises(Problem, match="nothing follows this state"):
        lift(world, drain)
    assert ready_by_cluster(deployed(world, "other")) == {"us-east": 2}


def test_a_window_begins_so_early_that_all_has_moved_and_ends_by_itself(world: FleetWorld) -> None:
    """By the cold starts that were seen here: 100 s, and 30 s for the hand-over."""
    chat = deployed(world)
    eu = deployed(world, "learn", residency=["eu"])
    for replica in Replica.objects.filter(deployment=eu):
        Replica.objects.filter(pk=replica.pk).update(ready_at=replica.started_at + timedelta(seconds=100))
    now = timezone.now()
    drain = start(world, starts_at=now + timedelta(hours=1), ends_at=now + timedelta(hours=2))
    assert (drain.state, drain.expected_s) == ("planned", 130.0)
    early, due = (now + timedelta(hours=1, seconds=-seconds) for seconds in (131, 130))
    assert drains_advance(now=early) == 0
    assert drains_advance(now=due) == 1
    assert selectors.progress(drain=Drain.objects.get(), now=due + timedelta(seconds=30)).eta_s == 100
    for _ in range(6):
        placements_solve(organization_id=world.organization.pk)
        agents_work()
    assert drains_advance(now=due) == 1
    assert drains_advance(now=due) == 0, "twice is once"
    assert (state_of(drain), ready_by_cluster(chat)) == ("drained", {"eu-west": 2})
    assert drains_advance(now=now + timedelta(hours=2)) == 1
    assert state_of(drain) == "over"
    assert reasons() == ["DrainPlanned", "DrainStarted", "Drained", "DrainOver"]


def test_a_window_is_checked_again_when_it_is_due(world: FleetWorld) -> None:
    """What was safe when it was planned may not be by then: it is refused aloud, and nothing moves."""
    chat = deployed(world, residency=["us", "eu"])
    now = timezone.now()
    drain = start(world, starts_at=now + timedelta(hours=1))
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], capacity_instances=0)
    drains_advance(now=now + timedelta(hours=1))
    assert state_of(drain) == "refused"
    refused = Event.objects.get(reason="DrainRefused")
    assert refused.severity == "error"
    assert "would leave a deployment with nothing in jurisdictions eu, us" in refused.message
    work(world)
    assert ready_by_cluster(chat) == {"us-east": 2}


def test_one_place_is_drained_once(world: FleetWorld) -> None:
    """A second order is told of the first; a window for it waits until that is lifted."""
    first = start(world)
    with pytest.raises(Problem, match="cluster us-east is moving already"):
        start(world)
    now = timezone.now()
    second = start(world, starts_at=now + timedelta(hours=1))
    assert drains_advance(now=now + timedelta(hours=1)) == 1  # the first one: it is empty
    assert (state_of(first), state_of(second)) == ("drained", "planned")
    lift(world, first)
    drains_advance(now=now + timedelta(hours=1))
    assert state_of(second) == "moving"


def test_what_is_not_there_and_times_that_cannot_be_are_named(world: FleetWorld) -> None:
    """Each at its field, with what would be right."""
    now = timezone.now()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("/name", {"name": "mars"}),
        ("/ends_at", {"ends_at": now}),
        ("/ends_at", {"starts_at": now + timedelta(hours=2), "ends_at": now + timedelta(hours=1)}),
        ("/starts_at", {"starts_at": now + timedelta(days=400)}),
    ]
    for pointer, fields in wrong:
        with pytest.raises(Problem) as raised:
            start(world, **fields)
        assert [error.pointer for error in raised.value.errors] == [pointer]


def test_another_organization_is_untouched(world: FleetWorld) -> None:
    """Regions are shared, what stands in them is not."""
    other = fleet_world("elsewhere")
    theirs = deployed(other)
    start(world, "region", "us-east4")
    work(other)
    assert ready_by_cluster(theirs) == {"us-east": 2}
    stranger = system_actor("tests", organization_id=other.organization.pk)
    assert not selectors.drains(actor=stranger).exists()
