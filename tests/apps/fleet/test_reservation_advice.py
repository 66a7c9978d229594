"""Advice on reservations: from what was in use and what is rented instead."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.agents.models import ReplicaInterval
from apps.deployments.services import deployment_create
from apps.fleet.models import Cluster, GpuPool, PoolPrice, Reservation
from apps.fleet.services import Advice, reservation_advise
from tests.support.fleet_world import LONG_AGO, FleetWorld, fleet_world

pytestmark = pytest.mark.django_db
DAYS = 14


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world()


def in_use(world: FleetWorld, pool: GpuPool, *, hours: range) -> None:
    """One replica in each of these hours of every day."""
    deployment = world.deployment  # type: ignore[attr-defined]
    now = timezone.now()
    ReplicaInterval.objects.bulk_create(
        ReplicaInterval(
            replica_id=uuid4(),
            deployment=deployment,
            revision=deployment.current_revision,
            pool=pool,
            gpus=1,
            started_at=now - timedelta(days=day + 1) + timedelta(hours=hours.start),
            ended_at=now - timedelta(days=day + 1) + timedelta(hours=hours.stop),
        )
        for day in range(DAYS)
    )


@pytest.fixture
def used(world: FleetWorld) -> FleetWorld:
    """In us-east two instances always, a third for six hours a day, on demand at 1 USD/h."""
    world.deployment = deployment_create(actor=world.actor, document=world.document())  # type: ignore[attr-defined]
    for hours in (range(24), range(24), range(6)):
        in_use(world, world.pools["us-east"], hours=hours)
    return world


def advised(world: FleetWorld, **asked: object) -> Advice:
    found = reservation_advise(
        actor=world.actor,
        now=timezone.now(),
        region="us-east4",
        **asked,  # type: ignore[arg-type]
    )
    assert len(found) == 1
    return found[0]


def test_what_is_always_in_use_is_worth_a_discount_and_what_is_seldom_is_not(used: FleetWorld) -> None:
    """Two always, a third for a quarter of the day."""
    advice = advised(used, price_micro_usd_per_h=600_000)
    assert advice.plan is not None
    assert (advice.plan.instances, advice.known_h) == (2, DAYS * 24)
    assert advice.instances_mean == pytest.approx(2.25, abs=0.01)
    assert advice.instances_most == pytest.approx(3, abs=0.01)
    cheap = advised(used, price_micro_usd_per_h=100_000).plan
    dear = advised(used, price_micro_usd_per_h=1_000_001).plan
    assert cheap is not None
    assert dear is not None
    assert (cheap.instances, dear.instances) >= (3, 0)
    assert cheap.instances >= 3
    assert dear.instances == 0


def test_spot_that_is_cheap_enough_leaves_nothing_to_reserve(used: FleetWorld) -> None:
    """What counts is what is rented instead, not on demand's list price; its hazard is counted in."""
    spot = GpuPool.objects.create(
        cluster=used.clusters["us-east"], instance_type=used.instance_type, procurement="spot", name="spot",
        capacity_instances=8, hazard_per_h=0.1,
    )  # fmt: skip
    PoolPrice.objects.create(pool=spot, instance_micro_usd_per_h=400_000, effective_from=LONG_AGO)
    advice = advised(used, price_micro_usd_per_h=600_000)
    assert advice.plan is not None
    assert advice.plan.instances == 0
    assert advice.alternative is not None
    assert advice.alternative.spot_micro_usd_per_h is not None
    assert advice.alternative.spot_micro_usd_per_h > 400_000


def test_the_price_is_that_of_the_newest_reservation_and_what_is_reserved_counts(used: FleetWorld) -> None:
    """Without a price, and with too little known, it says what is missing."""
    assert "give price_usd_per_h" in advised(used).reasons[0]
    pool = GpuPool.objects.create(
        cluster=used.clusters["us-east"], instance_type=used.instance_type, procurement="reserved",
        name="reserved", capacity_instances=4,
    )  # fmt: skip
    now = timezone.now()
    Reservation.objects.create(
        pool=pool, instances=1, instance_micro_usd_per_h=600_000,
        starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=1),
    )  # fmt: skip
    advice = advised(used)
    assert (advice.price, advice.reserved) == (600_000, 1)
    assert advice.plan is not None
    assert advice.micro_usd_per_h_now is not None
    assert advice.micro_usd_per_h_now > advice.plan.micro_usd_per_h
    quiet = reservation_advise(actor=used.actor, now=now, region="japaneast", price_micro_usd_per_h=1)
    assert "0 hours of demand known" in quiet[0].reasons[0]
    assert quiet[0].plan is None


def test_an_organization_sees_its_own_fleet_alone(used: FleetWorld) -> None:
    """Another's pools of the same type in the same region are no part of it."""
    other = fleet_world("other")
    assert Cluster.objects.filter(region__name="us-east4").count() == 2
    found = reservation_advise(
        actor=other.actor, now=timezone.now(), region="us-east4", price_micro_usd_per_h=600_000
    )
    assert [row.known_h for row in found] == [0]
