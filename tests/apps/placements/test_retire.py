"""A cluster that is not coming back is given up, once nothing of it can serve by a lease any more."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.agents.leases import SERVING_LEASE_S
from apps.agents.models import AgentSession, ClusterTable, EnrolmentToken, Replica, ReplicaInterval
from apps.agents.services import enrolment_token_create
from apps.api.models import AuditEvent
from apps.api.problems import Problem
from apps.deployments.services import deployment_create, deployment_delete
from apps.fleet.models import Cluster
from apps.fleet.services import cluster_patch, cluster_retire
from apps.fleet.tasks import clusters_retired_settle
from apps.placements.models import Assignment
from apps.placements.tasks import placements_reconcile
from apps.telemetry.models import Event
from tests.apps.placements.test_handover import moving, serving
from tests.support.fleet_world import FleetWorld, fleet_world, replica_reported

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    made = fleet_world()
    AgentSession.objects.update(last_sync_at=timezone.now())
    return made


def lease_passes(cluster: Cluster) -> None:
    """As if it had been retired so long ago."""
    long_ago = timezone.now() - timedelta(seconds=SERVING_LEASE_S + 1)
    Cluster.objects.filter(pk=cluster.pk).update(retired_at=long_ago)


def test_what_ran_there_is_placed_elsewhere_when_the_lease_is_over(world: FleetWorld) -> None:
    """Fenced at once; its assignments end, its replicas cost nothing more and its capacity is gone, but not sooner."""
    document = world.document(residency=["us", "jp"])
    deployment_create(actor=world.actor, document=document)
    placements_reconcile()
    old = Assignment.objects.get()
    replica = replica_reported(old)
    ReplicaInterval.objects.create(
        replica_id=replica.pk,
        deployment=old.deployment,
        revision=old.revision,
        pool=old.pool,
        gpus=1,
        started_at=replica.started_at,
    )
    cluster = world.clusters["us-east"]
    enrolment_token_create(actor=world.actor, cluster=cluster)

    cluster_retire(actor=world.actor, cluster=cluster)
    assert not AgentSession.objects.filter(cluster=cluster).exists()
    assert not EnrolmentToken.objects.exists()
    clusters_retired_settle()
    placements_reconcile()
    old.refresh_from_db()
    assert old.ended_at is None, "its lease is not over"

    lease_passes(cluster)
    clusters_retired_settle()
    placements_reconcile()
    old.refresh_from_db()
    replica.refresh_from_db()
    assert old.ended_at is not None
    assert (replica.state, replica.reason, replica.gone_at is not None) == ("stopped", "ClusterRetired", True)
    assert ReplicaInterval.objects.get().ended_at is not None
    assert Assignment.objects.get(ended_at=None).pool.cluster.name == "ap-northeast"
    assert cluster.pools.get().capacity_instances == 0
    assert not ClusterTable.objects.filter(cluster=cluster).exists()
    audited = AuditEvent.objects.filter(action__in=["retired", "ended"]).order_by("pk")
    assert [row.action for row in audited] == ["retired", "ended"]
    told = dict(Event.objects.filter(cluster_id=cluster.pk).values_list("reason", "message"))
    assert "ClusterRetired" in told
    assert told["ClusterEnded"] == "us-east: given up are 1 assignment and 1 replica"

    events = Event.objects.count()
    clusters_retired_settle()
    assert Event.objects.count() == events, "there is nothing left to give up"


def test_a_deletion_that_waited_for_it_ends(world: FleetWorld) -> None:
    """Nobody is left to report that the last replica has ended."""
    deployment = deployment_create(actor=world.actor, document=world.document())
    placements_reconcile()
    replica_reported(Assignment.objects.get())
    deployment_delete(actor=world.actor, deployment=deployment)
    cluster_retire(actor=world.actor, cluster=world.clusters["us-east"])
    lease_passes(world.clusters["us-east"])
    clusters_retired_settle()
    deployment.refresh_from_db()
    assert deployment.deleted_at is not None


def test_it_is_for_good(world: FleetWorld) -> None:
    """Retired twice, opened or enrolled again: each is refused with what to do instead."""
    cluster = world.clusters["us-east"]
    cluster_retire(actor=world.actor, cluster=cluster)
    cluster.refresh_from_db()
    for attempt in (
        lambda: cluster_retire(actor=world.actor, cluster=cluster),
        lambda: cluster_patch(actor=world.actor, cluster=cluster, schedulable=True),
        lambda: enrolment_token_create(actor=world.actor, cluster=cluster),
    ):
        with pytest.raises(Problem) as refused:
            attempt()
        assert (refused.value.status, "retired" in refused.value.detail) == (409, True)


def test_a_retired_region_holds_its_successor_up_for_its_lease_and_no_longer(world: FleetWorld) -> None:
    """It may serve by its lease until then: never two regions, and not for ever none."""
    AgentSession.objects.update(last_sync_at=timezone.now() + timedelta(hours=1))
    deployment = moving(world)
    cluster = world.clusters["us-east"]
    cluster_retire(actor=world.actor, cluster=cluster)
    assert serving(deployment, world) is None
    lease_passes(cluster)
    clusters_retired_settle()
    del world.clusters["us-east"]
    assert serving(deployment, world) == "ap-northeast"
    assert Replica.objects.filter(cluster=cluster, gone_at=None).count() == 0
