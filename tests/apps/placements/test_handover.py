"""An ``active_passive`` deployment moves: the tables never let two clusters serve."""

from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from apps.agents.leases import SERVING_LEASE_S
from apps.agents.models import (
    AgentSession,
    ClusterTable,
    ClusterTableEntry,
    Replica,
    TableKind,
    YieldingCluster,
)
from apps.agents.services import SeatWatch, tables_compile
from apps.agents.services.seats_watch import LISTENING
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create, deployment_patch
from apps.deployments.tasks import deployments_reconcile
from apps.fleet.models import Cluster
from apps.fleet.services import pool_patch
from apps.placements.models import Assignment
from apps.placements.tasks import placements_reconcile
from apps.telemetry.models import Event
from tests.support.fleet_world import FleetWorld, fleet_world, replica_reported
from workloadplane.protocol.routing import Route

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    made = fleet_world()
    AgentSession.objects.update(last_sync_at=timezone.now() + timedelta(hours=1))  # all are heard
    return made


def route_of(deployment: Deployment, cluster: Cluster) -> Route:
    entry = ClusterTableEntry.objects.get(
        table__kind=TableKind.ROUTING, table__cluster=cluster, key=str(deployment.pk)
    )
    return msgspec.json.decode(bytes(entry.payload), type=Route)


def serving(deployment: Deployment, world: FleetWorld) -> str | None:
    """Who serves by the newest tables: the first cluster of the weighed revision, the same in all tables."""
    names = {str(cluster.pk): name for name, cluster in world.clusters.items()}
    found = set()
    for cluster in world.clusters.values():
        route = route_of(deployment, cluster)
        firsts = {share.cluster_ids[0] for share in route.revisions if share.cluster_ids}
        assert len(firsts) <= 1, "whichever revision a gateway takes, the same cluster serves"
        assert (route.refusal is None) == bool(firsts), "where nobody serves, gateways can say why"
        found |= firsts or {""}
    assert len(found) == 1
    return names.get(found.pop())


def acknowledge(cluster: Cluster) -> None:
    """All gateways of a cluster have its newest routing table in force, and its agent said so."""
    newest = ClusterTable.objects.get(cluster=cluster, kind=TableKind.ROUTING).generation
    AgentSession.objects.filter(cluster=cluster).update(facts={"gateway_generations": {"routing": newest}})


def moving(world: FleetWorld) -> Deployment:
    """Served in us-east; its successor in ap-northeast has just become ready."""
    document = world.document(posture="active_passive", residency=["us", "jp"])
    deployment = deployment_create(actor=world.actor, document=document)
    placements_reconcile()
    replica_reported(Assignment.objects.get())
    assert serving(deployment, world) == "us-east"
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=0)
    placements_reconcile()
    assert serving(deployment, world) == "us-east", "it serves while its successor warms up"
    replica_reported(Assignment.objects.get(leaving=False))
    deployments_reconcile()
    return deployment


def reasons() -> list[str]:
    return list(
        Event.objects.filter(reason__startswith="Serving").order_by("pk").values_list("reason", flat=True)
    )


def test_the_next_region_waits_for_the_gateways_of_a_live_one(world: FleetWorld) -> None:
    """Nobody serves until the former one's gateways hold the table that says so; that is told, and ends the wait."""
    deployment = moving(world)
    assert serving(deployment, world) is None
    refusal = route_of(deployment, world.clusters["us-east"]).refusal
    assert refusal is not None and refusal.rule == "handing_over" and "us-east" in refusal.value
    waits = Event.objects.get(reason="ServingWaits")
    assert "ap-northeast does not serve it before the gateways of us-east" in waits.message
    SeatWatch().look(0.0)
    assert serving(deployment, world) is None, "it is heard, so only its word counts"
    acknowledge(world.clusters["us-east"])
    SeatWatch().look(0.0)
    assert serving(deployment, world) == "ap-northeast"
    assert reasons() == ["ServingWaits", "ServingMoved"]
    assert not YieldingCluster.objects.exists()


def test_an_older_acknowledgement_does_not_count(world: FleetWorld) -> None:
    """What the gateways held before the move lets the former one serve."""
    deployment = moving(world)
    needed = YieldingCluster.objects.get().generation
    AgentSession.objects.filter(cluster=world.clusters["us-east"]).update(
        facts={"gateway_generations": {"routing": needed - 1}, "held_generations": {"routing": needed}}
    )
    SeatWatch().look(0.0)
    assert serving(deployment, world) is None


def test_a_dead_region_is_waited_for_until_its_lease_is_over(world: FleetWorld) -> None:
    """By what an observer has seen itself: one that begins gives everybody time to be heard."""
    deployment = moving(world)
    watch = SeatWatch()
    over_s = LISTENING.return_s + SERVING_LEASE_S
    for second in range(int(over_s)):
        watch.look(float(second))
    assert serving(deployment, world) is None
    watch.look(over_s)
    assert serving(deployment, world) == "ap-northeast"


def test_a_region_that_is_called_back_serves_at_once(world: FleetWorld) -> None:
    """Nobody else has served meanwhile."""
    deployment = moving(world)
    assert serving(deployment, world) is None
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=4)
    pool_patch(actor=world.actor, pool=world.pools["ap-northeast"], capacity_instances=0)
    placements_reconcile()
    Replica.objects.update(state="ready")
    deployments_reconcile()
    assert serving(deployment, world) == "us-east"


def test_those_that_served_side_by_side_must_all_say_that_they_stopped(world: FleetWorld) -> None:
    """A table of active_active has no lease: a silent cluster keeps the posture's promise from being made."""
    document = world.document(
        autoscaling={"min_replicas": 2, "max_replicas": 4}, survivability="region", residency=["us", "jp"]
    )
    deployment = deployment_create(actor=world.actor, document=document)
    placements_reconcile()
    both = {row.pool.cluster.name for row in Assignment.objects.select_related("pool__cluster")}
    assert both == {"us-east", "ap-northeast"}
    AgentSession.objects.update(last_sync_at=timezone.now() - timedelta(hours=1))
    deployment_patch(
        actor=world.actor,
        deployment=deployment,
        changes={"posture": "active_passive", "survivability": "none"},
    )
    placements_reconcile()
    assert serving(deployment, world) is None
    SeatWatch().look(0.0)
    assert serving(deployment, world) is None
    for name in both:
        acknowledge(world.clusters[name])
    SeatWatch().look(0.0)
    assert serving(deployment, world) is not None


def test_compiling_again_changes_nothing(world: FleetWorld) -> None:
    """Who waits goes on waiting for the same generation."""
    deployment = moving(world)
    before = list(YieldingCluster.objects.values("cluster_id", "generation"))
    tables_compile(cluster_ids=[cluster.pk for cluster in world.clusters.values()])
    assert list(YieldingCluster.objects.values("cluster_id", "generation")) == before
    assert serving(deployment, world) is None
