"""The connections of one event loop: a pool without ORM, and threads for the services that use it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from threading import Barrier
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.db import close_old_connections, connections
from psycopg_pool import AsyncConnectionPool

from apps.agents.services.plane_restored import IDENTITY_SQL

P = ParamSpec("P")
R = TypeVar("R")

POOL_SIZE_MAX = 8
SERVICE_THREADS = 4
ACQUIRE_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 3

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


def connection_parameters() -> dict[str, Any]:
    """How Django reaches its database, for a connection of our own."""
    parameters = dict(connections["default"].get_connection_params())
    for own in ("cursor_factory", "context", "client_encoding", "prepare_threshold"):
        parameters.pop(own, None)
    return {"connect_timeout": CONNECT_TIMEOUT_S, **parameters}


class WireDatabase:
    """Opened by its first use, closed with the server. Used by one event loop."""

    def __init__(self) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection] | None = None
        self._threads = ThreadPoolExecutor(max_workers=SERVICE_THREADS, thread_name_prefix="agent-wire")
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit mode. Raises psycopg.OperationalError while the database is away."""
        async with self._opening:
            if self._pool is None:
                self._pool = AsyncConnectionPool(
                    kwargs={**connection_parameters(), "autocommit": True},
                    min_size=0,
                    max_size=POOL_SIZE_MAX,
                    timeout=ACQUIRE_TIMEOUT_S,
                    open=False,
                    check=None,
                    configure=_of_this_database,
                    reconnect_timeout=1.0,
                    name="agent-wire",
                )
                await self._pool.open()
        async with self._pool.connection() as connection:
            yield connection

    async def service(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a service of Django's world on one of the threads, and return what it returns or raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(_in_thread, function, args, kwargs))

    async def close(self) -> None:
        """Give all connections back; those of the threads by ending the threads."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        loop = asyncio.get_running_loop()
        together = Barrier(SERVICE_THREADS)  # else a quick thread closes for a slow one, which keeps its own
        closing = [loop.run_in_executor(self._threads, _close_all, together) for _ in range(SERVICE_THREADS)]
        await asyncio.gather(*closing)
        self._threads.shutdown(wait=True)


_SAME = f"SELECT database_identity IN ('', {IDENTITY_SQL}) FROM agents_planestate WHERE id = 1"  # noqa: S608


async def _of_this_database(connection: AsyncConnection) -> None:
    """No agent is answered from a database of an earlier time before the plane's epoch has risen for it."""
    cursor = await connection.execute(_SAME)
    row = await cursor.fetchone()
    if row is not None and not row[0]:
        raise psycopg.OperationalError("another database than before: the plane epoch is about to rise")


def _close_all(together: Barrier) -> None:
    together.wait()
    connections.close_all()


def _in_thread(function: Callable[..., R], args: Any, kwargs: Any) -> R:
    """What Django does around a request: no connection is used past its age or after it broke."""
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()
