"""What is noticed without anybody asking: leases, signing keys, expired API keys; each step twice and late."""

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.accounts.models import ApiKey
from apps.agents.models import AgentSession, ClusterTable, SigningKey
from apps.agents.services import agents_reconcile, tables_reconcile
from apps.agents.signing import signer_from_pem
from apps.telemetry.models import Event
from tests.apps.agents.world import (
    Agent,
    compile_tables,
    delta,
    enrolled,
    fleet,
    meanwhile,
    placed,
    scenario,
    token_for,
)
from tests.support.waiting import eventually_async
from workloadplane.protocol.routing import ApiKeyEntry, KeySetHeader

pytestmark = pytest.mark.django_db(transaction=True)


def private_key_pem() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def connection_events() -> list[str]:
    found = Event.objects.filter(reason__in=["ClusterConnected", "ClusterDisconnected"])
    return list(found.order_by("id").values_list("reason", flat=True))


def test_a_lease_that_ends_and_returns_is_told_once_each() -> None:
    """However often and late the task runs, each change is one event."""
    project = fleet()
    now = timezone.now()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await meanwhile(agents_reconcile, now=now)  # enrolled, never heard
        assert await meanwhile(connection_events) == []
        await agent.sync()
        for _ in range(2):
            await meanwhile(agents_reconcile, now=timezone.now())
        for _ in range(2):
            await meanwhile(agents_reconcile, now=timezone.now() + timedelta(minutes=1))
        await agent.sync()
        await meanwhile(agents_reconcile, now=timezone.now())

    scenario(run)
    assert connection_events() == ["ClusterConnected", "ClusterDisconnected", "ClusterConnected"]


def test_the_signing_key_is_replaced_without_losing_an_agent(settings: Settings, tmp_path: Path) -> None:
    """Announced by the old key, used after a restart, the old one retired: an agent follows all along."""
    project = fleet()
    placed(project, "chat", "eu-west")
    new_pem = private_key_pem()
    new_file = tmp_path / "new.pem"
    new_file.write_text(new_pem)
    new = signer_from_pem(new_pem, source="test")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        old_id = agent.tables["keyset"].manifest.key_id
        await meanwhile(call_command, "signing_key_rotate", "--announce", str(new_file))
        await agent.sync()
        trusted = agent.header("keyset", KeySetHeader).signing_keys
        assert set(trusted) == {old_id, new.key_id}
        settings.MERIDIAN_SIGNING_KEY = new_pem
        with pytest.raises(CommandError, match="still signs tables"):
            await meanwhile(call_command, "signing_key_rotate", "--retire", old_id)
        await meanwhile(tables_reconcile)
        assert agent.identity is not None
        agent.identity.signing_keys.update(trusted)
        answer = await agent.sync()
        assert {update.manifest.key_id for update in answer.tables.values()} == {new.key_id}
        assert not any(update.entries for update in answer.tables.values())
        await meanwhile(call_command, "signing_key_rotate", "--retire", old_id)
        Ed25519PublicKey.from_public_bytes(trusted[new.key_id])

    scenario(run)


def test_a_key_that_was_never_announced_signs_nothing(settings: Settings) -> None:
    """Agents would refuse it, so the control plane says so in one line instead."""
    project = fleet()
    placed(project, "chat", "eu-west")
    settings.MERIDIAN_SIGNING_KEY = private_key_pem()
    cluster = ClusterTable.objects.all()[0].cluster
    with pytest.raises(ImproperlyConfigured, match="never announced"):
        compile_tables(cluster)
    settings.MERIDIAN_SIGNING_KEY = "nonsense"
    with pytest.raises(ImproperlyConfigured, match="MERIDIAN_SIGNING_KEY is no private key"):
        compile_tables(cluster)
    assert SigningKey.objects.count() == 1


@pytest.mark.parametrize("arguments", [("--announce", "/nowhere"), ("--retire", "0123456789abcdef")])
def test_rotation_refuses_in_one_line(arguments: tuple[str, str]) -> None:
    """What cannot be announced or retired is named."""
    fleet()
    with pytest.raises(CommandError, match=arguments[0]):
        call_command("signing_key_rotate", *arguments)


def test_an_expired_api_key_leaves_the_keyset() -> None:
    """Gateways refuse it by its expiry at once; the table forgets it at the next reconciliation."""
    project = fleet()
    ApiKey.objects.create(
        project=project,
        name="k",
        prefix="mrd_x",
        sha256=b"x" * 32,
        scopes=["inference"],
        expires_at=timezone.now() + timedelta(days=1),
    )

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        assert len(agent.entries("keyset", ApiKeyEntry)) == 1
        await meanwhile(ApiKey.objects.update, expires_at=timezone.now() - timedelta(days=1))
        for _ in range(2):
            await meanwhile(tables_reconcile)
        await agent.sync()
        assert agent.entries("keyset", ApiKeyEntry) == {}

    scenario(run)


def test_compiling_asks_the_same_number_of_queries_however_much_is_placed() -> None:
    """No query per deployment, assignment or cluster."""

    def count(name: str, deployments: int, clusters: tuple[str, ...]) -> int:
        project = fleet(name, clusters)
        for number in range(deployments):
            placed(project, f"d{number}", clusters[number % len(clusters)], compiled=False)
        cluster = project.organization.clusters.all()[0]
        with CaptureQueriesContext(connection) as queries:
            compile_tables(cluster)
        return len(queries)

    count("warm", 1, ("ca-1",))  # registers the signing key
    few = count("few", 1, ("aa-1",))
    many = count("many", 12, ("ba-1", "bb-1", "bc-1", "bd-1"))
    assert few == many
    assert many <= 24


def test_a_heartbeat_touches_one_row() -> None:
    """A sync without news writes the session and nothing else."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {}))
        before = await meanwhile(_fingerprint)
        await agent.sync()
        after = await meanwhile(_fingerprint)
        assert before.keys() == after.keys()
        assert [name for name in before if before[name] != after[name]] == ["agents_agentsession"]

    scenario(run)


def _fingerprint() -> dict[str, str]:
    """Table -> a digest of its rows with their versions."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        names = [name for (name,) in cursor.fetchall()]
        found = {}
        for name in names:
            cursor.execute(f"SELECT md5(string_agg(xmin::text || ctid::text, ',')) FROM \"{name}\"")  # noqa: S608
            found[name] = cursor.fetchone()[0]
    return found


def test_a_listener_that_broke_costs_a_second_and_nothing_else() -> None:
    """With its listening connection killed a held sync still brings the news, and hears again afterwards."""
    project = fleet()

    async def run(http: httpx.AsyncClient) -> None:
        agent = Agent(http)
        await agent.enrol(await meanwhile(token_for, project, "eu-west"))
        await agent.settle()
        for number in range(2):
            poll = asyncio.create_task(agent.sync(wait_s=20.0))
            await eventually_async(lambda: meanwhile(_listeners), what="a listening connection")
            if number == 0:
                await meanwhile(_kill_listeners)
            await meanwhile(placed, project, f"d{number}", "eu-west")
            async with asyncio.timeout(10):
                assert "desired" in (await poll).tables

    scenario(run)
    assert AgentSession.objects.count() == 1


_LISTENING = (
    "FROM pg_stat_activity WHERE query LIKE 'LISTEN meridian_tables%%' AND datname = current_database()"
)


def _listeners() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {_LISTENING}", [])
        return int(cursor.fetchone()[0])


def _kill_listeners() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {_LISTENING}", [])
