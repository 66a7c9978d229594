"""The wire's own way to the database."""

import asyncio
from threading import Barrier

import httpx
import pytest
from django.db import connection
from psycopg import AsyncConnection, AsyncCursor

from apps.agents.models import ClusterTable
from apps.agents.wire.database import SERVICE_THREADS, WireDatabase
from apps.agents.wire.heartbeat import standing
from apps.fleet.models import Cluster
from tests.apps.agents.world import cluster_named, enrolled, fleet, meanwhile, placed, scenario
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def test_closing_leaves_no_thread_connected() -> None:
    """Each thread's session at PostgreSQL ends, however unevenly the threads are scheduled."""

    async def scenario() -> list[int]:
        database = WireDatabase()
        together = Barrier(SERVICE_THREADS)
        opening = [database.service(_session, together) for _ in range(SERVICE_THREADS)]
        sessions = await asyncio.gather(*opening)
        await database.close()
        return sessions

    sessions = asyncio.run(scenario())
    assert len(set(sessions)) == SERVICE_THREADS
    eventually(lambda: not _living(sessions), what="the sessions have ended")


def test_each_table_has_its_own_generation_however_postgresql_reads_them() -> None:
    """It may find their kinds in an index, in one order, and their generations in the table, in another."""
    project = fleet()
    placed(project, "chat", "eu-west")
    cluster = cluster_named(project, "eu-west")
    forced = {
        **connection.get_connection_params(),
        "options": "-c enable_indexscan=off -c enable_bitmapscan=off -c seq_page_cost=1000",
    }
    told: dict[str, int] = {}

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await meanwhile(_number_tables, cluster)
        async with await AsyncConnection.connect(**{**forced, "cursor_factory": AsyncCursor}) as own:
            beat = await standing(
                own,
                instance_id=agent.instance_id,
                cluster_epoch=agent.cluster_epoch,
                cluster_id=cluster.pk,
                public_key=agent.key.public_key().public_bytes_raw(),
            )
        assert beat is not None
        told.update(beat.generations)

    scenario(run)
    assert told == {"routing": 7, "keyset": 8, "desired": 9}


def _number_tables(cluster: Cluster) -> None:
    for number, kind in enumerate(("routing", "keyset", "desired"), start=7):
        ClusterTable.objects.filter(cluster=cluster, kind=kind).update(generation=number)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM agents_clustertable")  # so that an index alone may be read


def _session(together: Barrier) -> int:
    together.wait()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _living(sessions: list[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [sessions])
        return int(cursor.fetchone()[0])
