"""Nodes: told by agents, emptied by order or notice; the rest of their pool takes over, or another place."""

from typing import Any

import msgspec
import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, ClusterTable, Node, Replica, TableKind
from apps.agents.services.observed_store import observed_store
from apps.api.problems import Problem
from apps.drains import selectors
from apps.drains.models import Drain
from apps.drains.tasks import drains_advance
from apps.fleet.services import pool_patch
from apps.placements.models import Assignment
from apps.placements.services import placements_solve
from tests.apps.agents.world import delta
from tests.apps.drains.test_drains import deployed, lift, start, state_of, work
from tests.apps.drains.test_notices import NOTICE, tells
from tests.apps.placements.moves import ready_by_cluster
from tests.support.fleet_world import FleetWorld, fleet_world, replica_reported
from workloadplane.protocol.desired import DesiredHeader
from workloadplane.protocol.observed import ObservedDelta, ObservedNode
from workloadplane.protocol.tables import Manifest

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def told(world: FleetWorld, *, count: int = 3, cluster: str = "us-east") -> None:
    """The agent of a cluster tells of its machines: each living replica is on one of its own, in order."""
    session = AgentSession.objects.select_related("cluster").get(cluster=world.clusters[cluster])
    replicas = list(
        Replica.objects.filter(cluster=world.clusters[cluster], gone_at=None).order_by("started_at", "pk")
    )
    on = {f"node-{number}": str(row.pk) for number, row in enumerate(replicas, start=1)}
    nodes = tuple(
        ObservedNode(
            name=f"node-{number}",
            pool_id=str(world.pools[cluster].pk),
            gpus=1,
            cordoned=False,
            replicas=tuple(filter(None, (on.get(f"node-{number}"),))),
        )
        for number in range(1, count + 1)
    )
    observed_store(session=session, delta=machines(session, nodes), now=timezone.now())
    session.save()


def machines(session: AgentSession, nodes: tuple[ObservedNode, ...]) -> ObservedDelta:
    """Nothing new but the machines; what is held of replicas is left alone."""
    return delta(session.observed_generation + 1, {}, changed=(), gateway_url="", nodes=nodes)


def cordoned(cluster: str = "us-east") -> tuple[str, ...]:
    """What the agent of a cluster is told to empty."""
    table = ClusterTable.objects.get(cluster__name=cluster, kind=TableKind.DESIRED)
    manifest = msgspec.json.decode(bytes(table.payload), type=Manifest)
    return msgspec.json.decode(manifest.header, type=DesiredHeader).cordoned


def test_the_rest_of_its_pool_takes_over(world: FleetWorld) -> None:
    """Its agent is told, progress follows what is on it, and nothing moves to another place."""
    chat = deployed(world)
    told(world)
    drain = start(world, "node", "us-east/node-1")
    assert (drain.state, drain.replicas_at_start, drain.shortfalls) == ("moving", 1, [])
    assert cordoned() == ("node-1",)
    placements_solve(organization_id=world.organization.pk)
    progress = selectors.progress(drain=drain, now=timezone.now())
    assert [(row.here, row.wanted, row.ready) for row in progress.deployments] == [(1, 2, 1)]
    leaving = Node.objects.get(name="node-1").replica_ids[0]
    replica_reported(Assignment.objects.get(ended_at=None))
    assert selectors.progress(drain=drain, now=timezone.now()).deployments[0].ready == 2
    Replica.objects.filter(pk=leaving).update(state="stopped", gone_at=timezone.now())
    drains_advance()
    assert state_of(drain) == "drained"
    assert ready_by_cluster(chat) == {"us-east": 2}
    lift(world, drain)
    assert (state_of(drain), cordoned()) == ("over", ())


def test_where_its_pool_is_full_another_place_takes_over(world: FleetWorld) -> None:
    """Placement sees the pool without it; as many are ready as before at every moment."""
    chat = deployed(world, residency=["us", "eu"])
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=2)
    work(world, 2)
    assert ready_by_cluster(chat) == {"us-east": 2}
    told(world, count=2)
    drain = start(world, "node", "us-east/node-2")
    for _ in range(6):
        work(world, 1)
        assert sum(ready_by_cluster(chat).values()) >= 2
    assert ready_by_cluster(chat).get("us-east", 0) <= 1
    assert sum(ready_by_cluster(chat).values()) == 2
    told(world, count=2)
    drains_advance()
    assert state_of(drain) == "drained"


def test_a_promise_that_would_break_is_told_before(world: FleetWorld) -> None:
    """As of any other place; what is no node is named with those that are."""
    deployed(world, residency=["us"])
    pool_patch(actor=world.actor, pool=world.pools["us-east"], capacity_instances=2)
    told(world, count=2)
    with pytest.raises(Problem, match="refused: would leave chat"):
        start(world, "node", "us-east/node-1")
    assert cordoned() == ()
    assert start(world, "node", "us-east/node-1", accept_risk=True).state == "moving"
    with pytest.raises(Problem) as raised:
        start(world, "node", "us-east/mars")
    (error,) = raised.value.errors
    assert error.pointer == "/name"
    assert error.remedy == "known are: us-east/node-1, us-east/node-2"


def test_a_notice_of_a_node_is_a_drain_of_it(world: FleetWorld) -> None:
    """Of one that is told; another machine's notice is passed over."""
    deployed(world)
    told(world)
    kept: dict[str, Any] = AgentSession.objects.get(cluster=world.clusters["us-east"]).facts
    tells(world, msgspec.structs.replace(NOTICE, node="mars"), cluster="eu-west")
    session = AgentSession.objects.get(cluster=world.clusters["us-east"])
    session.facts = kept | {"notices": msgspec.to_builtins([msgspec.structs.replace(NOTICE, node="node-1")])}
    session.save()
    drains_advance()
    drain = Drain.objects.get()
    assert (drain.kind, drain.name, drain.replicas_at_start) == ("node", "us-east/node-1", 1)
    assert drain.by_notice


def test_odd_nodes_are_left_out(world: FleetWorld) -> None:
    """An agent is trusted with its cluster, not with our rows: foreign pools, odd names and counts."""
    session = AgentSession.objects.select_related("cluster").get(cluster=world.clusters["us-east"])
    good = ObservedNode(
        name="ip-10-0-0-1.ec2.internal",
        pool_id=str(world.pools["us-east"].pk),
        gpus=8,
        cordoned=False,
        replicas=("x",),
    )
    change = msgspec.structs.replace
    odd = [
        change(good, name="A B"),
        change(good, name="x" * 64),
        change(good, name="other", pool_id=str(world.pools["eu-west"].pk)),
        change(good, name="many", gpus=10**12),
        change(good, name="none", gpus=0),
    ]
    observed_store(session=session, delta=machines(session, (good, *odd)), now=timezone.now())
    session.save()
    assert [node.name for node in Node.objects.all()] == [good.name]
    observed_store(session=session, delta=machines(session, ()), now=timezone.now())
    assert not Node.objects.exists()
