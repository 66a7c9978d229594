"""Writes what changes often to the disk, from a worker thread, the newest only.

Gateways are told before the disk is: a file that can't be written must not keep a dead replica in use.
"""

import asyncio

import structlog

from workloadplane.agent.disk import ObservedFile, StateDir
from workloadplane.protocol.local import EndpointSet

_log = structlog.get_logger(__name__)

_RETRY_S = 5.0


class Keeper:
    """Holds the newest of each file until it is written."""

    def __init__(self, disk: StateDir) -> None:
        self._disk = disk
        self._endpoints: EndpointSet | None = None
        self._observed: ObservedFile | None = None
        self._due = asyncio.Event()

    def keep_endpoints(self, endpoints: EndpointSet) -> None:
        self._endpoints = endpoints
        self._due.set()

    def keep_observed(self, observed: ObservedFile) -> None:
        self._observed = observed
        self._due.set()

    async def run(self) -> None:
        """Write until cancelled; what the disk refuses is tried again."""
        while True:
            await self._due.wait()
            self._due.clear()
            if not await asyncio.to_thread(self.flush):
                await asyncio.sleep(_RETRY_S)
                self._due.set()

    def flush(self) -> bool:
        """Write what is not written yet; whether the disk took it all."""
        endpoints, observed = self._endpoints, self._observed
        try:
            if endpoints is not None:
                self._disk.write_endpoints(endpoints)
                if self._endpoints is endpoints:
                    self._endpoints = None
            if observed is not None:
                self._disk.write_observed(observed)
                if self._observed is observed:
                    self._observed = None
        except OSError as error:
            _log.error("state can't be kept on the disk", reason=str(error))
            return False
        return True
