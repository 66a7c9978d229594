"""Hazard and obtainability that are learned from what was recorded, and that plans reckon with."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.agents.models import ReplicaInterval
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.drains.models import Drain
from apps.drains.tasks import notices_take
from apps.fleet.models import GpuPool
from apps.placements.models import PlacementClock
from apps.placements.services import hazards_learn, placement_load
from apps.telemetry.models import Event
from tests.apps.drains.test_notices import DEADLINE, tells
from tests.support.fleet_world import FleetWorld, fleet_world
from workloadplane.protocol.observed import Notice

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    """Every pool is spot, with a hazard of 0.05 stated."""
    world = fleet_world()
    GpuPool.objects.update(procurement="spot", hazard_per_h=0.05)
    return world


@pytest.fixture
def chat(world: FleetWorld) -> Deployment:
    return deployment_create(actor=world.actor, document=world.document())


def held(chat: Deployment, pool: GpuPool, since: datetime, until: datetime | None = None) -> None:
    assert chat.current_revision is not None
    ReplicaInterval.objects.create(
        replica_id=uuid4(), deployment=chat, revision=chat.current_revision, pool=pool, gpus=1,
        started_at=since, ended_at=until,
    )  # fmt: skip


def planned(world: FleetWorld, now: datetime) -> dict[str, float]:
    problem = placement_load(organization_id=world.organization.pk, now=now)
    names = {str(pool.pk): name for name, pool in world.pools.items()}
    return {names[pool.pool_id]: pool.hazard_per_h for pool in problem.pools}


def test_calm_days_lower_the_hazard_that_plans_reckon_with(world: FleetWorld, chat: Deployment) -> None:
    """Only where something ran; told once; the stated one stays what it was."""
    now = timezone.now()
    held(chat, world.pools["us-east"], now - timedelta(days=4))
    before = PlacementClock.objects.get().wanted
    assert hazards_learn(now=now) == 1
    believed = planned(world, now)
    assert believed["us-east"] < 0.03
    assert believed["eu-west"] == 0.05
    assert PlacementClock.objects.get().wanted > before
    pool = GpuPool.objects.get(pk=world.pools["us-east"].pk)
    assert (pool.hazard_per_h, pool.generation) == (0.05, world.pools["us-east"].generation + 1)
    assert Event.objects.filter(reason="HazardLearned").count() == 1
    assert hazards_learn(now=now + timedelta(minutes=5)) == 0


def test_a_notice_raises_it_also_when_the_node_is_forgotten(world: FleetWorld, chat: Deployment) -> None:
    """What its provider takes back counts for the pool, for days."""
    now = timezone.now()
    pool = world.pools["us-east"]
    held(chat, pool, now - timedelta(hours=10))
    tells(
        world, Notice(pool=pool.name, node=None, deadline_at=DEADLINE.timestamp(), reason="t", provider="aws")
    )
    notices_take()
    drain = Drain.objects.get()
    assert drain.pool_id == pool.pk
    tells(world)
    notices_take()
    after = timezone.now() + timedelta(hours=1)
    hazards_learn(now=after)
    assert 0.05 < planned(world, after)["us-east"] < 0.1


def test_an_organization_that_cannot_be_read_keeps_no_other_waiting(
    world: FleetWorld, chat: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the rest goes on."""
    other = fleet_world("other")
    GpuPool.objects.update(procurement="spot", hazard_per_h=0.05)
    now = timezone.now()
    held(chat, world.pools["us-east"], now - timedelta(days=4))
    from apps.placements.services import hazards_learn as module_function

    inner = module_function.__globals__["_refresh"]

    def breaks(organization_id: object, moment: datetime) -> int:
        if organization_id == other.organization.pk:
            raise RuntimeError
        return int(inner(organization_id, moment))

    monkeypatch.setitem(module_function.__globals__, "_refresh", breaks)
    assert hazards_learn(now=now) == 1
