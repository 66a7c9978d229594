"""Enrolment: a one-time token binds an agent's own key."""

import asyncio
from datetime import timedelta

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from apps.agents.models import AgentSession, EnrolmentToken
from apps.api.models import AuditEvent
from apps.fleet.services import cluster_retire
from apps.placements.models import PlacementClock
from tests.apps.agents.world import (
    ACTOR,
    Agent,
    cluster_named,
    delta,
    enrolled,
    fleet,
    meanwhile,
    scenario,
    token_for,
)
from workloadplane.protocol.sync import enrol_signed_bytes

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_token_is_good_for_one_agent() -> None:
    """Two agents with one token at once: one is enrolled, the other is told no."""
    project = fleet()
    token = token_for(project, "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        first, second = Agent(http), Agent(http)
        answers = await asyncio.gather(first.enrol(token), second.enrol(token))
        assert sorted(answer.status_code for answer in answers) == [200, 401]
        winner = first if answers[0].status_code == 200 else second
        assert (await winner.sync()).refusal is None

    scenario(run)
    assert PlacementClock.objects.get(organization=project.organization).wanted > 0


def test_the_same_agent_may_ask_again() -> None:
    """An answer that was lost on its way does not cost the operator another token."""
    project = fleet()
    token = token_for(project, "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = Agent(http)
        first, again = await agent.enrol(token), await agent.enrol(token)
        assert first.json() == again.json()
        assert agent.cluster_epoch == 1

    scenario(run)


def test_a_new_token_replaces_whoever_spoke_before() -> None:
    """The epoch rises, and the old key signs nothing any more."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        old = await enrolled(http, project)
        await old.sync()
        new = await enrolled(http, project)
        assert (old.cluster_epoch, new.cluster_epoch) == (1, 2)
        assert (await new.sync()).refusal is None
        assert (await old.post(msgspec.json.encode(old.request()))).status_code == 401

    scenario(run)


@pytest.mark.parametrize("what", ["unknown", "expired", "used", "proof of another key", "empty"])
def test_a_bad_token_is_refused_without_saying_which(what: str) -> None:
    """A stranger learns nothing from the answer, and nothing is bound."""
    project = fleet()
    options = {"valid_for": timedelta(seconds=-1)} if what == "expired" else {}
    token = token_for(project, "eu-west", **options)
    if what == "used":
        EnrolmentToken.objects.update(used_at="2026-01-01T00:00:00Z")

    async def run(http: httpx.AsyncClient) -> None:
        agent = Agent(http)
        sent = {"unknown": token + "x", "empty": ""}.get(what, token)
        changes = {}
        if what == "proof of another key":
            changes["proof"] = Ed25519PrivateKey.generate().sign(enrol_signed_bytes(token))
        answer = await agent.enrol(sent, **changes)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("the enrolment token is unknown, used or expired")

    scenario(run)
    assert not AgentSession.objects.exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"public_key": b"short"}, "/public_key"),
        ({"gateway_url": "file:///etc/passwd"}, "/gateway_url"),
        ({"gateway_url": "http://user:pass@host:1"}, "/gateway_url"),
        ({"gateway_url": "http://host:1/path"}, "/gateway_url"),
        ({"gateway_url": "http://host:99999"}, "/gateway_url"),
        ({"gateway_url": "http://ho\nst:1"}, "/gateway_url"),
        ({"instance_id": ""}, "/instance_id"),
        ({"instance_id": "x" * 37}, "/instance_id"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], pointer: str) -> None:
    """Other clusters' gateways will be sent to the address, so it is no other than an address."""
    project = fleet()
    token = token_for(project, "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        answer = await Agent(http).enrol(token, **changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)

    scenario(run)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"x" * 20_000])
def test_what_is_no_enrolment_is_refused(body: bytes) -> None:
    """Broken, deeply nested, not UTF-8 or too long: one clear answer, never a traceback."""

    async def run(http: httpx.AsyncClient) -> None:
        answer = await http.post("/agent/v1/enrol", content=body)
        assert answer.status_code == (413 if len(body) > 16_384 else 400)
        assert answer.json()["type"].startswith("urn:meridian:problem:")

    scenario(run)


def test_no_token_is_kept() -> None:
    """Only a hash is stored, and neither the audit trail nor an event tells it."""
    project = fleet()
    token = token_for(project, "eu-west")
    secret = token.split("_", 2)[2]  # it may have such a character itself
    row = EnrolmentToken.objects.get()
    assert secret.encode() not in bytes(row.sha256)
    assert secret not in "".join(str(vars(event)) for event in AuditEvent.objects.all())

    async def run(http: httpx.AsyncClient) -> None:
        agent = Agent(http)
        await agent.enrol(token)
        events = await meanwhile(lambda: "".join(str(vars(event)) for event in AuditEvent.objects.all()))
        assert secret not in events
        assert "enrolled" in events

    scenario(run)


def test_the_agent_of_a_retired_cluster_is_refused() -> None:
    """Its key signs nothing any more, and a token from before does not bring it back."""
    project = fleet()
    cluster = cluster_named(project, "eu-west")
    token = token_for(project, "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        assert (await agent.sync()).refusal is None
        await meanwhile(cluster_retire, actor=ACTOR, cluster=cluster)
        assert (await agent.post(msgspec.json.encode(agent.request()))).status_code == 401
        assert (
            await agent.post(msgspec.json.encode(agent.request(observed=delta(2, {}))))
        ).status_code == 401
        assert (await Agent(http).enrol(token)).status_code == 401

    scenario(run)
