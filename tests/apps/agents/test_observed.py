"""What agents observe: stored as reported, hashed alike on both sides, priced, told as events."""

import asyncio
from concurrent.futures import Future
from typing import Any

import httpx
import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.agents.models import AgentSession, Replica, ReplicaInterval, StrayReplica
from apps.deployments.models import DeploymentCondition, Revision
from apps.fleet.models import Cluster
from apps.placements.models import Assignment
from apps.placements.services import placement_request
from apps.telemetry.models import Event
from tests.apps.agents.world import (
    assigned,
    cluster_named,
    compile_tables,
    delta,
    enrolled,
    fleet,
    meanwhile,
    observed_replica,
    placed,
    scenario,
)
from tests.support.emptying import empty
from tests.support.waiting import eventually
from workloadplane.protocol.observed import ObservedCondition, ObservedReplica, ReplicaLoad
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import Route, RoutingHeader
from workloadplane.protocol.sync import SyncResponse

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_replica_is_stored_told_and_paid_for_from_start_to_end() -> None:
    """Starting, ready with its cold start by phase, gone: one row, one event a change, one closed interval."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    replica = observed_replica(assignment, "starting")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"a": replica}))
        ready = msgspec.structs.replace(replica, state="ready", phase=None, ready_at=replica.created_at + 2.5)
        answer = await agent.sync(observed=delta(2, {"a": ready}, changed=("a",)))
        assert (answer.observed_acknowledged, answer.observed_full_wanted) == (2, False)
        row = await meanwhile(Replica.objects.get)
        assert (str(row.pk), row.state, row.weight_load_s, row.image_pull_s) == (
            replica.replica_id, "ready", 1.5, None,
        )  # fmt: skip
        assert await meanwhile(ReplicaInterval.objects.filter(ended_at=None, gpus=1).count) == 1
        await agent.sync(observed=delta(3, {}, changed=(), gone=(replica.replica_id,)))
        assert await meanwhile(ReplicaInterval.objects.filter(ended_at=None).count) == 0

    scenario(run)
    interval = ReplicaInterval.objects.get()
    assert interval.started_at.timestamp() == pytest.approx(replica.created_at, abs=0.001)
    assert Replica.objects.get().gone_at is not None
    reasons = Event.objects.filter(deployment_id=assignment.deployment_id, replica_id__isnull=False)
    assert list(reasons.order_by("id").values_list("reason", flat=True)) == [
        "ReplicaStarting",
        "ReplicaReady",
    ]


def test_a_ready_replica_makes_its_deployment_ready() -> None:
    """What an agent reports reaches the deployment's conditions in the same transaction."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"a": observed_replica(assignment)}))

    scenario(run)
    assert DeploymentCondition.objects.get(deployment=assignment.deployment, type="Ready").status


def test_a_replica_that_lived_between_two_syncs_is_paid_for() -> None:
    """It was never seen alive, and cost what it cost."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    replica = observed_replica(assignment, "failed")
    replica = msgspec.structs.replace(replica, stopped_at=replica.created_at + 20)

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"a": replica}))
        await agent.sync(observed=delta(2, {"a": replica}))

    scenario(run)
    interval = ReplicaInterval.objects.get()
    assert interval.ended_at is not None
    assert (interval.ended_at - interval.started_at).total_seconds() == pytest.approx(20, abs=0.001)


def test_where_hashes_differ_the_full_state_is_asked_for_once() -> None:
    """A lost delta is noticed, and the full state ends it."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    first, second = observed_replica(assignment), observed_replica(assignment)
    both = {"1": first, "2": second}

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"1": first}))
        # The delta that brought the second replica was never stored; the next one is against it.
        answer = await agent.sync(observed=delta(3, both, changed=()))
        assert answer.observed_full_wanted
        assert (await agent.sync()).observed_full_wanted
        answer = await agent.sync(observed=delta(4, both))
        assert not answer.observed_full_wanted
        assert not (await agent.sync()).observed_full_wanted

    scenario(run)
    assert Replica.objects.filter(gone_at=None).count() == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment_id": "00000000-0000-4000-8000-000000000000"},
        {"assignment_id": "00000000-0000-4000-8000-000000000000"},
        {"assignment_id": "none"},
        {"replica_id": "not a uuid"},
        {"state": "levitating"},
        {"created_at": -1e300},
        {"message": "nul \x00", "reason": "r" * 5000, "runtime_ref": "\x00" * 300, "restarts": 2**70},
    ],
)
def test_what_the_plane_does_not_know_is_kept_without_harm(changes: dict[str, Any]) -> None:
    """A stray counts in the hash and nowhere else; what can be cut to fit is cut; the agent is heard all the same."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    good, odd = observed_replica(assignment), observed_replica(assignment, **changes)

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"good": good}))
        answer = await agent.sync(observed=delta(2, {"good": good, "odd": odd}, changed=("odd",)))
        assert (answer.refusal, answer.observed_full_wanted) == (None, False)
        answer = await agent.sync(observed=delta(3, {"good": good}, changed=(), gone=(odd.replica_id,)))
        assert not answer.observed_full_wanted

    scenario(run)
    assert not StrayReplica.objects.exists()
    assert Replica.objects.filter(gone_at=None, state="ready").count() == 1


def test_another_clusters_replica_cannot_be_taken() -> None:
    """An agent that reports a replica's id of another cluster changes nothing there."""
    project = fleet()
    here, there = placed(project, "chat", "eu-west"), placed(project, "other", "us-east")
    replica = observed_replica(here)
    forged = observed_replica(there, "failed", replica_id=replica.replica_id)

    async def run(http: httpx.AsyncClient) -> None:
        agent, thief = await enrolled(http, project), await enrolled(http, project, "us-east")
        await agent.sync(observed=delta(1, {"a": replica}))
        await thief.sync(observed=delta(1, {"a": forged}))
        await thief.sync(observed=delta(2, {}, changed=(), gone=(replica.replica_id,)))

    scenario(run)
    row = Replica.objects.get()
    assert (row.state, row.cluster.name, row.gone_at) == ("ready", "eu-west", None)


def test_traffic_follows_the_revision_that_is_ready() -> None:
    """The old revision keeps its weight until the new one has a ready replica, then the new one has it."""
    project = fleet()
    old = placed(project, "chat", "eu-west")
    revision = Revision.objects.create(
        deployment=old.deployment,
        number=2,
        model_version=old.revision.model_version,
        engine_image=old.revision.engine_image,
    )
    old.deployment.current_revision = revision
    old.deployment.save()
    new = assigned(revision, "eu-west")
    old_replica, new_replica = observed_replica(old), observed_replica(new, "starting")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)

        def weights() -> dict[int, int]:
            route = agent.entries("routing", Route)[str(old.deployment_id)]
            return {share.revision: share.weight for share in route.revisions}

        await agent.sync(observed=delta(1, {"old": old_replica, "new": new_replica}))
        assert weights() == {1: 100, 2: 0}
        ready = msgspec.structs.replace(new_replica, state="ready", phase=None)
        await agent.sync(observed=delta(2, {"old": old_replica, "new": ready}, changed=("new",)))
        assert weights() == {1: 0, 2: 100}

    scenario(run)


def test_a_gateway_that_moved_is_told_to_the_others() -> None:
    """Peers are sent where it is now; an address that is none is ignored."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent, peer = await enrolled(http, project), await enrolled(http, project, "us-east")
        await agent.sync(observed=delta(1, {}, gateway_url="https://gw.example:8443"))
        await agent.sync(observed=delta(2, {}, gateway_url="gopher://x"))
        await peer.sync()
        assert [p.url for p in peer.header("routing", RoutingHeader).peers] == ["https://gw.example:8443"]

    scenario(run)


def test_loads_are_kept_without_a_report() -> None:
    """A heartbeat may carry loads; those of unknown or foreign replicas are passed over."""
    project = fleet()
    replica = observed_replica(placed(project, "chat", "eu-west"))

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"a": replica}))
        load = ReplicaLoad(
            replica_id=replica.replica_id,
            running=3,
            waiting=1,
            kv_cache_usage=0.5,
            prompt_tokens_total=10,
            generation_tokens_total=20,
        )
        await agent.sync(loads=(load, msgspec.structs.replace(load, replica_id="x", running=9)))

    scenario(run)
    assert Replica.objects.get().load["running"] == 3


def test_an_agents_judgement_is_kept() -> None:
    """Conditions with their refusals are stored as reported, also with characters that PostgreSQL refuses."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    condition = ObservedCondition(
        assignment_id=str(assignment.pk),
        type="Degraded",
        status=True,
        reason="NoRoom",
        message="nul \x00",
        refusal=Refusal(rule="pool_capacity", subject="main", value="8", remedy="add GPUs"),
    )

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {}, conditions=(condition,)))

    scenario(run)
    stored = AgentSession.objects.get().conditions[0]
    assert (stored["refusal"]["remedy"], stored["message"]) == ("add GPUs", "nul \ufffd")


@st.composite
def histories(draw: st.DrawFn) -> list[dict[int, str]]:
    """States of a cluster one after the other: which of six replicas exist, and in which state."""
    state = st.sampled_from(["pending", "starting", "ready", "draining", "failed"])
    return draw(st.lists(st.dictionaries(st.integers(0, 5), state, max_size=6), min_size=1, max_size=6))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), lost=st.sets(st.integers(0, 5)))
def test_deltas_always_end_in_the_state_that_the_agent_has(
    history: list[dict[int, str]], lost: set[int], transactional_db: None
) -> None:
    """Whatever is lost on the way, what is stored is what the agent has after the last full exchange."""

    empty()
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    known = {number: observed_replica(assignment) for number in range(6)}

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        base: dict[str, ObservedReplica] | None = None
        for number, states in enumerate(history, start=1):
            now = {
                str(index): msgspec.structs.replace(known[index], state=state)
                for index, state in states.items()
            }
            if number in lost:
                continue
            if base is None:
                sent = delta(number, now)
            else:
                changed = tuple(key for key in now if base.get(key) != now[key])
                gone = tuple(base[key].replica_id for key in base.keys() - now.keys())
                sent = delta(number, now, changed=changed, gone=gone)
            answer = await agent.sync(observed=sent)
            assert not answer.observed_full_wanted
            base = now
        stored = await meanwhile(lambda: {(str(r.pk), r.state) for r in Replica.objects.filter(gone_at=None)})
        assert stored == {(r.replica_id, r.state) for r in (base or {}).values()}

    scenario(run)


def test_compiling_twice_changes_nothing() -> None:
    """Generations rise only where something is different."""
    from apps.agents.models import ClusterTable

    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    before = list(ClusterTable.objects.order_by("pk").values_list("generation", "signature"))
    compile_tables(assignment.pool.cluster)
    assert list(ClusterTable.objects.order_by("pk").values_list("generation", "signature")) == before


def test_a_judgement_that_is_withdrawn_is_looked_at_again() -> None:
    """A deployment names its agent's reason for too few replicas while the agent does, and no longer."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    replica = observed_replica(assignment, "starting")
    condition = ObservedCondition(
        assignment_id=str(assignment.pk),
        type="Degraded",
        status=True,
        reason="NoRoom",
        message="no room",
        refusal=Refusal(rule="pool_capacity", subject="main", value="8", remedy="add GPUs"),
    )

    def reason() -> str:
        return DeploymentCondition.objects.get(deployment=assignment.deployment, type="Degraded").reason

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"1": replica}, conditions=(condition,)))
        assert await meanwhile(reason) == "Short"
        await agent.sync(observed=delta(2, {"1": replica}, changed=()))
        assert await meanwhile(reason) != "Short"

    scenario(run)


def test_a_gateway_that_moves_while_its_cluster_is_changed_costs_neither_its_turn() -> None:
    """A sync that ends an assignment and names a new gateway, beside an operator's change of the same cluster."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    cluster = cluster_named(project, "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        replica = observed_replica(assignment)
        await agent.sync(observed=delta(1, {"a": replica}))
        await meanwhile(Assignment.objects.update, draining=True)
        ending = delta(2, {}, changed=(), gone=(replica.replica_id,), gateway_url="http://127.0.0.1:9001")

        def change(loop: asyncio.AbstractEventLoop) -> "Future[SyncResponse]":
            with transaction.atomic():
                Cluster.objects.select_for_update(no_key=True).get(pk=cluster.pk)
                syncing = asyncio.run_coroutine_threadsafe(agent.sync(observed=ending), loop)
                eventually(_somebody_waits, what="the sync waits for the cluster")
                placement_request(organization_id=project.organization_id)
            return syncing

        syncing = await meanwhile(change, asyncio.get_running_loop())
        assert (await asyncio.wrap_future(syncing)).refusal is None

    scenario(run)
    cluster.refresh_from_db()
    assert cluster.gateway_url == "http://127.0.0.1:9001"
    assert Assignment.objects.exclude(ended_at=None).count() == 1


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])
