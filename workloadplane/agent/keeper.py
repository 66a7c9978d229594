"""Writes to the disk what must not be waited for, from a worker thread, the newest only.

Gateways are told before the disk is: a file that can't be written must not keep a dead replica in use. What the disk
refuses is told to the control plane (``unkept``) and tried again.
"""

import asyncio
import threading
from collections.abc import Callable

import structlog

from workloadplane.agent.disk import AgentIdentity, ObservedFile, ScalingFile, StateDir
from workloadplane.agent.tables import Tables
from workloadplane.protocol.local import EndpointSet

_log = structlog.get_logger(__name__)

_RETRY_S = 5.0


class Keeper:
    """Holds the newest of each file until it is written. ``unkept``: why the disk refuses; empty while it does not."""

    def __init__(self, disk: StateDir, tables: Tables, *, on_change: Callable[[], None]) -> None:
        """``on_change`` is called from the loop of ``run`` when ``unkept`` has changed."""
        self.unkept = ""
        self._disk = disk
        self._tables = tables
        self._on_change = on_change
        self._told = ""
        self._identity: AgentIdentity | None = None
        self._endpoints: EndpointSet | None = None
        self._observed: ObservedFile | None = None
        self._scaling: ScalingFile | None = None
        self._writing = threading.Lock()
        self._due = asyncio.Event()

    def keep_identity(self, identity: AgentIdentity) -> None:
        self._identity = identity
        self._due.set()

    def keep_tables(self) -> None:
        """Those in force that the disk has refused."""
        self._due.set()

    def keep_endpoints(self, endpoints: EndpointSet) -> None:
        self._endpoints = endpoints
        self._due.set()

    def keep_observed(self, observed: ObservedFile) -> None:
        self._observed = observed
        self._due.set()

    def keep_scaling(self, scaling: ScalingFile) -> None:
        self._scaling = scaling
        self._due.set()

    async def run(self) -> None:
        """Write until cancelled; what the disk refuses is tried again."""
        while True:
            await self._due.wait()
            self._due.clear()
            kept = await asyncio.to_thread(self.flush)
            if self.unkept != self._told:
                self._told = self.unkept
                self._on_change()
            if not kept:
                await asyncio.sleep(_RETRY_S)
                self._due.set()

    def flush(self) -> bool:
        """Write what is not written yet; whether the disk took it all."""
        with self._writing:
            try:
                self._write()
            except OSError as error:
                _log.error("state can't be kept on the disk", reason=str(error))
                self.unkept = error.strerror or type(error).__name__
                return False
            self.unkept = ""
            return True

    def _write(self) -> None:
        """Raises OSError at the first file that is refused."""
        identity, endpoints, observed = self._identity, self._endpoints, self._observed
        if identity is not None:
            self._disk.write_identity(identity)
            if self._identity is identity:
                self._identity = None
        self._tables.keep()
        if endpoints is not None:
            self._disk.write_endpoints(endpoints)
            if self._endpoints is endpoints:
                self._endpoints = None
        if observed is not None:
            self._disk.write_observed(observed)
            if self._observed is observed:
                self._observed = None
        scaling = self._scaling
        if scaling is not None:
            self._disk.write_scaling(scaling)
            if self._scaling is scaling:
                self._scaling = None
