"""A standby of an ``active_passive`` deployment is promoted by a failure, and by nothing less."""

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from django.db.models import F
from django.utils import timezone

from apps.agents.models import AgentSession, ClusterTable, Replica, ServingSeat, TableKind, YieldingCluster
from apps.agents.services import SeatWatch, plane_epoch_raise, tables_compile
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.placements.models import Assignment, PlacementPlan
from apps.placements.tasks import placements_reconcile
from apps.telemetry.models import Event
from controlplane.placement import FailureDomain, certify, plan_decode, problem_decode, survive
from tests.apps.placements.test_handover import acknowledge, serving
from tests.support.fleet_world import FleetWorld, fleet_world, replica_reported

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Pair:
    """A deployment that us-east serves while ap-northeast stands by, and an observer with its clock."""

    world: FleetWorld
    deployment: Deployment
    watch: SeatWatch = field(default_factory=SeatWatch)
    now_s: float = 100.0

    def pass_time(self, seconds: float, *, heard: Collection[str], gated: bool = True) -> None:
        """Half a second from look to look, in which these are heard and their gateways take what is new."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.5
            for name in heard:
                cluster = self.world.clusters[name]
                newest = ClusterTable.objects.get(cluster=cluster, kind=TableKind.ROUTING).generation
                AgentSession.objects.filter(cluster=cluster).update(
                    last_sequence=F("last_sequence") + 1,
                    facts={"gateway_generations": {"routing": newest}, "gateways_connected": int(gated)},
                )
            self.watch.look(self.now_s)

    @property
    def serving(self) -> str | None:
        return serving(self.deployment, self.world)


ALL = ("us-east", "ap-northeast", "eu-west")


@pytest.fixture
def pair() -> Pair:
    world = fleet_world()
    AgentSession.objects.update(last_sync_at=timezone.now())
    document = world.document(
        posture="active_passive",
        survivability="region",
        residency=["us", "jp"],
        autoscaling={"min_replicas": 1, "max_replicas": 2},
    )
    deployment = deployment_create(actor=world.actor, document=document)
    placements_reconcile()
    standby = Assignment.objects.get(standby=True)
    assert standby.pool.cluster.name == "ap-northeast"
    for assignment in Assignment.objects.all():
        replica_reported(assignment)
    made = Pair(world, deployment)
    made.pass_time(2.0, heard=ALL)
    assert made.serving == "us-east"
    return made


def reasons() -> list[str]:
    found = Event.objects.filter(reason__in=["StandbyPromoted", "ServingWaits", "ServingMoved"])
    return list(found.order_by("pk").values_list("reason", flat=True))


def test_a_silent_region_is_replaced_when_its_lease_is_over(pair: Pair) -> None:
    """Within 8 s of its last call; not a moment sooner than its gateways have surely stopped."""
    pair.pass_time(6.5, heard=("ap-northeast", "eu-west"))
    assert pair.serving is None, "nobody lets it serve, and it may serve still"
    tables_compile(cluster_ids=[cluster.pk for cluster in pair.world.clusters.values()])
    assert pair.serving is None, "who compiles for another reason does not call it back"
    pair.pass_time(1.0, heard=("ap-northeast", "eu-west"))
    assert pair.serving == "ap-northeast"
    assert reasons() == ["StandbyPromoted", "ServingWaits", "ServingMoved"]
    assert "the agent of us-east is not heard" in Event.objects.get(reason="StandbyPromoted").message


def test_who_was_promoted_stands_by_it(pair: Pair) -> None:
    """The lost region returns and stands by now, whoever compiles; it takes over when it is needed."""
    pair.pass_time(8.0, heard=("ap-northeast", "eu-west"))
    assert pair.serving == "ap-northeast"
    pair.pass_time(3.0, heard=ALL)
    tables_compile(cluster_ids=[cluster.pk for cluster in pair.world.clusters.values()])
    placements_reconcile()
    assert pair.serving == "ap-northeast"
    pair.pass_time(8.0, heard=("us-east", "eu-west"))
    assert pair.serving == "us-east"
    assert ServingSeat.objects.get().promoted == pair.world.clusters["us-east"], (
        "the plan named the other one"
    )
    placements_reconcile()
    pair.pass_time(1.0, heard=ALL)
    assert (pair.serving, ServingSeat.objects.get().promoted) == ("us-east", None)


def test_the_next_plan_names_who_was_promoted(pair: Pair) -> None:
    """And what it says of losses follows: nobody moves, and nobody stops to serve for it."""
    pair.pass_time(8.0, heard=("ap-northeast", "eu-west"))
    assert pair.serving == "ap-northeast"
    before = {(row.pk, row.pool_id, row.min_replicas) for row in Assignment.objects.filter(ended_at=None)}
    placements_reconcile()
    assert Assignment.objects.get(ended_at=None, standby=True).pool.cluster.name == "us-east"
    assert before == {
        (row.pk, row.pool_id, row.min_replicas) for row in Assignment.objects.filter(ended_at=None)
    }
    row = PlacementPlan.objects.order_by("plan_generation").last()
    assert row is not None
    problem, plan = problem_decode(row.problem), plan_decode(row.plan)
    lost = FailureDomain(kind="region", name="japaneast")
    (told,) = survive(problem, plan, (lost,)).deployments
    assert (told.verdict, told.promoted) == ("survives", "us-east")
    assert certify(problem, plan).broken_promises == ()
    plans = PlacementPlan.objects.count()
    for _ in range(2):
        pair.pass_time(2.0, heard=ALL)
        assert pair.serving == "ap-northeast"
        placements_reconcile()
    assert ServingSeat.objects.get().promoted is None
    assert PlacementPlan.objects.count() <= plans + 1
    assert reasons() == ["StandbyPromoted", "ServingWaits", "ServingMoved"]


def test_a_short_silence_moves_nothing(pair: Pair) -> None:
    """A call that is late, or a control plane that was away itself."""
    pair.pass_time(5.0, heard=("ap-northeast", "eu-west"))
    pair.pass_time(1.0, heard=ALL)
    pair.now_s += 60.0  # the observer was stopped, and the agents rest between calls that fail
    pair.pass_time(10.0, heard=("ap-northeast",))
    assert (pair.serving, reasons()) == ("us-east", [])


def test_where_nobody_is_heard_nobody_is_promoted(pair: Pair) -> None:
    """An observer that hears nobody is cut off itself."""
    pair.pass_time(30.0, heard=())
    assert (pair.serving, reasons()) == ("us-east", [])


def test_a_region_without_replicas_is_replaced_as_soon_as_it_says_so(pair: Pair) -> None:
    """It is heard: its gateways acknowledge, and no lease is waited for. One that starts again at once is kept."""
    Replica.objects.filter(cluster=pair.world.clusters["us-east"]).update(state="unhealthy")
    pair.pass_time(2.0, heard=ALL)
    assert pair.serving == "us-east"
    pair.pass_time(2.5, heard=ALL)
    assert pair.serving == "ap-northeast"
    assert "us-east has no ready replica" in Event.objects.get(reason="StandbyPromoted").message


def test_a_region_without_a_gateway_is_replaced(pair: Pair) -> None:
    """Its agent says that none is connected; the standby's says that it has some."""
    serves = AgentSession.objects.filter(cluster=pair.world.clusters["us-east"])
    for _ in range(10):
        serves.update(facts={"gateways_connected": 0, "gateway_generations": {"routing": 0}})
        pair.pass_time(0.5, heard=("ap-northeast", "eu-west"))
        serves.update(last_sequence=F("last_sequence") + 1)
    assert "us-east has no gateway" in Event.objects.get(reason="StandbyPromoted").message
    assert pair.serving is None, "its gateways may be alive and cut off from their agent: the lease counts"
    acknowledge(pair.world.clusters["us-east"])
    pair.pass_time(0.5, heard=("ap-northeast", "eu-west"))
    assert pair.serving == "ap-northeast"


def test_a_standby_that_is_not_ready_is_not_promoted(pair: Pair) -> None:
    """Taking from one that may come back and giving to one that can't would help nobody."""
    Replica.objects.filter(cluster=pair.world.clusters["ap-northeast"]).update(state="starting")
    pair.pass_time(12.0, heard=("ap-northeast", "eu-west"))
    assert (pair.serving, reasons()) == ("us-east", [])


def test_two_observers_agree(pair: Pair) -> None:
    """Two control planes on one database: each goes by what it saw, the tables by both."""
    other = Pair(pair.world, pair.deployment, now_s=7e6)
    for _ in range(60):
        pair.pass_time(0.5, heard=("ap-northeast", "eu-west"))
        other.pass_time(0.5, heard=("ap-northeast", "eu-west"))
    assert pair.serving == "ap-northeast"
    assert reasons() == ["StandbyPromoted", "ServingWaits", "ServingMoved"]


def test_after_a_restore_whoever_may_serve_yields_first(pair: Pair) -> None:
    """The database says us-east; what was promoted after the back-up is known to gateways alone."""
    with_epoch = plane_epoch_raise(above=0)
    assert with_epoch == 2
    assert pair.serving is None
    assert YieldingCluster.objects.count() == 3
    pair.pass_time(1.0, heard=("us-east", "eu-west"))
    assert pair.serving is None, "ap-northeast may serve by a table that was forgotten"
    pair.pass_time(1.0, heard=ALL)
    assert pair.serving == "us-east"
    assert not YieldingCluster.objects.exists()
