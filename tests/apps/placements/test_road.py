"""From a wish to assignments: load, decide, apply, while the world moves."""

import math
from datetime import timedelta
from threading import Thread
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.services import project_change
from apps.agents.models import AgentSession, ClusterTable, ClusterTableEntry, Replica, TableKind
from apps.agents.services import agents_reconcile, tables_reconcile
from apps.api.problems import Problem
from apps.deployments.models import Deployment, DeploymentCondition
from apps.deployments.services import (
    deployment_create,
    deployment_delete,
    deployment_observe,
    deployment_patch,
)
from apps.deployments.tasks import deployments_reconcile
from apps.fleet.models import Cluster, GpuPool
from apps.fleet.services import (
    cluster_delete,
    cluster_patch,
    latency_set,
    network_price_set,
    pool_delete,
    pool_patch,
)
from apps.placements.models import Assignment, PlacementClock, PlacementPlan
from apps.placements.services import (
    placement_apply,
    placement_decide,
    placement_load,
    placement_request,
    placements_solve,
)
from apps.placements.tasks import placements_reconcile
from apps.placements.tasks import placements_solve as placements_solve_task
from apps.telemetry.models import Event
from controlplane.placement import NetworkPrice
from tests.support.fleet_world import FleetWorld, fleet_world, model_version, replica_reported
from tests.support.waiting import eventually
from workloadplane.protocol.routing import Route

pytestmark = pytest.mark.django_db(transaction=True)

#: Weights that no GPU of the world holds.
HUGE_BYTES = 10**12


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world()


def conditions(deployment: Deployment) -> dict[str, tuple[bool, str]]:
    rows = DeploymentCondition.objects.filter(deployment=deployment)
    return {row.type: (row.status, row.reason) for row in rows}


def places(name: str = "chat") -> dict[str, tuple[int, int]]:
    """cluster -> (min, max) of what is in force."""
    rows = Assignment.objects.filter(deployment__name=name, ended_at=None, draining=False, leaving=False)
    return {
        row.pool.cluster.name: (row.min_replicas, row.max_replicas)
        for row in rows.select_related("pool__cluster")
    }


def routes_to(deployment: Deployment) -> bool:
    """Whether any gateway takes requests for it."""
    return ClusterTableEntry.objects.filter(table__kind=TableKind.ROUTING, key=str(deployment.pk)).exists()


def route_of(deployment: Deployment) -> Any:
    """What gateways are told of it."""
    entry = ClusterTableEntry.objects.filter(table__kind=TableKind.ROUTING, key=str(deployment.pk)).first()
    assert entry is not None
    return msgspec.json.decode(bytes(entry.payload), type=Route)


def tables_of(world: FleetWorld) -> dict[tuple[str, str], int]:
    rows = ClusterTable.objects.filter(cluster__organization=world.organization)
    return {(row.cluster.name, row.kind): row.generation for row in rows.select_related("cluster")}


def test_a_wish_becomes_an_assignment(world: FleetWorld) -> None:
    """Created, solved, placed in the cheapest cluster, and told so."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    assert places() == {}
    assert placements_solve(organization_id=world.organization.pk) == 1
    assert places() == {"us-east": (1, 1)}
    assert conditions(deployment)["Placed"] == (True, "Placed")
    clock = PlacementClock.objects.get()
    assert (clock.wanted, clock.solved, clock.plan_generation) == (1, 1, 1)
    assert PlacementPlan.objects.get().micro_usd_per_h == 1_000_000


def outgoing(name: str = "chat") -> set[tuple[str, int, str]]:
    """(cluster, revision, how) of what is on its way out."""
    rows = Assignment.objects.filter(deployment__name=name, ended_at=None).select_related(
        "pool__cluster", "revision"
    )
    return {
        (row.pool.cluster.name, row.revision.number, "draining" if row.draining else "leaving")
        for row in rows
        if row.draining or row.leaving
    }


def assignment(name: str = "chat", **fields) -> Assignment:
    return Assignment.objects.select_related("pool__cluster").get(
        deployment__name=name, ended_at=None, **fields
    )


def solve(world: FleetWorld) -> int:
    return placements_solve(organization_id=world.organization.pk)


def clock() -> tuple[int, int]:
    row = PlacementClock.objects.get()
    return row.wanted, row.solved


def test_solving_twice_or_late_changes_nothing(world: FleetWorld) -> None:
    """The task may ring again: nothing is behind, no plan is made, no table changes."""
    deployment_create(actor=world.actor, document=world.document())
    solve(world)
    before = (Assignment.objects.get().pk, PlacementPlan.objects.count(), _table_generations())
    assert solve(world) == 0
    placements_solve_task(str(world.organization.pk))
    placements_reconcile()
    placements_reconcile()
    assert (Assignment.objects.get().pk, PlacementPlan.objects.count(), _table_generations()) == before


def test_a_world_that_changes_nothing_makes_no_plan(world: FleetWorld) -> None:
    """A price that moves nobody is seen, and stored nowhere."""
    deployment_create(actor=world.actor, document=world.document())
    solve(world)
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], price_micro_usd_per_h=9_000_000)
    assert solve(world) == 1
    assert PlacementPlan.objects.count() == 1
    assert clock() == (2, 2)


def test_the_tables_of_the_agents_follow_the_plan(world: FleetWorld) -> None:
    """What is adopted is compiled in the same transaction; a cluster that got nothing keeps its generation."""
    deployment_create(actor=world.actor, document=world.document())
    solve(world)
    before = _table_generations()
    deployment_create(actor=world.actor, document=world.document("second"))
    solve(world)
    after = _table_generations()
    assert after["us-east", "desired"] == before["us-east", "desired"] + 1
    assert after["eu-west", "desired"] == before["eu-west", "desired"]
    assert after["eu-west", "routing"] == before["eu-west", "routing"] + 1


def _table_generations() -> dict[tuple[str, str], int]:
    rows = ClusterTable.objects.values_list("cluster__name", "kind", "generation")
    return {(name, kind): generation for name, kind, generation in rows}


def test_what_moved_between_decide_and_apply_is_solved_again_and_the_rest_adopted(world: FleetWorld) -> None:
    """One of two deployments changes after the plan was made: the other's part holds, the clock stays behind."""
    changed = deployment_create(actor=world.actor, document=world.document("changed"))
    deployment_create(actor=world.actor, document=world.document("untouched"))
    decision = placement_decide(
        problem=placement_load(organization_id=world.organization.pk, now=timezone.now())
    )
    deployment_patch(actor=world.actor, deployment=changed, changes={"residency": ["jp"]})
    adoption = placement_apply(decision=decision)
    assert adoption.stale == {changed.pk}
    assert places("changed") == {}
    assert places("untouched") == {"us-east": (1, 1)}
    assert clock() == (3, 2)
    assert solve(world) == 1
    assert places("changed") == {"ap-northeast": (1, 1)}
    assert clock() == (3, 3)


@pytest.mark.parametrize("change", ["pool", "cluster", "deletion"])
def test_a_pool_a_cluster_or_an_end_that_came_between_is_respected(world: FleetWorld, change: str) -> None:
    """Capacity that shrank, a cluster that closed and a deployment that was deleted void what rested on them."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    decision = placement_decide(
        problem=placement_load(organization_id=world.organization.pk, now=timezone.now())
    )
    if change == "pool":
        pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
    elif change == "cluster":
        cluster_patch(actor=world.actor, cluster=world.clusters["us-east"], schedulable=False)
    else:
        deployment_delete(actor=world.actor, deployment=deployment)
    assert placement_apply(decision=decision).adopted == frozenset()
    solve(world)
    assert places() == ({} if change == "deletion" else {"eu-west": (1, 1)})


def test_room_that_another_did_not_leave_is_not_given_away(world: FleetWorld) -> None:
    """The plan moves one deployment out and another in; the mover changes its mind, so the other must wait."""
    for name, pool in world.pools.items():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=1 if name == "eu-west" else 0)
    mover = deployment_create(actor=world.actor, document=world.document("mover"))
    solve(world)
    assert places("mover") == {"eu-west": (1, 1)}
    pool_patch(actor=world.actor, pool=world.pools["ap-northeast"], capacity_instances=1)
    deployment_patch(actor=world.actor, deployment=mover, changes={"residency": ["jp"]})
    deployment_create(actor=world.actor, document=world.document("waiter", residency=["eu"]))
    decision = placement_decide(
        problem=placement_load(organization_id=world.organization.pk, now=timezone.now())
    )
    deployment_patch(actor=world.actor, deployment=mover, changes={"residency": ["eu"]})
    waiter = Deployment.objects.get(name="waiter")
    assert placement_apply(decision=decision).stale == {mover.pk, waiter.pk}
    solve(world)
    assert (places("mover"), places("waiter")) == ({"eu-west": (1, 1)}, {})


def test_two_solvers_at_once_never_adopt_twice(world: FleetWorld) -> None:
    """A decision made beside another that was adopted first is thrown away whole."""
    deployment_create(actor=world.actor, document=world.document())
    first = placement_decide(
        problem=placement_load(organization_id=world.organization.pk, now=timezone.now())
    )
    second = placement_decide(
        problem=placement_load(organization_id=world.organization.pk, now=timezone.now())
    )
    assert placement_apply(decision=first).adopted
    assert not placement_apply(decision=second).adopted
    solve(world)
    assert Assignment.objects.count() == 1
    wanted, solved = clock()
    assert wanted == solved


def test_only_one_solves_and_nothing_falls_between(world: FleetWorld) -> None:
    """While another session holds the lock a solver leaves at once; afterwards the wish is still there."""
    deployment_create(actor=world.actor, document=world.document())
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7302, hashtext(%s))", [str(world.organization.pk)])
    try:
        assert solve(world) == 0
        assert places() == {}
    finally:
        other.close()
    eventually(lambda: placements_reconcile() or places(), what="the reconciliation")
    assert places() == {"us-east": (1, 1)}


def test_two_that_race_for_the_last_gpu_end_as_one_placed_and_one_refusal(world: FleetWorld) -> None:
    """Created at the same moment from two threads, solved by both: one runs, the other is told what it needs."""
    for name, pool in world.pools.items():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=1 if name == "eu-west" else 0)

    def race(name: str) -> None:
        try:
            deployment_create(actor=world.actor, document=world.document(name))
            solve(world)
        finally:
            connection.close()

    threads = [Thread(target=race, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    placements_reconcile()
    said = {d.name: conditions(d)["Placed"] for d in Deployment.objects.all()}
    assert sorted(said.values()) == [(False, "PoolCapacity"), (True, "Placed")]
    assert Assignment.objects.filter(ended_at=None).count() == 1
    loser = DeploymentCondition.objects.get(type="Placed", status=False)
    assert "add 1 h100-1x" in loser.refusals[0]["remedy"]
    assert Event.objects.filter(
        deployment_id=loser.deployment_id, reason="NotPlaced", severity="warning"
    ).exists()


def test_deciding_inside_a_transaction_is_refused(world: FleetWorld) -> None:
    """No lock waits for a solver."""
    problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
    with pytest.raises(RuntimeError, match="inside a transaction"), transaction.atomic():
        placement_decide(problem=problem)


def test_a_snapshot_costs_the_same_queries_however_large(world: FleetWorld) -> None:
    """Loading is so many queries for one deployment or for four."""
    counts = []
    for names in (("a",), ("b", "c", "d")):
        for name in names:
            deployment_create(actor=world.actor, document=world.document(name))
        solve(world)
        with CaptureQueriesContext(connection) as queries:
            placement_load(organization_id=world.organization.pk, now=timezone.now())
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 20


def test_a_new_revision_takes_over_where_the_old_one_runs(world: FleetWorld) -> None:
    """New assignment beside the old, which drains; it ends when its last replica has, and the new one is ready."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    old = replica_reported(assignment())
    deployment_observe(deployment_ids=[deployment.pk])
    assert conditions(deployment)["Ready"] == (True, "Serving")
    model_version(world.model, "2")
    deployment_patch(actor=world.actor, deployment=deployment, changes={"model": "tiny-llama@2"})
    solve(world)
    assert outgoing() == {("us-east", 1, "draining")}
    assert conditions(deployment)["Ready"] == (True, "ServingPrevious")
    ready = DeploymentCondition.objects.get(deployment=deployment, type="Ready")
    assert ready.observed_generation == 1
    assert conditions(deployment)["Degraded"][0] is False
    replica_reported(assignment(draining=False))
    Replica.objects.filter(pk=old.pk).update(state="stopped", gone_at=timezone.now())
    deployment_observe(deployment_ids=[deployment.pk])
    assert outgoing() == set()
    ready.refresh_from_db()
    assert (ready.reason, ready.observed_generation) == ("Serving", 2)
    assert conditions(deployment)["Progressing"] == (False, "Settled")


def test_a_move_to_another_cluster_breaks_nothing_before_it_is_made(world: FleetWorld) -> None:
    """The old place serves until the new one is ready, and only then drains."""
    deployment = deployment_create(actor=world.actor, document=world.document(residency=["us", "jp"]))
    solve(world)
    old = replica_reported(assignment())
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
    solve(world)
    assert places() == {"ap-northeast": (1, 1)}
    assert outgoing() == {("us-east", 1, "leaving")}
    deployments_reconcile()
    assert outgoing() == {("us-east", 1, "leaving")}
    replica_reported(assignment(leaving=False))
    deployments_reconcile()
    assert outgoing() == {("us-east", 1, "draining")}
    Replica.objects.filter(pk=old.pk).update(gone_at=timezone.now())
    deployments_reconcile()
    deployments_reconcile()
    assert outgoing() == set()
    assert conditions(deployment)["Ready"] == (True, "Serving")


def test_residency_never_waits_for_a_successor(world: FleetWorld) -> None:
    """Where it may no longer run it drains at once, successor or not."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    replica_reported(assignment())
    deployment_patch(actor=world.actor, deployment=deployment, changes={"residency": ["eu"]})
    solve(world)
    assert outgoing() == {("us-east", 1, "draining")}
    assert places() == {"eu-west": (1, 1)}


def test_a_deletion_drains_and_then_frees_room_and_name(world: FleetWorld) -> None:
    """It takes nothing new, waits for its last replica, and lets the next one in."""
    for name, pool in world.pools.items():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=1 if name == "eu-west" else 0)
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    running = replica_reported(assignment())
    assert routes_to(deployment)
    deployment_create(actor=world.actor, document=world.document("next"))
    solve(world)
    deployment_delete(actor=world.actor, deployment=deployment)
    solve(world)
    assert outgoing() == {("eu-west", 1, "draining")}
    assert not routes_to(deployment), "a gateway would hold new requests until the last replica has ended"
    assert conditions(deployment)["Progressing"] == (True, "Draining")
    assert places("next") == {}
    Replica.objects.filter(pk=running.pk).update(state="stopped", gone_at=timezone.now())
    deployments_reconcile()
    deployments_reconcile()
    deployment.refresh_from_db()
    assert deployment.deleted_at is not None
    placements_reconcile()
    assert places("next") == {"eu-west": (1, 1)}
    deployment_create(actor=world.actor, document=world.document())


def test_a_cluster_that_comes_or_goes_is_noticed(world: FleetWorld) -> None:
    """No agent, no placement; once it is connected the reconciliation places what waited."""
    AgentSession.objects.update(lease_expires_at=timezone.now() - timedelta(hours=1))
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    assert conditions(deployment)["Placed"] == (False, "ClusterClosed")
    AgentSession.objects.filter(cluster__name="ap-northeast").update(
        lease_expires_at=timezone.now() + timedelta(hours=1)
    )
    agents_reconcile(now=timezone.now())
    placements_reconcile()
    assert places() == {"ap-northeast": (1, 1)}
    AgentSession.objects.update(lease_expires_at=timezone.now() - timedelta(hours=1))
    agents_reconcile(now=timezone.now())
    placements_reconcile()
    assert places() == {"ap-northeast": (1, 1)}
    assert conditions(deployment)["Placed"] == (True, "Placed")


def test_a_wish_that_fits_nowhere_keeps_what_runs(world: FleetWorld) -> None:
    """Weights too large for any GPU are refused with their reason; what ran before goes on, and Degraded says so."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    replica_reported(assignment())
    model_version(world.model, "2", size_bytes=HUGE_BYTES)
    deployment_patch(actor=world.actor, deployment=deployment, changes={"model": "tiny-llama@2"})
    solve(world)
    assert places() == {"us-east": (1, 1)}
    said = conditions(deployment)
    assert said["Placed"] == (False, "GpuMemory")
    assert said["Ready"] == (True, "Serving")
    assert said["Degraded"] == (True, "NotPlacedAsWanted")


def test_a_wish_that_fits_in_part_gets_that_part(world: FleetWorld) -> None:
    """Of 99 replicas there is room for 12: they run, and the plan says what is lacking."""
    document = world.document(autoscaling={"min_replicas": 99, "max_replicas": 99})
    deployment_create(actor=world.actor, document=document)
    solve(world)
    assert places() == dict.fromkeys(world.pools, (4, 4))
    (entry,) = PlacementPlan.objects.get().plan["deployments"]
    assert [wish["rule"] for wish in entry["relaxed"]] == ["replicas"]


def test_gateways_are_told_of_what_is_placed_nowhere_and_why(world: FleetWorld) -> None:
    """A route without revisions that carries the refusal; once it fits, an ordinary one."""
    model_version(world.model, "2", size_bytes=HUGE_BYTES)
    deployment = deployment_create(actor=world.actor, document=world.document(model="tiny-llama@2"))
    tables_reconcile()
    assert route_of(deployment).refusal.rule == "placing"
    solve(world)
    told = route_of(deployment)
    assert (told.placed, told.revisions, told.refusal.rule) == (False, (), "gpu_memory")
    deployment_patch(actor=world.actor, deployment=deployment, changes={"model": "tiny-llama@1"})
    solve(world)
    told = route_of(deployment)
    assert (told.placed, told.refusal, len(told.revisions)) == (True, None, 1)


def test_one_organization_that_cannot_be_compiled_stops_no_other(world: FleetWorld) -> None:
    """What is broken there is logged; the others' tables are made all the same."""
    other = fleet_world("other")
    broken, sound = sorted([world, other], key=lambda each: each.organization.pk)
    for each in (broken, sound):
        deployment_create(actor=each.actor, document=each.document())
        solve(each)
    ClusterTable.objects.filter(cluster__organization=broken.organization).update(payload=b"no manifest")
    before = tables_of(sound)
    for each in (broken, sound):
        Cluster.objects.filter(organization=each.organization).update(gateway_url="http://127.0.0.1:1")
    tables_reconcile()
    assert tables_of(sound) != before


def test_one_deployment_that_cannot_be_judged_stops_no_other(world: FleetWorld) -> None:
    """What is broken there is logged; the others are looked at all the same."""
    broken = deployment_create(actor=world.actor, document=world.document("broken"))
    sound = deployment_create(actor=world.actor, document=world.document("sound"))
    solve(world)
    DeploymentCondition.objects.filter(deployment=broken, type="Placed").update(refusals=["no refusal"])
    for row in Assignment.objects.all():
        replica_reported(row)
    deployments_reconcile()
    assert conditions(sound)["Ready"] == (True, "Serving")
    assert conditions(broken)["Ready"] == (False, "TooFewReady")


def test_a_wish_that_never_fitted_is_degraded_too(world: FleetWorld) -> None:
    """Being decided it is not ready yet; refused it is below its minimum, and Degraded holds the refusal."""
    model_version(world.model, "2", size_bytes=HUGE_BYTES)
    deployment = deployment_create(actor=world.actor, document=world.document(model="tiny-llama@2"))
    assert conditions(deployment)["Ready"] == (False, "Placing")
    solve(world)
    said = conditions(deployment)
    assert (said["Ready"], said["Degraded"]) == ((False, "NotPlaced"), (True, "NotPlacedAsWanted"))
    degraded = DeploymentCondition.objects.get(deployment=deployment, type="Degraded")
    assert degraded.refusals[0]["rule"] == "gpu_memory"


def test_a_replica_that_is_lost_degrades_and_its_return_heals(world: FleetWorld) -> None:
    """Below the promised minimum after it was ready: Degraded until it is back."""
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=1)
    deployment = deployment_create(
        actor=world.actor, document=world.document(autoscaling={"min_replicas": 2, "max_replicas": 2})
    )
    solve(world)
    first, _ = (replica_reported(row) for row in Assignment.objects.select_related("pool__cluster"))
    deployment_observe(deployment_ids=[deployment.pk])
    assert conditions(deployment)["Degraded"] == (False, "AsPromised")
    Replica.objects.filter(pk=first.pk).update(state="failed")
    deployment_observe(deployment_ids=[deployment.pk])
    deployment_observe(deployment_ids=[deployment.pk])
    said = conditions(deployment)
    assert (said["Ready"], said["Degraded"]) == ((False, "TooFewReady"), (True, "BelowMinimum"))
    Replica.objects.filter(pk=first.pk).update(state="ready")
    deployments_reconcile()
    said = conditions(deployment)
    assert (said["Ready"], said["Degraded"]) == ((True, "Serving"), (False, "AsPromised"))


def test_scale_to_zero_is_ready_while_it_sleeps(world: FleetWorld) -> None:
    """Nothing runs and nothing is missing."""
    deployment = deployment_create(
        actor=world.actor, document=world.document(autoscaling={"min_replicas": 0, "max_replicas": 2})
    )
    solve(world)
    assert places() == {"us-east": (0, 2)}
    said = conditions(deployment)
    assert (said["Ready"], said["Progressing"]) == ((True, "ScaledToZero"), (False, "Settled"))


def test_a_dead_broker_never_refuses_a_wish(world: FleetWorld) -> None:
    """The doorbell is a hint: with nobody to ring, the row is there and the reconciliation finds it."""
    deployment_create(actor=world.actor, document=world.document())
    assert clock() == (1, 0)
    placements_reconcile()
    assert places() == {"us-east": (1, 1)}


def test_two_may_change_places(world: FleetWorld) -> None:
    """Each takes the room that the other leaves, in one plan and one round."""
    for name, pool in world.pools.items():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=0 if name == "ap-northeast" else 1)
    one = deployment_create(actor=world.actor, document=world.document("one", residency=["eu"]))
    two = deployment_create(actor=world.actor, document=world.document("two", residency=["us"]))
    solve(world)
    deployment_patch(actor=world.actor, deployment=one, changes={"residency": ["us"]})
    deployment_patch(actor=world.actor, deployment=two, changes={"residency": ["eu"]})
    solve(world)
    assert (places("one"), places("two")) == ({"us-east": (1, 1)}, {"eu-west": (1, 1)})


def test_room_given_up_in_a_plan_is_solved_for_at_once(world: FleetWorld) -> None:
    """An assignment that never started ends with the plan that moves it; who waited for its room gets it."""
    for name, pool in world.pools.items():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=0 if name == "us-east" else 1)
    mover = deployment_create(actor=world.actor, document=world.document("mover", residency=["eu"]))
    solve(world)
    deployment_create(actor=world.actor, document=world.document("waiter", residency=["eu"]))
    solve(world)
    assert places("waiter") == {}
    deployment_patch(actor=world.actor, deployment=mover, changes={"residency": ["jp"]})
    solve(world)
    assert (places("mover"), places("waiter")) == ({"ap-northeast": (1, 1)}, {"eu-west": (1, 1)})
    assert outgoing("mover") == set()


def test_beside_a_hand_over_there_is_room_for_another(world: FleetWorld) -> None:
    """Predecessor and successor share their GPUs, so that a third is placed meanwhile and nothing is solved in vain."""
    deployment = deployment_create(actor=world.actor, document=world.document(residency=["eu"]))
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], capacity_instances=2)
    solve(world)
    replica_reported(assignment())
    model_version(world.model, "2")
    deployment_patch(actor=world.actor, deployment=deployment, changes={"model": "tiny-llama@2"})
    solve(world)
    deployment_create(actor=world.actor, document=world.document("third", residency=["eu"]))
    assert solve(world) == 1
    assert places("third") == {"eu-west": (1, 1)}
    assert outgoing() == {("eu-west", 1, "draining")}


def test_old_plans_are_forgotten_and_those_in_force_are_not(world: FleetWorld) -> None:
    """A week later only plans that made an assignment, and the newest, are left."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    solve(world)
    for priority in (1, 2):
        deployment_patch(actor=world.actor, deployment=deployment, changes={"priority": priority})
        solve(world)
    assert list(
        PlacementPlan.objects.values_list("plan_generation", flat=True).order_by("plan_generation")
    ) == [1, 2, 3]
    PlacementPlan.objects.update(created_at=timezone.now() - timedelta(days=8))
    placements_reconcile()
    assert list(
        PlacementPlan.objects.values_list("plan_generation", flat=True).order_by("plan_generation")
    ) == [1, 3]


def test_an_organization_that_cannot_be_solved_stops_no_other() -> None:
    """Rows that no solver takes cost their own organization its plan, until they are mended; others are reconciled."""
    first, second = sorted(
        (fleet_world("first"), fleet_world("second")), key=lambda each: each.organization.pk
    )
    for world in (first, second):
        deployment_create(actor=world.actor, document=world.document())
    GpuPool.objects.filter(cluster__organization=first.organization).update(hazard_per_h=math.inf)
    placements_reconcile()
    placed = Assignment.objects.values_list("deployment__project__organization__name", flat=True)
    assert list(placed) == [second.organization.name]
    GpuPool.objects.filter(cluster__organization=first.organization).update(hazard_per_h=0.0)
    placements_reconcile()
    assert Assignment.objects.count() == 2


@pytest.mark.parametrize("what", ["pool", "cluster"])
def test_an_operator_and_an_agent_do_not_wait_for_each_other(world: FleetWorld, what: str) -> None:
    """A sync that stores a replica and asks for a plan commits while its pool or cluster is being changed."""
    deployment_create(actor=world.actor, document=world.document())
    solve(world)
    placed = assignment()
    refused: list[BaseException] = []

    def change() -> None:
        try:
            if what == "pool":
                pool_patch(actor=world.actor, pool=placed.pool, capacity_instances=3)
            else:
                cluster_patch(actor=world.actor, cluster=placed.pool.cluster, schedulable=False)
        except BaseException as error:
            refused.append(error)
        finally:
            connection.close()

    operator = Thread(target=change)
    with transaction.atomic():
        replica_reported(placed)
        placement_request(organization_id=world.organization.pk)
        operator.start()
        eventually(_somebody_waits, what="the operator waits for the clock")
    operator.join(30)
    assert refused == []
    assert Replica.objects.count() == 1


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


def test_a_change_of_what_was_just_deleted_is_answered_with_not_found(world: FleetWorld) -> None:
    """Two operators at once: the slower one is told, and nothing breaks."""
    pool, cluster = world.pools["ap-northeast"], world.clusters["ap-northeast"]
    pool_delete(actor=world.actor, pool=pool)
    AgentSession.objects.filter(cluster=cluster).delete()
    cluster_delete(actor=world.actor, cluster=cluster)
    for change in (
        lambda: pool_patch(actor=world.actor, pool=pool, schedulable=False),
        lambda: pool_delete(actor=world.actor, pool=pool),
        lambda: cluster_patch(actor=world.actor, cluster=cluster, schedulable=False),
        lambda: cluster_delete(actor=world.actor, cluster=cluster),
    ):
        with pytest.raises(Problem) as refused:
            change()
        assert refused.value.status == 404


def test_all_that_the_fleet_and_a_project_say_of_money_and_places_reaches_the_problem(
    world: FleetWorld,
) -> None:
    """Budget, obtainability, what sending costs, providers; where no distance is recorded, the gateways' guess."""
    network_price_set(actor=world.actor, origin="eu-west-1", target="us-east4", micro_usd_per_gib=90_000)
    latency_set(actor=world.actor, origin="eu-west-1", target="us-east4", rtt_ms=75)
    pool_patch(actor=world.actor, pool=world.pools["eu-west"], obtainability=0.5)
    project_change(actor=world.actor, project=world.project, budget_micro_usd_per_h=7_000_000)
    deployment_create(
        actor=world.actor, document=world.document(providers_allowed=["gcp"], providers_denied=["aws"])
    )
    problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
    assert [(row.project_id, row.micro_usd_per_h) for row in problem.budgets] == [
        (str(world.project.pk), 7_000_000)
    ]
    assert [vars_of(row) for row in problem.network_prices] == [("eu-west-1", "us-east4", 90_000)]
    rtt_ms = {(row.origin_region, row.target_region): row.rtt_ms for row in problem.latencies}
    assert rtt_ms["eu-west-1", "us-east4"] == 75
    assert rtt_ms["us-east4", "eu-west-1"] == 1.0, "not recorded: the shortest that gateways reckon with"
    assert len(rtt_ms) == 6
    shares = {problem.cluster_by_id[row.cluster_id].name: row.obtainability for row in problem.pools}
    assert shares == {"eu-west": 0.5, "us-east": 1.0, "ap-northeast": 1.0}
    wanted = problem.deployments[0]
    assert (wanted.providers_allowed, wanted.providers_denied) == (("gcp",), ("aws",))
    solve(world)
    assert places() == {"us-east": (1, 1)}


def vars_of(row: NetworkPrice) -> tuple[str, str, int]:
    return row.origin_region, row.target_region, row.micro_usd_per_gib
