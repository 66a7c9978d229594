"""Enrolment and sync over the real wire: who is heard, what is sent, what is refused."""

import asyncio
import base64
import time
from datetime import timedelta

import httpx
import msgspec
import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.accounts.services import api_key_create, api_key_revoke, project_change
from apps.agents.models import AgentSession, ClusterTable
from apps.api.actors import system_actor
from apps.placements.models import Assignment
from apps.telemetry.models import Event
from tests.apps.agents.world import (
    Agent,
    compile_tables,
    enrolled,
    fleet,
    meanwhile,
    placed,
    scenario,
    token_for,
)
from workloadplane.protocol.desired import DesiredAssignment, DesiredHeader
from workloadplane.protocol.routing import ApiKeyEntry, KeySetHeader, RateLimits, Route, RoutingHeader
from workloadplane.protocol.sync import MAX_SYNC_BYTES, sync_signed_bytes

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_enrolled_agent_is_sent_what_its_cluster_shall_run() -> None:
    """From a token to verified tables in two calls: desired state, routes, keys."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await enrolled(http, project, "us-east")
        answer = await agent.sync()
        assert answer.refusal is None
        header = agent.header("desired", DesiredHeader)
        assert (header.cluster_name, header.jurisdiction) == ("eu-west", "eu")
        assert [(pool.name, pool.capacity_gpus) for pool in header.pools] == [("main", 8)]
        desired = agent.entries("desired", DesiredAssignment)
        assert list(desired) == [str(assignment.pk)]
        entry = desired[str(assignment.pk)]
        assert (entry.deployment, entry.model.name, entry.engine.engine) == (
            "chat",
            "tiny-llama",
            "simulator",
        )
        assert (entry.autoscaling.min_replicas, entry.autoscaling.max_replicas) == (1, 2)
        route = agent.entries("routing", Route)[str(assignment.deployment_id)]
        assert [(r.weight, r.cluster_ids) for r in route.revisions] == [(100, (header.cluster_id,))]
        assert [r.modalities for r in route.revisions] == [("text",)]
        peers = agent.header("routing", RoutingHeader).peers
        assert [(peer.cluster_name, peer.url) for peer in peers] == [("us-east", "http://127.0.0.1:9000")]
        assert agent.identity is not None
        assert agent.header("keyset", KeySetHeader).signing_keys == agent.identity.signing_keys

    scenario(run)


def test_nothing_is_sent_twice() -> None:
    """An agent that holds the newest tables gets none; one change brings only the entry that changed."""
    project = fleet()
    placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        assert (await agent.sync()).tables == {}
        second = await meanwhile(placed, project, "other", "eu-west")
        answer = await agent.sync()
        assert list(answer.tables["desired"].entries) == [str(second.pk)]
        assert len(agent.entries("desired", DesiredAssignment)) == 2
        assert "keyset" not in answer.tables

    scenario(run)


def test_news_arrives_while_the_answer_is_held() -> None:
    """A long poll ends as soon as another process commits something new for the cluster."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.settle()
        started = time.monotonic()
        poll = asyncio.create_task(agent.sync(wait_s=20.0))
        await meanwhile(placed, project, "chat", "eu-west")
        answer = await poll
        assert "desired" in answer.tables
        assert time.monotonic() - started < 15, "not when the poll is over"

    scenario(run)


def test_without_news_the_answer_comes_when_the_time_is_up() -> None:
    """And it brings nothing."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.settle()
        started = time.monotonic()
        answer = await agent.sync(wait_s=0.3)
        assert (answer.tables, answer.refusal) == ({}, None)
        assert time.monotonic() - started >= 0.3

    scenario(run)


def test_a_revoked_key_is_gone_from_the_gateways_at_once() -> None:
    """From the revocation to a keyset without the key at a connected agent: well under five seconds."""
    project = fleet()
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        key, _ = await meanwhile(
            api_key_create, actor=actor, project_id=project.pk, name="k", scopes=("inference",)
        )
        await agent.settle()
        assert agent.entries("keyset", ApiKeyEntry)[str(key.pk)].sha256 == bytes(key.sha256)
        poll = asyncio.create_task(agent.sync(wait_s=20.0))
        await asyncio.sleep(0)
        started = time.monotonic()
        await meanwhile(api_key_revoke, actor=actor, api_key=key)
        answer = await poll
        assert time.monotonic() - started < 15, "not when the poll is over"
        assert answer.tables["keyset"].entries == {}
        assert agent.entries("keyset", ApiKeyEntry) == {}

    scenario(run)


def test_limits_of_a_key_and_its_project_reach_the_gateways_at_once() -> None:
    """Both stand in the key's entry; a change of either wakes a connected agent."""
    project = fleet()
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        key, _ = await meanwhile(
            api_key_create,
            actor=actor,
            project_id=project.pk,
            name="k",
            scopes=("inference",),
            max_priority="high",
            requests_per_minute=60,
        )
        await agent.settle()
        entry = agent.entries("keyset", ApiKeyEntry)[str(key.pk)]
        assert (entry.limits, entry.project_limits) == (RateLimits(requests_per_minute=60), None)
        assert entry.max_priority == "high"
        poll = asyncio.create_task(agent.sync(wait_s=20.0))
        await asyncio.sleep(0)
        await meanwhile(project_change, actor=actor, project=project, concurrent_requests=5)
        await poll
        entry = agent.entries("keyset", ApiKeyEntry)[str(key.pk)]
        assert entry.project_limits == RateLimits(concurrent_requests=5)

    scenario(run)


def test_a_key_without_the_scope_is_in_no_keyset() -> None:
    """A key for the API alone never reaches a gateway, nor one of another organization."""
    project, rival = fleet(), fleet("rival", ("rival-west",))
    for owner, scopes in ((project, ("read",)), (rival, ("inference",))):
        actor = system_actor("tests", organization_id=owner.organization_id, project_id=owner.pk)
        api_key_create(actor=actor, project_id=owner.pk, name="k", scopes=scopes)
    placed(rival, "secret-plans", "rival-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        assert agent.entries("keyset", ApiKeyEntry) == {}
        assert agent.entries("routing", Route) == {}

    scenario(run)


def test_a_restarted_agent_takes_over_and_the_epoch_rises() -> None:
    """Another instance with the state of the first is heard; the answer names the new epoch."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        first = await enrolled(http, project)
        await first.sync()
        second = first.instance()
        assert (await second.sync()).cluster_epoch == 2
        assert (await second.sync()).cluster_epoch == 2

    scenario(run)


def test_an_agent_that_died_before_it_heard_of_its_epoch_is_no_stranger() -> None:
    """Its successor starts from what was on the disk, one epoch behind, and is heard."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        first = await enrolled(http, project)
        await first.sync()
        unlucky = first.instance()
        await unlucky.post(msgspec.json.encode(unlucky.request()))  # the answer is lost with the process
        answer = await first.instance().sync()
        assert (answer.refusal, answer.cluster_epoch) == (None, 3)

    scenario(run)


def test_two_live_agents_with_one_identity_are_both_fenced() -> None:
    """The older is told once that it is superseded; when it counts on, neither gets tables until one enrols anew."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        old = await enrolled(http, project)
        await old.sync()
        new = old.instance()
        await new.sync()
        told = await old.sync()
        assert told.refusal is not None
        assert (told.refusal.rule, "epoch 2" in told.refusal.remedy) == ("superseded", True)
        assert (await new.sync()).refusal is None
        await meanwhile(placed, project, "chat", "eu-west")
        for agent in (old, new):
            answer = await agent.sync()
            assert answer.refusal is not None
            assert (answer.refusal.rule, answer.tables) == ("fenced", {})
        events = await meanwhile(
            lambda: list(Event.objects.filter(severity="error").values_list("reason", flat=True))
        )
        assert events == ["DuplicateAgent"]
        again = await enrolled(http, project)
        answer = await again.sync()
        assert (answer.refusal, "desired" in answer.tables) == (None, True)

    scenario(run)


def test_of_two_with_one_key_only_the_one_that_enrolled_anew_is_heard() -> None:
    """The fence is lifted for who brought the new token, also if the other one is the quicker to call."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        old = await enrolled(http, project)
        await old.sync()
        new = old.instance()
        await new.sync()
        for agent in (old, old, new):
            await agent.sync()
        assert (await old.enrol(await meanwhile(token_for, project, "eu-west"))).status_code == 200
        refused = await new.sync()
        assert refused.refusal is not None
        assert (await old.sync()).refusal is None

    scenario(run)


def test_an_agent_that_died_before_it_kept_its_new_enrolment_asks_again() -> None:
    """Its successor, one epoch behind, is refused, enrols with the same token and is heard: nobody is fenced."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        token = await meanwhile(token_for, project, "eu-west")
        unlucky = agent.instance()
        assert (await unlucky.enrol(token)).status_code == 200  # the answer is lost with the process
        successor = agent.instance()
        assert (await successor.sync()).refusal is not None
        assert (await successor.enrol(token)).status_code == 200
        for _ in range(2):
            assert (await successor.sync()).refusal is None

    scenario(run)


def test_an_older_epoch_is_refused_however_new_the_instance() -> None:
    """A copy of an old state directory cannot take the cluster back."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        copy = agent.instance()
        newer = agent.instance()
        await newer.sync()
        await newer.sync()
        answer = await copy.sync()
        assert answer.refusal is not None
        assert answer.refusal.rule == "superseded"
        assert (await newer.sync()).refusal is None

    scenario(run)


def test_a_replayed_sync_is_refused() -> None:
    """The same bytes again, and the bytes of a former instance, change nothing and bring nothing."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        bodies = [msgspec.json.encode(agent.request()) for _ in range(2)]
        for body in bodies:
            assert (await agent.post(body)).json()["refusal"] is None
        successor = agent.instance()
        await successor.sync()
        for body in bodies * 2:
            answer = (await agent.post(body)).json()
            assert (answer["refusal"]["rule"], answer["tables"]) == ("sequence_replayed", {})
        assert (await successor.sync()).refusal is None

    scenario(run)


def test_an_agent_of_a_later_plane_is_not_rolled_back() -> None:
    """A control plane restored from a back-up says so, names the remedy, and stores and acknowledges nothing."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        answer = await agent.sync(plane_epoch=7)
        assert answer.refusal is not None
        assert (answer.refusal.rule, answer.tables) == ("plane_epoch_behind", {})
        assert "plane_epoch_raise --above 7" in answer.refusal.remedy
        held = {"desired": 1_000, "routing": 1_000, "keyset": 1_000}
        answer = await agent.sync(held=held)
        assert answer.refusal is not None
        assert (answer.refusal.rule, answer.tables) == ("plane_epoch_behind", {})

    scenario(run)


def test_raising_the_epoch_brings_agents_of_a_later_time_back() -> None:
    """After plane_epoch_raise an agent that held more than the restored plane adopts the plane's tables again."""
    project = fleet()
    placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        lost = await meanwhile(placed, project, "lost", "eu-west")
        await agent.sync()
        await meanwhile(_forget, lost)
        assert (await agent.sync()).refusal is not None
        await meanwhile(call_command, "plane_epoch_raise", "--above", "1")
        answer = await agent.sync()
        assert (answer.refusal, answer.plane_epoch, answer.observed_full_wanted) == (None, 2, True)
        assert len(agent.entries("desired", DesiredAssignment)) == 1

    scenario(run)


def _forget(assignment: Assignment) -> None:
    """Make the database what it was before the assignment, as a restored back-up is."""
    assignment.delete()
    compile_tables(assignment.pool.cluster)
    ClusterTable.objects.update(generation=1)


@pytest.mark.parametrize("what", ["unknown cluster", "no UUID", "other key", "no signature", "other bytes"])
def test_strangers_get_one_answer(what: str) -> None:
    """Whatever is wrong, it is the same 401, so nothing can be guessed from it."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        body = msgspec.json.encode(agent.request())
        headers = {
            "unknown cluster": {"x_meridian_cluster": "6a3a2a41-9be4-4d28-9a2b-0123456789ab"},
            "no UUID": {"x_meridian_cluster": "' OR 1=1 --"},
            "no signature": {"x_meridian_signature": ""},
        }.get(what, {})
        if what == "other key":
            agent.key = Agent(http).key
        if what == "other bytes":
            signature = base64.b64encode(agent.key.sign(sync_signed_bytes(body + b" "))).decode()
            headers = {"x_meridian_signature": signature}
        answer = await agent.post(body, **headers)
        assert answer.status_code == 401
        assert answer.json()["detail"] == (
            "not signed by an agent that is enrolled here; enrol with a new token"
        )

    scenario(run)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b'{"a":' * 50_000, b"\xff", b'{"cluster_id": NaN}'], ids=range(6)
)
def test_what_is_no_sync_is_refused(body: bytes) -> None:
    """Signed or not, broken bytes are a 400 and no traceback."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        answer = await agent.post(body)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:meridian:problem:broken_json")

    scenario(run)


def test_bounds_of_a_sync() -> None:
    """Too large a body, another method, numbers past bigint, a wait without end: refused or cut."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        assert (await agent.post(b"x" * (MAX_SYNC_BYTES + 1))).status_code == 413
        assert (await http.get("/agent/v1/sync")).status_code == 405
        for changes in ({"sequence": 2**63}, {"cluster_epoch": -1}, {"held": {"desired": 2**64}}):
            answer = await agent.post(msgspec.json.encode(agent.request(**changes)))
            assert answer.status_code == 400, answer.text
        await agent.settle()
        poll = asyncio.create_task(agent.sync(wait_s=1e300))
        await meanwhile(placed, project, "chat", "eu-west")
        await poll
        in_a_minute = timezone.now() + timedelta(minutes=1)
        assert await meanwhile(AgentSession.objects.filter(lease_expires_at__lt=in_a_minute).exists)

    scenario(run)
