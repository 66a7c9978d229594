"""From a wish to assignments: load, decide, apply, while the world moves."""

import pytest

from apps.deployments.models import Deployment, DeploymentCondition
from apps.deployments.services import deployment_create
from apps.placements.models import Assignment, PlacementClock, PlacementPlan
from apps.placements.services import placements_solve
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)


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
