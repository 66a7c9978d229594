"""Solves that go wrong, come late or find nothing better: the last plan stays in force."""

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Project
from apps.api.actors import system_actor
from apps.deployments.models import Deployment, DeploymentCondition
from apps.deployments.services import deployment_create, deployment_delete, deployment_patch
from apps.fleet.models import GpuPool, PoolPrice
from apps.fleet.services import pool_patch
from apps.placements.models import PlacementClock, PlacementPlan, SolveCount
from apps.placements.selectors import FAILURE_TOLD, solve_failures_told
from apps.placements.services import placements_improve, placements_solve
from apps.placements.tasks import placement_improve as placement_improve_task
from apps.placements.tasks import placements_improve as placements_improve_task
from apps.placements.tasks import placements_reconcile
from apps.telemetry.models import Event
from apps.telemetry.selectors import events
from controlplane.placement import PlacementPlan as Plan
from controlplane.placement import PlacementProblem, certify, plan_cost, plan_decode, problem_decode, solve
from controlplane.placement.search import full
from tests.apps.placements.test_road import places
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)

DECIDE = "apps.placements.services.placement_decide"
IMPROVE = "apps.placements.services.placements_improve"


@pytest.fixture
def world() -> FleetWorld:
    made = fleet_world()
    deployment_create(actor=made.actor, document=made.document())
    placements_solve(organization_id=made.organization.pk)
    assert places() == {"us-east": (1, 1)}
    return made


def counts() -> dict[tuple[str, str], int]:
    return {(row.kind, row.outcome): row.solves for row in SolveCount.objects.all()}


def told(reason: str) -> list[str]:
    return list(Event.objects.filter(reason=reason).order_by("pk").values_list("message", flat=True))


def price(world: FleetWorld, cluster: str, micro_usd_per_h: int) -> None:
    """A price that no event tells of, as if many small ones had come together."""
    PoolPrice.objects.create(
        pool=world.pools[cluster], instance_micro_usd_per_h=micro_usd_per_h, effective_from=timezone.now()
    )


def from_scratch(problem: PlacementProblem, **_: Any) -> Plan:
    """The cheapest plan, as if nothing ran."""
    return solve(replace(problem, current=()))


@pytest.fixture
def improves(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Plan]], None]:
    """Full solves find what this finds."""
    return lambda found: monkeypatch.setattr(full, "improve", found)


def test_a_solver_that_fails_leaves_the_last_plan_in_force_and_says_so_once(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish stays, the failure is counted each time and told once; the next good solve says that it is over."""
    with monkeypatch.context() as broken:
        broken.setattr(sys.modules[DECIDE], "resolve", lambda *_: 1 / 0)
        pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
        for _ in range(2):
            placements_reconcile()
    assert places() == {"us-east": (1, 1)}
    assert told("PlacementFailed") == [
        "placement could not be solved (event); the last plan stays in force."
        " ZeroDivisionError: division by zero"
    ]
    assert counts()["event", "failed"] == 2
    operator = system_actor("tests", organization_id=world.organization.pk)
    assert solve_failures_told(actor=operator) == ("ZeroDivisionError: division by zero",)
    assert solve_failures_told(actor=replace(operator, right="read")) == (FAILURE_TOLD,)
    placements_reconcile()
    assert places() == {"eu-west": (1, 1)}
    assert len(told("PlacementRecovered")) == 1
    assert PlacementClock.objects.get().failures == {}


def test_a_pool_that_cannot_be_planned_with_is_closed_and_the_rest_goes_on(world: FleetWorld) -> None:
    """A hazard that is no number, as a fault in a feed would write it: what runs there stays, once it is mended all
    is as before. It is said once."""
    GpuPool.objects.filter(pk=world.pools["us-east"].pk).update(hazard_per_h=float("inf"))
    for name in ("second", "third"):
        deployment_create(actor=world.actor, document=world.document(name))
        placements_reconcile()
        assert places(name) == {"eu-west": (1, 1)}, "the cheapest that is left"
    assert places() == {"us-east": (1, 1)}
    (said,) = told("RowLeftOut")
    assert "pool on-demand: hazard_per_h is inf" in said
    assert not told("PlacementFailed")
    GpuPool.objects.update(hazard_per_h=0)
    placements_reconcile()
    deployment_create(actor=world.actor, document=world.document("fourth"))
    placements_reconcile()
    assert places("fourth") == {"us-east": (1, 1)}
    assert (len(told("RowLeftOut")), len(told("PlacementRecovered"))) == (1, 1)


@pytest.mark.parametrize("micro_usd_per_h", [2 * 10**9, 2 * 10**15])
def test_a_price_of_another_unit_closes_its_pool_alone(world: FleetWorld, micro_usd_per_h: int) -> None:
    """What runs there is not moved for it."""
    price(world, "us-east", micro_usd_per_h)
    deployment_create(actor=world.actor, document=world.document("second"))
    placements_reconcile()
    placements_improve_task()
    assert (places(), places("second")) == ({"us-east": (1, 1)}, {"eu-west": (1, 1)})


@pytest.mark.parametrize("solve_in_full", [False, True])
def test_a_deployment_that_cannot_be_planned_with_keeps_what_it_has(
    world: FleetWorld, solve_in_full: bool
) -> None:
    """It is refused, its room is nobody else's, the others are placed; mended, it is placed where it was."""
    for cluster in ("eu-west", "ap-northeast"):
        pool_patch(actor=world.actor, pool=world.pools[cluster], capacity_instances=0)
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=2)
    Deployment.objects.filter(name="chat").update(slo_ttft_s_p95=1e9)
    for name in ("second", "third"):
        deployment_create(actor=world.actor, document=world.document(name))
    placements_reconcile()
    if solve_in_full:
        placements_improve_task()
    assert (places(), places("second"), places("third")) == ({"us-east": (1, 1)}, {"us-east": (1, 1)}, {})
    placed = DeploymentCondition.objects.get(deployment__name="chat", type="Placed")
    assert (placed.status, placed.reason) == (False, "OutOfRange")
    assert "slo" in placed.message
    assert not told("PlacementFailed")
    Deployment.objects.filter(name="chat").update(slo_ttft_s_p95=None)
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=3)
    placements_reconcile()
    assert (places(), places("third")) == ({"us-east": (1, 1)}, {"us-east": (1, 1)})
    assert DeploymentCondition.objects.get(deployment__name="chat", type="Placed").status


def test_what_is_wrong_with_a_projects_row_is_told_to_that_project_alone(world: FleetWorld) -> None:
    """Its neighbours hear that something is left out, and no name."""
    neighbour = Project.objects.create(organization=world.organization, name="neighbour")
    Deployment.objects.filter(name="chat").update(slo_ttft_s_p95=1e9)
    deployment_create(actor=world.actor, document=world.document("second"))
    placements_reconcile()
    own = set(events(actor=world.actor, reason="RowLeftOut").values_list("message", flat=True))
    others = events(actor=world.actor_for(neighbour), reason="RowLeftOut").values_list("message", flat=True)
    assert any("deployment chat: slo" in message for message in own)
    assert len(others) == 1
    assert "chat" not in others[0]


def test_an_event_solves_what_it_touches_and_leaves_the_rest(world: FleetWorld) -> None:
    """Deployments that came and went since, with several assignments each, are no obstacle."""
    policy = {"min_replicas": 2, "max_replicas": 4}
    gone = deployment_create(
        actor=world.actor, document=world.document("gone", survivability="region", autoscaling=policy)
    )
    placements_solve(organization_id=world.organization.pk)
    assert len(places("gone")) > 1
    deployment_delete(actor=world.actor, deployment=gone)
    placements_solve(organization_id=world.organization.pk)
    pool_patch(actor=world.actor, pool=world.pools["us-east"], price_micro_usd_per_h=9_000_000)
    placements_solve(organization_id=world.organization.pk)
    assert places() == {"eu-west": (1, 1)}, "its own pool became dearer by more than a move costs"
    assert not told("PlacementFailed")


def test_a_full_solve_is_adopted_where_it_saves_more_than_its_moves_cost(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """The price where it runs has risen far: no event said so, the full solve sees it."""
    price(world, "us-east", 9_000_000)
    improves(from_scratch)
    placements_improve_task()
    assert places() == {"eu-west": (1, 1)}
    assert counts()["full", "adopted"] == 1
    (said,) = told("PlanImproved")
    assert said.startswith("a full solve saves 7.00 USD/h; its moves cost 0.15 USD/h")
    neighbour = Project.objects.create(organization=world.organization, name="neighbour")
    assert not events(actor=world.actor_for(neighbour), reason="PlanImproved"), "what it saves is no other's"


def test_a_full_solve_that_saves_too_little_moves_nobody(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """Two cents an hour are not worth a cold start and a cache; the prices that it found are kept all the same."""
    price(world, "us-east", 2_020_000)
    improves(
        lambda problem, **_: replace(
            from_scratch(problem),
            gpu_micro_usd_per_h_by_pool={"p": 5},
            lower_bound_micro_usd_per_h=1_900_000,
        )
    )
    placements_improve_task()
    assert places() == {"us-east": (1, 1)}
    assert counts()["full", "kept"] == 1
    clock = PlacementClock.objects.get()
    assert (clock.gpu_micro_usd_per_h_by_pool, clock.lower_bound_micro_usd_per_h) == ({"p": 5}, 1_900_000)
    assert clock.full_solved_at is not None


def test_a_full_solve_that_finds_nothing_better_changes_nothing(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """Run again and again."""
    improves(lambda problem, start, **_: start)
    for _ in range(2):
        placements_improve_task()
    assert counts()["full", "unchanged"] == 2
    assert PlacementPlan.objects.count() == 1


def test_what_events_overtake_of_a_full_solve_is_theirs_and_the_rest_is_adopted(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """Events keep coming while it thinks, each with a plan of its own: what none of them touched is adopted at once."""
    second = deployment_create(
        actor=world.actor,
        document=world.document("second", autoscaling={"min_replicas": 1, "max_replicas": 2}),
    )
    placements_solve(organization_id=world.organization.pk)

    def slowly(problem: PlacementProblem, **_: Any) -> Plan:
        for least in (2, 1, 2):
            policy = {"autoscaling": {"min_replicas": least}}
            deployment_patch(actor=world.actor, deployment=second, changes=policy)
            placements_solve(organization_id=world.organization.pk)
        deployment_create(actor=world.actor, document=world.document("third"))
        price(world, "us-east", 9_000_000)
        dearer = replace(
            problem.pool_by_id[str(world.pools["us-east"].pk)], instance_micro_usd_per_h=9_000_000
        )
        others = [pool for pool in problem.pools if pool.pool_id != dearer.pool_id]
        return from_scratch(replace(problem, pools=(*others, dearer)))

    improves(slowly)
    before = PlacementPlan.objects.count()
    placements_improve_task()
    assert PlacementPlan.objects.count() > before + 1, "events had plans of their own meanwhile"
    assert places() == {"eu-west": (1, 1)}
    assert counts()["full", "adopted"] == 1
    placements_reconcile()
    assert places("third") == {"eu-west": (1, 1)}, "nobody is forgotten"
    clock = PlacementClock.objects.get()
    assert clock.solved == clock.wanted


def test_a_full_solve_gives_nobody_room_that_is_gone_meanwhile(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """The pool that it wanted was closed while it thought: who was to go there stays, and no other plan is harmed."""
    price(world, "us-east", 9_000_000)

    def slowly(problem: PlacementProblem, **_: Any) -> Plan:
        found = from_scratch(problem)
        pool_patch(actor=world.actor, pool=world.pools["eu-west"], capacity_instances=0)
        return found

    improves(slowly)
    placements_improve_task()
    placements_reconcile()
    assert places() == {"ap-northeast": (1, 1)}, "the next best place"


def test_a_full_solve_waits_for_an_event_that_is_being_solved_but_not_for_ever(
    world: FleetWorld, improves: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds an event's lock is waited for; if that takes too long, its plan is thrown away."""
    price(world, "us-east", 9_000_000)
    improves(from_scratch)
    monkeypatch.setattr(sys.modules[IMPROVE], "ADOPTION_WAIT_S", 0.05)
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7302, hashtext(%s))", [str(world.organization.pk)])
    try:
        placements_improve_task()
    finally:
        other.close()
    assert places() == {"us-east": (1, 1)}
    assert counts()["full", "overtaken"] == 1


def test_the_longest_ago_is_solved_in_full_first_and_time_is_bounded(
    world: FleetWorld, improves: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two organizations and time for one: each run takes the one that waited longer."""
    other = fleet_world("other")
    deployment_create(actor=other.actor, document=other.document("theirs"))
    placements_solve(organization_id=other.organization.pk)
    asked: list[str] = []

    def slow(problem: PlacementProblem, start: Plan, **_: Any) -> Plan:
        asked.append(problem.organization_id)
        monkeypatch.setattr(sys.modules[IMPROVE], "RUN_S", -1.0)
        return start

    improves(slow)
    for _ in range(4):
        monkeypatch.setattr(sys.modules[IMPROVE], "RUN_S", 600.0)
        placements_improve_task()
    assert sorted(asked[:2]) == sorted([str(world.organization.pk), str(other.organization.pk)])
    assert asked[2:] == asked[:2]


def test_a_full_solve_that_fails_keeps_no_other_organization_waiting(
    world: FleetWorld, improves: Callable[..., None]
) -> None:
    """The first one's solver breaks; the second one's is asked all the same."""
    other = fleet_world("other")
    deployment_create(actor=other.actor, document=other.document("theirs"))
    placements_solve(organization_id=other.organization.pk)
    asked = []

    def breaks(problem: PlacementProblem, start: Plan, **_: Any) -> Plan:
        asked.append(problem.organization_id)
        if problem.organization_id == str(world.organization.pk):
            raise ValueError("no basis")
        return start

    improves(breaks)
    placements_improve_task()
    assert set(asked) == {str(world.organization.pk), str(other.organization.pk)}
    assert Event.objects.get(reason="PlacementFailed").organization_id == world.organization.pk
    assert places() == {"us-east": (1, 1)}


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What full solves were asked for."""
    asked: list[tuple[str, str]] = []

    def send(task: str, args: tuple[str, str], **_: Any) -> None:
        if task == placement_improve_task.name:
            asked.append(args)

    monkeypatch.setattr("controlplane.celery.application.send_task", send)
    return asked


def relaxed() -> list[int]:
    return [row.relaxed for row in PlacementPlan.objects.order_by("plan_generation")]


def test_what_an_event_gives_up_is_repaired_at_once(rung: list[tuple[str, str]]) -> None:
    """Three that must survive a region fit into three times two GPUs, if the first two make way for the third."""
    world = fleet_world(instances=2)
    for name in ("one", "two", "three"):
        deployment_create(
            actor=world.actor,
            document=world.document(
                name, survivability="region", autoscaling={"min_replicas": 1, "max_replicas": 2}
            ),
        )
        placements_solve(organization_id=world.organization.pk)
    assert bool(relaxed()[-1]) == bool(rung), relaxed()
    for asked in rung:
        placement_improve_task(*asked)
    assert PlacementPlan.objects.order_by("plan_generation").last().relaxed == 0  # type: ignore[union-attr]


def test_a_full_solve_is_asked_for_once_where_somebody_gets_less_than_before(
    world: FleetWorld, rung: list[tuple[str, str]], improves: Callable[..., None]
) -> None:
    """Not again for who lacks something already, nor where a full solve was begun since the asking."""
    solved: list[str] = []

    def found(problem: PlacementProblem, start: Plan, **_: Any) -> Plan:
        solved.append(problem.organization_id)
        return start

    improves(found)
    for pool in world.pools.values():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=0)
    placements_solve(organization_id=world.organization.pk)
    assert len(rung) == 1, "it is not placed any more"
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], price_micro_usd_per_h=3_000_000)
    placements_solve(organization_id=world.organization.pk)
    assert len(rung) == 1, "nothing new is lacking"
    for _ in range(2):
        placement_improve_task(*rung[0])
    assert solved == [str(world.organization.pk)]


def test_two_full_solves_at_once_are_one(world: FleetWorld, improves: Callable[..., None]) -> None:
    """Whoever finds the other at work leaves it to it."""
    improves(lambda *_, **__: pytest.fail("solved beside another"))
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7303, hashtext(%s))", [str(world.organization.pk)])
    try:
        placements_improve_task()
    finally:
        other.close()
    assert not any(kind == "full" for kind, _ in counts())


def test_a_dead_broker_delays_and_loses_nothing(world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is accepted, the reconciliation finds it."""

    def dead(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr("controlplane.celery.application.send_task", dead)
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
    assert places() == {"us-east": (1, 1)}
    placements_reconcile()
    assert places() == {"eu-west": (1, 1)}


def test_a_plan_is_stored_with_what_it_costs_and_the_hash_of_its_certificate(world: FleetWorld) -> None:
    """Whoever holds problem and plan can certify again, and finds the same."""
    row = PlacementPlan.objects.get()
    problem, plan = problem_decode(row.problem), plan_decode(row.plan)
    assert certify(problem, plan).sha256 == row.certificate_sha256
    assert row.objective_micro_usd_per_h == plan_cost(problem, plan).total_micro_usd_per_h >= 1_000_000
    assert (row.refused, row.relaxed) == (0, 0)


def test_metrics_tell_how_placement_does(world: FleetWorld, client: Client) -> None:
    """By kind and outcome, never by name."""
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
    for pool in world.pools.values():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=0)
    deployment_create(actor=world.actor, document=world.document("second"))
    placements_solve(organization_id=world.organization.pk)
    text = client.get("/metrics").content.decode()
    assert 'meridian_placement_solves{kind="event",outcome="adopted"} 2.0' in text
    assert "meridian_placement_refused_deployments 2.0" in text
    assert "meridian_placement_failing_organizations 0.0" in text
    assert "meridian_placement_objective_usd_per_h" in text
    assert "meridian_placement_gap_ratio" not in text, "no bound is known"


def test_a_gap_is_told_by_a_bound_that_was_proven_for_the_plan(world: FleetWorld, client: Client) -> None:
    """Its own, or that of a full solve that began since; never that of the world as it was before."""
    plan = PlacementPlan.objects.get()
    cost = plan.objective_micro_usd_per_h
    assert cost is not None
    before, after = plan.created_at - timedelta(seconds=1), plan.created_at + timedelta(seconds=1)
    PlacementClock.objects.update(lower_bound_micro_usd_per_h=cost // 2, full_solved_at=before)
    text = client.get("/metrics").content.decode()
    assert "meridian_placement_gap_ratio" not in text
    assert "meridian_placement_lower_bound_usd_per_h 0.0" in text
    PlacementClock.objects.update(full_solved_at=after)
    assert "meridian_placement_gap_ratio 1.0" in client.get("/metrics").content.decode()
    PlacementPlan.objects.update(lower_bound_micro_usd_per_h=cost)
    assert "meridian_placement_gap_ratio 0.0" in client.get("/metrics").content.decode()


def test_neither_solve_runs_inside_a_transaction(world: FleetWorld) -> None:
    """No lock waits for a solver."""
    with transaction.atomic():
        placements_improve()
    assert "inside a transaction" in told("PlacementFailed")[0]
