"""A database of an earlier time: noticed by itself or by agents, and no agent is rolled back."""

import httpx
import msgspec
import psycopg
import pytest

from apps.agents.models import ClusterTable, PlaneState
from apps.agents.services import plane_restored_settle
from apps.agents.services.plane_restored import IDENTITY_SQL
from apps.agents.wire.database import WireDatabase, connection_parameters
from apps.api.models import AuditEvent
from apps.telemetry.models import Event
from tests.apps.agents.world import enrolled, fleet, meanwhile, placed, scenario

pytestmark = pytest.mark.django_db(transaction=True)


def test_another_database_raises_the_epoch_once() -> None:
    """The first one is noted; the same one is no news; another one raises, and that is audited."""
    assert plane_restored_settle() is None
    assert plane_restored_settle() is None
    assert PlaneState.objects.get().plane_epoch == 1
    identity = PlaneState.objects.get().database_identity
    assert identity != _identity_of_another_database()
    PlaneState.objects.update(database_identity=_identity_of_another_database())
    assert plane_restored_settle() == 2
    assert plane_restored_settle() is None
    assert PlaneState.objects.get().database_identity == identity
    assert AuditEvent.objects.filter(action="plane_epoch_raised").count() == 1


def _identity_of_another_database() -> str:
    """What a back-up that is restored beside it would be known by: one more database of the same server."""
    with psycopg.connect(**{**connection_parameters(), "dbname": "postgres"}, autocommit=True) as other:
        row = other.execute(f"SELECT {IDENTITY_SQL}").fetchone()
    assert row is not None
    return str(row[0])


def test_no_agent_is_answered_from_it_before_that() -> None:
    """503 until the epoch has risen; then the agent, which holds later tables, follows the new epoch."""
    project = fleet()
    placed(project, "chat", "eu-west")
    plane_restored_settle()

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        held = {kind: table.generation for kind, table in agent.tables.items()}
        await meanwhile(PlaneState.objects.update, database_identity="7300000000000000000/00000001/5")
        database = WireDatabase()
        with pytest.raises((psycopg.OperationalError, psycopg.Error, TimeoutError)):
            async with database.connection():
                pass
        await database.close()
        assert await meanwhile(plane_restored_settle) == 2
        answer = await agent.sync()
        assert (answer.refusal, answer.plane_epoch) == (None, 2)
        assert all(agent.tables[kind].generation > held[kind] + 1000 for kind in held)

    scenario(run)


def test_an_agent_that_knows_more_than_the_database_is_told_of_once() -> None:
    """Set back in place, nothing else shows it: an event names the command, and nothing is sent or stored."""
    project = fleet()
    placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync()
        await meanwhile(ClusterTable.objects.update, generation=0)
        for _ in range(2):
            answer = msgspec.structs.asdict(await agent.sync())
            assert answer["refusal"].rule == "plane_epoch_behind"
            assert answer["tables"] == {}

    scenario(run)
    event = Event.objects.get(reason="PlaneBehind")
    assert event.severity == "error"
    assert "plane_epoch_raise" in event.message
