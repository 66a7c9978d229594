"""What a lost region held is replaced elsewhere, and may return when it has been sound for a while."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.api.problems import Problem
from apps.drains.models import Drain
from apps.drains.services import drain_lift
from apps.incidents.models import Incident, IncidentWatch
from apps.incidents.services import incidents_look
from apps.telemetry.models import Event
from controlplane.failover import REPLACE_AFTER_S
from tests.apps.incidents.seen import all_sound, died, heard
from tests.apps.incidents.test_incidents import deployed, later, watched, work
from tests.apps.placements.moves import ready_by_cluster
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)
SOON = REPLACE_AFTER_S - 1


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def test_what_does_not_return_soon_is_replaced_until_it_has_been_sound(world: FleetWorld) -> None:
    """Not before it is clear that it stays away, ready elsewhere then, told of; opened again by itself alone."""
    chat = deployed(world)
    now = timezone.now()
    watched(world, now)
    for seconds in (0.0, SOON):
        died(world, "us-east", later(now, seconds), heard_ago_s=3 + seconds)
        incidents_look(now=later(now, seconds))
    assert not Drain.objects.exists()

    for seconds in (REPLACE_AFTER_S, REPLACE_AFTER_S + 2):
        died(world, "us-east", later(now, seconds), heard_ago_s=3 + seconds)
        incidents_look(now=later(now, seconds))
    drain = Drain.objects.get()
    assert (str(drain), drain.state, drain.lost_at) == ("cluster us-east", "moving", now)
    work(world)
    assert ready_by_cluster(chat) == {"eu-west": 2}
    said = Event.objects.get(reason="CapacityLost")
    assert said.severity == "warning"
    assert "its 2 replicas are replaced elsewhere" in said.message
    with pytest.raises(Problem, match="ends by itself when its incident is resolved"):
        drain_lift(actor=world.actor, drain=drain, now=later(now, 40))

    all_sound(world, later(now, 60))
    incidents_look(now=later(now, 60))
    assert (Incident.objects.get().state, Drain.objects.get().ended_at) == ("recovering", None)
    all_sound(world, later(now, 200))
    incidents_look(now=later(now, 200))
    assert Incident.objects.get().state == "resolved"
    assert Drain.objects.get().ended_at == later(now, 200)
    assert Event.objects.filter(reason="CapacityReturned").count() == 1


def test_what_finds_no_other_place_keeps_its_own_and_serves_when_that_is_back(world: FleetWorld) -> None:
    """Its residency leaves it one region; the loss ends nothing that others can't take over."""
    here = deployed(world, "here", residency=["us"])
    deployed(world)
    now = timezone.now()
    watched(world, now)
    for seconds in (0.0, SOON, REPLACE_AFTER_S):
        died(world, "us-east", later(now, seconds), heard_ago_s=3 + seconds)
        incidents_look(now=later(now, seconds))
    assert Drain.objects.get().lost_at == now
    work(world)
    assert ready_by_cluster(here) == {"us-east": 2}
    assert not here.assignments.filter(ended_at__isnull=False).exists()


def test_time_in_which_nobody_looked_is_no_time_of_loss(world: FleetWorld) -> None:
    """A control plane that is back waits as long as ever: who was lost before may have been back meanwhile."""
    deployed(world)
    now = timezone.now()
    watched(world, now)
    died(world, "us-east", now, heard_ago_s=3)
    incidents_look(now=now)
    back = later(now, 60)
    for seconds in (0.0, 2.0, SOON):
        died(world, "us-east", later(back, seconds), heard_ago_s=63 + seconds)
        if not seconds:
            IncidentWatch.objects.update(looked_at=now)
        incidents_look(now=later(back, seconds))
    assert not Drain.objects.exists()
    died(world, "us-east", later(back, REPLACE_AFTER_S), heard_ago_s=99)
    incidents_look(now=later(back, REPLACE_AFTER_S))
    assert Drain.objects.exists()


def test_one_that_the_control_plane_alone_does_not_hear_keeps_what_it_has(world: FleetWorld) -> None:
    """Its gateways serve on: others see them."""
    chat = deployed(world)
    now = timezone.now()
    watched(world, now)
    for seconds in range(0, 90, 5):
        for other in world.clusters.keys() - {"us-east"}:
            heard(world, other, later(now, seconds))
        incidents_look(now=later(now, seconds))
    assert Incident.objects.get().cause == "unheard"
    assert not Drain.objects.exists()
    assert ready_by_cluster(chat) == {"us-east": 2}


def test_what_somebody_empties_already_is_left_to_them(world: FleetWorld) -> None:
    """No second drain of the same cluster, and none where it returns in time."""
    deployed(world)
    now = timezone.now()
    watched(world, now)
    died(world, "us-east", now, heard_ago_s=3)
    incidents_look(now=now)
    all_sound(world, later(now, SOON))
    incidents_look(now=later(now, SOON))
    died(world, "us-east", later(now, SOON + 2), heard_ago_s=3)
    incidents_look(now=later(now, SOON + 2))
    died(world, "us-east", later(now, SOON + 10), heard_ago_s=11)
    incidents_look(now=later(now, SOON + 10))
    assert not Drain.objects.exists(), "it failed anew: its time counts from there"

    operators = Drain.objects.create(
        organization=world.organization, kind="cluster", name="us-east", state="moving", created_by="somebody",
        moving_since=now - timedelta(minutes=1),
    )  # fmt: skip
    died(world, "us-east", later(now, SOON + 60), heard_ago_s=61)
    incidents_look(now=later(now, SOON + 60))
    assert Drain.objects.get() == operators
