"""All sources of notices, looked at again and again; what they say is in force until they say that it is not.

A source that can't be read takes nothing back: after its deadline capacity is believed gone until it is seen again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import chain

import structlog

from workloadplane.agent.notices.sources import Source
from workloadplane.health.notices import Departure, departure
from workloadplane.protocol.observed import Notice

_log = structlog.get_logger(__name__)


class NoticeWatch:
    """One per agent, owned by its event loop."""

    def __init__(self, sources: Sequence[Source], *, poll_s: float, on_change: Callable[[], None]) -> None:
        """``on_change`` is called when ``departures`` is another than before."""
        self._sources = sources
        self._poll_s = poll_s
        self._on_change = on_change
        self._known: list[tuple[Departure, ...]] = [() for _ in sources]

    @property
    def departures(self) -> tuple[Departure, ...]:
        """What leaves or has left."""
        return tuple(chain.from_iterable(self._known))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The same for the control plane, each once."""
        return tuple(dict.fromkeys(each.notice for each in self.departures))

    async def look(self) -> None:
        """Read all sources once."""
        await asyncio.gather(*(self._read(index) for index in range(len(self._sources))))

    async def run(self) -> None:
        """Until cancelled. Each source has its own pace: one that is slow keeps no other waiting."""
        async with asyncio.TaskGroup() as group:
            for index in range(len(self._sources)):
                group.create_task(self._watch(index))

    async def _watch(self, index: int) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self._read(index)
            except Exception:
                _log.exception("a source of notices failed", source=self._sources[index].name)

    async def _read(self, index: int) -> None:
        notices = await self._sources[index].read()
        if notices is None:
            return
        before = {each.notice: each for each in self._known[index]}
        wall, now = time.time(), time.monotonic()
        self._known[index] = tuple(
            before.get(notice) or departure(notice, left_s=notice.deadline_at - wall, now=now)
            for notice in dict.fromkeys(notices)
        )
        after = {each.notice for each in self._known[index]}
        for notice in sorted(after - before.keys(), key=str):
            _log.warning(
                "capacity will be taken back",
                pool=notice.pool,
                node=notice.node,
                left_s=round(notice.deadline_at - wall, 1),
                reason=notice.reason,
                provider=notice.provider,
            )
        for notice in sorted(before.keys() - after, key=str):
            _log.info("a notice is withdrawn", pool=notice.pool, node=notice.node)
        if after != before.keys():
            self._on_change()
