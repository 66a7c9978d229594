"""The wire's own way to the database."""

import asyncio
from threading import Barrier

import pytest
from django.db import connection

from apps.agents.wire.database import SERVICE_THREADS, WireDatabase
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


def _session(together: Barrier) -> int:
    together.wait()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _living(sessions: list[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [sessions])
        return int(cursor.fetchone()[0])
