"""Connections to replicas and peer gateways that lie unused, and how further ones are made."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import structlog

from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.tls import Reloading, client_tls
from workloadplane.gateway.upstream import Target, UpstreamConnection

_log = structlog.get_logger(__name__)
_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class UpstreamPool:
    """Idle connections by target, the most recently used first."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        idle_connections_max: int,
        tls: Reloading | None = None,
        cohort: Cohort | None = None,
    ) -> None:
        """``cohort``: with which whole answers are passed on; ``None``: each at once."""
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._idle_connections_max = idle_connections_max
        self._idle: dict[Target, deque[UpstreamConnection]] = {}
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self.cohort = cohort or Cohort(self._loop)

    def take(self, target: Target) -> UpstreamConnection | None:
        """An idle connection that seems alive, if there is one."""
        idle = self._idle.get(target)
        if not idle:
            return None
        now_s = monotonic()
        while idle:
            connection = idle.pop()
            if connection.seems_alive(now_s):
                return connection
            connection.abandon()
        return None

    async def connect(self, target: Target) -> UpstreamConnection:
        """A new connection. Raises OSError (also for a time-out)."""
        return await self.open(target, lambda: UpstreamConnection(self, target))

    async def open(self, target: Target, protocol: Callable[[], _Protocol]) -> _Protocol:
        """A new connection that is not pooled, for another protocol. Raises OSError (also for a time-out)."""
        async with asyncio.timeout(self._connect_timeout_s):
            if not target.tls:
                _, connection = await self._loop.create_connection(protocol, target.host, target.port)
                return connection
            if self._tls is None:
                self._tls = client_tls(None)  # only now: the system's authorities take time and memory
            name = target.name or target.host
            try:
                _, connection = await self._loop.create_connection(
                    protocol, target.host, target.port, ssl=self._tls.made, server_hostname=name
                )
            except ssl.SSLError as error:
                _log.warning("TLS refused", host=target.host, port=target.port, name=name, reason=str(error))
                raise
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request."""
        idle = self._idle.get(connection.target)
        if idle is None:
            idle = self._idle[connection.target] = deque()
        if len(idle) >= self._idle_connections_max:
            connection.abandon()
            return
        connection.idle_since_s = monotonic()
        idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """It has closed."""
        idle = self._idle.get(connection.target)
        if idle is None:
            return
        if connection in idle:
            idle.remove(connection)
        if not idle:
            del self._idle[connection.target]

    def expire(self, now_s: float) -> None:
        """Close those that were idle for too long."""
        for idle in list(self._idle.values()):
            while idle and now_s - idle[0].idle_since_s >= self._idle_timeout_s:
                idle.popleft().abandon()
            for connection in [each for each in idle if now_s >= each.kept_until_s]:
                idle.remove(connection)
                connection.abandon()

    def close(self) -> None:
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.abandon()
