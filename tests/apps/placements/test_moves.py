"""Make before break: whatever a plan changes, what serves goes only when what takes its place is ready."""

import pytest

from apps.agents.models import Replica
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create, deployment_patch
from apps.placements.models import Assignment
from tests.apps.placements.moves import adopt, agents_work, allocation, ready_by_cluster, told
from tests.apps.placements.test_road import places, solve
from tests.support.fleet_world import FleetWorld, fleet_world, model_version, replica_reported

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


@pytest.fixture
def chat(world: FleetWorld) -> Deployment:
    policy = {"min_replicas": 4, "max_replicas": 8}
    return deployment_create(actor=world.actor, document=world.document(autoscaling=policy))


def live(cluster: str, **fields) -> Assignment:
    return Assignment.objects.get(pool__cluster__name=cluster, ended_at=None, **fields)


def settle(passes: int = 6) -> None:
    for _ in range(passes):
        agents_work()


def test_a_pool_that_gives_up_some_keeps_them_until_another_has_them_ready(
    world: FleetWorld, chat: Deployment
) -> None:
    """Three become one here while one becomes three there: never less than four are ready."""
    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 3), allocation(us, chat, 1))
    settle()
    assert ready_by_cluster(chat) == {"eu-west": 3, "us-east": 1}
    adopt(world, chat, allocation(eu, chat, 1), allocation(us, chat, 3))
    agents_work(may_start=False)
    assert ready_by_cluster(chat) == {"eu-west": 3, "us-east": 1}, "its successors are not ready yet"
    agents_work()
    assert ready_by_cluster(chat) == {"eu-west": 3, "us-east": 3}
    agents_work()
    assert ready_by_cluster(chat) == {"eu-west": 1, "us-east": 3}


def test_fewer_everywhere_waits_for_nobody(world: FleetWorld, chat: Deployment) -> None:
    """Demand has fallen: what is not needed goes at once."""
    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 3), allocation(us, chat, 3))
    settle()
    adopt(world, chat, allocation(eu, chat, 2), allocation(us, chat, 2))
    agents_work()
    assert ready_by_cluster(chat) == {"eu-west": 2, "us-east": 2}


def test_what_load_has_added_moves_too(world: FleetWorld, chat: Deployment) -> None:
    """One is kept ready, three serve the load, and room for three is planned: three must be ready where it goes."""
    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 1, planned_replicas=3, max_replicas=4))
    for _ in range(3):
        replica_reported(live("eu-west"))
    adopt(world, chat, allocation(us, chat, 1, planned_replicas=3, max_replicas=4))
    assert told(live("eu-west")).autoscaling.max_replicas == 3, "as many may go on as serve, and no more"
    assert told(live("us-east")).autoscaling.min_replicas == 3
    replica_reported(live("us-east"))
    agents_work(may_start=False)
    assert ready_by_cluster(chat)["eu-west"] == 3, "one of three is ready"
    agents_work()
    agents_work()
    assert ready_by_cluster(chat) == {"us-east": 3}
    assert told(live("us-east")).autoscaling.min_replicas == 1, "from now on load decides"


def test_a_surplus_in_one_place_makes_up_for_nothing_in_another(world: FleetWorld, chat: Deployment) -> None:
    """Two clusters are to have two each; four in one of them leave the other's loss uncovered, so nothing goes."""
    eu, us, ap = (world.pools[name] for name in ("eu-west", "us-east", "ap-northeast"))
    adopt(world, chat, allocation(ap, chat, 2))
    settle()
    adopt(world, chat, allocation(eu, chat, 2, max_replicas=4), allocation(us, chat, 2))
    for _ in range(4):
        replica_reported(live("eu-west"))
    agents_work(may_start=False)
    assert ready_by_cluster(chat) == {"ap-northeast": 2, "eu-west": 4}
    settle()
    assert "ap-northeast" not in ready_by_cluster(chat)


def test_a_new_revision_that_goes_partly_elsewhere_is_waited_for_there(
    world: FleetWorld, chat: Deployment
) -> None:
    """Three of the old revision in one cluster, of the new one a third of it there and the rest elsewhere."""
    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 3))
    settle()
    model_version(world.model, "2")
    deployment_patch(actor=world.actor, deployment=chat, changes={"model": "tiny-llama@2"})
    adopt(world, chat, allocation(eu, chat, 1), allocation(us, chat, 2))
    old = live("eu-west", revision__number=1)
    assert (old.leaving, old.draining) == (True, False)
    assert told(old).autoscaling.min_replicas == 2, "its successor here may take the third one's room"
    assert told(old).autoscaling.max_replicas == 3
    agents_work(may_start=False)
    assert ready_by_cluster(chat) == {"eu-west": 3}
    settle()
    assert ready_by_cluster(chat) == {"eu-west": 1, "us-east": 2}
    assert set(Assignment.objects.filter(ended_at=None).values_list("revision__number", flat=True)) == {2}


def test_a_new_revision_of_the_same_size_is_handed_over_by_the_agent(
    world: FleetWorld, chat: Deployment
) -> None:
    """In the same cluster, replica by replica: the table says drain at once."""
    adopt(world, chat, allocation(world.pools["eu-west"], chat, 3))
    settle()
    model_version(world.model, "2")
    deployment_patch(actor=world.actor, deployment=chat, changes={"model": "tiny-llama@2"})
    adopt(world, chat, allocation(world.pools["eu-west"], chat, 3))
    assert live("eu-west", revision__number=1).draining


def test_a_plan_that_changes_its_mind_calls_back_what_was_leaving(
    world: FleetWorld, chat: Deployment
) -> None:
    """Half way to another cluster it is sent back: nothing stops, nothing is held for longer than that."""
    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 2))
    settle()
    adopt(world, chat, allocation(us, chat, 2))
    adopt(world, chat, allocation(eu, chat, 2))
    settle()
    assert ready_by_cluster(chat) == {"eu-west": 2}
    row = live("eu-west")
    assert (row.leaving, row.draining, row.handover_replicas) == (False, False, 0)


def test_the_room_of_what_is_handed_over_is_given_to_nobody(world: FleetWorld, chat: Deployment) -> None:
    """Until it is over, another deployment finds the pool as full as it is."""
    from django.utils import timezone

    from apps.placements.services import placement_load

    eu, us = world.pools["eu-west"], world.pools["us-east"]
    adopt(world, chat, allocation(eu, chat, 3), allocation(us, chat, 1))
    settle()
    adopt(world, chat, allocation(eu, chat, 1), allocation(us, chat, 3))
    problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
    assert [(row.pool_id, row.replicas) for row in problem.occupancies] == [(str(eu.pk), 3)]
    settle()
    problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
    assert not problem.occupancies


def test_a_standby_is_warm_and_not_asked(world: FleetWorld, chat: Deployment) -> None:
    """Tables name the cluster that serves first, however old, large or ready the one that stands by."""
    from tests.apps.placements.test_handover import serving

    eu, us = world.pools["eu-west"], world.pools["us-east"]
    deployment_patch(actor=world.actor, deployment=chat, changes={"posture": "active_passive"})
    adopt(world, chat, allocation(us, chat, 3, standby=True))
    settle(2)
    adopt(world, chat, allocation(us, chat, 3, standby=True), allocation(eu, chat, 2))
    settle()
    assert ready_by_cluster(chat) == {"eu-west": 2, "us-east": 3}
    assert serving(chat, world) in (None, "eu-west"), "it waits for the gateways of the former one at most"


def test_who_got_a_spare_keeps_it_while_it_drains() -> None:
    """One GPU a region. The spare that yielded still runs when the next event comes: its room is promised already."""
    world = fleet_world(instances=1)
    fields = {"residency": ["eu", "us"], "autoscaling": {"min_replicas": 1, "max_replicas": 2}}
    deployment_create(actor=world.actor, document=world.document("first", survivability="region", **fields))
    solve(world)
    agents_work()
    assert len(places("first")) == 2
    deployment_create(actor=world.actor, document=world.document("second", **fields))
    solve(world)
    placed = places("second")
    assert len(placed) == 1
    assert len(places("first")) == 1
    assert Replica.objects.filter(gone_at=None, deployment__name="first").count() == 2, (
        "one is on its way out"
    )
    deployment_create(actor=world.actor, document=world.document("third", residency=["jp"]))
    solve(world)
    assert places("second") == placed
    agents_work()
    agents_work()
    assert (len(places("first")), places("second")) == (1, placed)
    assert Assignment.objects.filter(deployment__name="second").count() == 1, (
        "it was sent nowhere else meanwhile"
    )
