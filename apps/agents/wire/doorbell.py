"""Who waits for which cluster's tables, and who wakes them.

PostgreSQL's NOTIFY is a hint that something is new for a cluster; whether it is, and what, a waiter reads from the
tables themselves. So a lost hint costs time and nothing else: waiters look by themselves every few seconds, and
every second while the listening connection is broken.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import structlog

from apps.agents.services.tables_store import CHANNEL
from apps.agents.wire.database import connection_parameters

_log = structlog.get_logger(__name__)

WAITERS_MAX = 10_000
LOOK_EVERY_S = 5.0
LOOK_EVERY_S_DEAF = 1.0
_RECONNECT_PAUSE_S = 1.0


class Bell:
    """One waiter's place at the doorbell."""

    def __init__(self, doorbell: "Doorbell") -> None:
        self._doorbell = doorbell
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, longest_s: float) -> None:
        """Until it rings, or it is time to look anyway."""
        look_every_s = LOOK_EVERY_S if self._doorbell.hears else LOOK_EVERY_S_DEAF
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(longest_s, look_every_s)):
                await self._rung.wait()
        self._rung.clear()


class Doorbell:
    """One listening connection for all waiters of a process. Used by one event loop."""

    def __init__(self) -> None:
        self.hears = False
        self._bells: dict[str, set[Bell]] = {}
        self._waiters = 0
        self._listener: asyncio.Task[None] | None = None

    @property
    def waiters(self) -> int:
        return self._waiters

    @contextmanager
    def bell(self, cluster_id: str) -> Iterator[Bell | None]:
        """A place from now on, taken before one looks so that nothing falls between; None if too many wait."""
        if self._waiters >= WAITERS_MAX:
            yield None
            return
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="agent-wire-doorbell")
        bell = Bell(self)
        self._bells.setdefault(cluster_id, set()).add(bell)
        self._waiters += 1
        try:
            yield bell
        finally:
            self._waiters -= 1
            bells = self._bells[cluster_id]
            bells.discard(bell)
            if not bells:
                del self._bells[cluster_id]

    async def close(self) -> None:
        """Stop listening and let all waiters look a last time."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        self._ring_all()

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    **connection_parameters(), autocommit=True
                ) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self.hears = True
                    self._ring_all()  # for what was said while nobody listened
                    async for notice in connection.notifies():
                        for bell in self._bells.get(notice.payload, ()):
                            bell.ring()
            except psycopg.Error as error:
                _log.warning("not told of new tables, looking every second", reason=str(error).strip()[:200])
            finally:
                self.hears = False
                self._ring_all()
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    def _ring_all(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.ring()
