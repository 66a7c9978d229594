"""Capacity that providers take back: replaced at once on an agent's word, opened again when that is withdrawn."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from apps.agents.models import AgentSession
from apps.agents.services.observed_store import NOTICES_TASK, observed_store
from apps.api.problems import Problem
from apps.drains.models import Drain
from apps.drains.services import drain_lift
from apps.drains.tasks import drains_advance, notices_take
from apps.placements.services import placements_solve
from apps.telemetry.models import Event
from tests.apps.agents.world import delta
from tests.apps.drains.test_drains import deployed, start, state_of, work
from tests.apps.placements.moves import agents_work, ready_by_cluster
from tests.support.fleet_world import FleetWorld, fleet_world
from workloadplane.protocol.observed import Notice

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = datetime(2030, 1, 1, 0, 2, tzinfo=UTC)
NOTICE = Notice(
    pool="on-demand", node=None, deadline_at=DEADLINE.timestamp(), reason="terminate", provider="aws"
)


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world(instances=8)


def tells(world: FleetWorld, *notices: Notice, cluster: str = "us-east") -> None:
    """The agent of a cluster syncs."""
    session = AgentSession.objects.select_related("cluster").get(cluster=world.clusters[cluster])
    news = delta(session.observed_generation + 1, {}, changed=(), gateway_url="", notices=notices)
    observed_store(session=session, delta=news, now=timezone.now())
    session.save()


def test_the_replacement_starts_at_once_and_nobody_is_asked(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool counts as lost: ready elsewhere, though a promise breaks; told with the deadline; once."""
    rung: list[str] = []
    monkeypatch.setattr(
        "apps.agents.services.observed_store.doorbell_ring", lambda task, *_: rung.append(task)
    )
    chat, bound = deployed(world), deployed(world, "bound", residency=["us"])
    tells(world, NOTICE)
    tells(world, NOTICE)
    assert rung == [NOTICES_TASK], "once for what is new"
    notices_take()
    drain = Drain.objects.get()
    assert (str(drain), drain.state, drain.deadline_at) == ("pool us-east/on-demand", "moving", DEADLINE)
    placements_solve(organization_id=world.organization.pk)
    agents_work()
    assert ready_by_cluster(chat)["eu-west"] == 2
    work(world)
    assert (ready_by_cluster(chat), ready_by_cluster(bound)) == ({"eu-west": 2}, {})
    drains_advance()
    assert Drain.objects.get().state == "drained"
    said = Event.objects.get(reason="CapacityTakenBack")
    assert said.severity == "warning"
    assert "is taken back by its provider at 2030-01-01 00:02:00 UTC (terminate)" in said.message


def test_a_notice_that_is_withdrawn_is_undone(world: FleetWorld) -> None:
    """By the beat alone, if nobody rings: the pool may be used again; an operator can't open it before."""
    chat = deployed(world)
    tells(world, NOTICE)
    drains_advance()
    drain = Drain.objects.get()
    with pytest.raises(Problem, match="taken back by its provider"):
        drain_lift(actor=world.actor, drain=drain, now=timezone.now())
    tells(world)
    drains_advance()
    assert state_of(drain) == "cancelled"
    assert Event.objects.filter(reason="CapacityReturned").count() == 1
    work(world)
    assert ready_by_cluster(chat) == {"us-east": 2}
    assert ready_by_cluster(deployed(world, "other")) == {"us-east": 2}


def test_what_an_operator_drains_stays_his(world: FleetWorld) -> None:
    """The notice takes over when his is lifted, for as long as it stands."""
    deployed(world)
    own = start(world, "pool", "us-east/on-demand")
    tells(world, NOTICE)
    notices_take()
    assert Drain.objects.count() == 1
    drain_lift(actor=world.actor, drain=own, now=timezone.now())
    notices_take()
    notices_take()
    assert Drain.objects.filter(ended_at=None).count() == 1
    assert Drain.objects.filter(ended_at=None, deadline_at=DEADLINE).exists()


@pytest.mark.parametrize(
    "odd",
    [
        msgspec.structs.replace(NOTICE, pool="mars"),
        msgspec.structs.replace(NOTICE, pool="x" * 500 + "\x00"),
        msgspec.structs.replace(NOTICE, deadline_at=1e300),
    ],
)
def test_a_notice_that_makes_no_sense_is_passed_over(world: FleetWorld, odd: Notice) -> None:
    """And keeps no other from being taken."""
    tells(world, odd, cluster="eu-west")
    tells(world, NOTICE)
    drains_advance()
    assert [drain.name for drain in Drain.objects.all()] == ["us-east/on-demand"]


def test_a_cluster_that_falls_silent_takes_nothing_back(world: FleetWorld) -> None:
    """Its agent may have gone with its machines: believed gone until somebody says otherwise."""
    tells(world, NOTICE)
    drains_advance()
    past: dict[str, Any] = {"lease_expires_at": timezone.now() - timedelta(hours=1)}
    AgentSession.objects.filter(cluster=world.clusters["us-east"]).update(**past)
    drains_advance()
    assert Drain.objects.get().state == "drained"
