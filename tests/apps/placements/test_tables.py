"""What is compiled for some deployments alone is what a compile of everything would have made of all."""

import pytest
from django.utils import timezone

from apps.agents.models import ClusterTable, TableKind
from apps.agents.services import organization_tables_compile
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create, deployment_delete, deployment_patch
from apps.fleet.services import pool_patch
from apps.placements.services import placements_reconcile
from tests.apps.placements.moves import adopt, agents_work, allocation
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def test_what_is_compiled_of_some_is_as_if_all_were(world: FleetWorld) -> None:
    """Placed, refused, changed, moved, handed over and deleted: the tables need nothing else."""
    first = deployment_create(actor=world.actor, document=world.document("first"))
    second = deployment_create(actor=world.actor, document=world.document("second"))
    placements_reconcile(now=timezone.now())
    assert_whole(world, routes={first, second})
    deployment_patch(actor=world.actor, deployment=first, changes={"autoscaling": {"max_replicas": 5}})
    placements_reconcile(now=timezone.now())
    assert_whole(world, routes={first, second})
    adopt(world, first, allocation(world.pools["us-east"], first, 1))
    agents_work()
    assert_whole(world, routes={first, second})
    agents_work()
    assert_whole(world, routes={first, second})
    deployment_delete(actor=world.actor, deployment=second)
    agents_work()
    assert_whole(world, routes={first})
    for pool in world.pools.values():
        pool_patch(actor=world.actor, pool=pool, capacity_instances=0)
    third = deployment_create(actor=world.actor, document=world.document("third"))
    placements_reconcile(now=timezone.now())
    assert_whole(world, routes={first, third})


def assert_whole(world: FleetWorld, *, routes: set[Deployment]) -> None:
    """Another compile, of everything, changes nothing; every cluster has these routes."""
    before = tables()
    organization_tables_compile(organization_id=world.organization.pk)
    assert tables() == before
    for cluster in world.clusters.values():
        table = ClusterTable.objects.get(cluster=cluster, kind=TableKind.ROUTING)
        keys = set(table.entries.values_list("key", flat=True))
        assert keys == {str(deployment.pk) for deployment in routes}


def tables() -> dict[object, tuple[int, bytes]]:
    """Generation and payload of each that says what runs and where requests go."""
    found = ClusterTable.objects.filter(kind__in=(TableKind.DESIRED, TableKind.ROUTING))
    return {(row.cluster_id, row.kind): (row.generation, bytes(row.payload)) for row in found}
