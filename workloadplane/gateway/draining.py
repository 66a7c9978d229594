"""The end of a process that serves: what runs is finished up to a bound, what is idle goes to the successor."""

import asyncio
from time import monotonic

import structlog

from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.dispatch import Gateway
from workloadplane.gateway.handover.neighbours import Neighbours
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.tls_handshakes import Handshakes

_log = structlog.get_logger(__name__)
_AGAIN_S = 0.05
_SAY_CLOSE_S = 1.0
_LAST_BYTES_S = 0.1


class Draining:
    """Once per process, after it has stopped accepting."""

    def __init__(
        self, context: GatewayContext, gateway: Gateway, neighbours: Neighbours, handshakes: Handshakes
    ) -> None:
        self._context = context
        self._gateway = gateway
        self._neighbours = neighbours
        self._handshakes = handshakes
        self._deadline_s = 0.0

    async def run(self) -> None:
        """Until no client is left, or time is over: then what still runs is told so and cut off."""
        self._gateway.draining = True
        _log.info("gateway drains", requests=len(self._context.relays))
        self._deadline_s = monotonic() + self._context.limits.drain_timeout_s
        while (now_s := monotonic()) < self._deadline_s:
            for connection in list(self._gateway.connections):
                if connection.is_idle:
                    self._part_from(connection, now_s)
            if now_s > self._deadline_s - _SAY_CLOSE_S:
                self._context.websockets.drain_over()
            if not self._gateway.connections and not self._handshakes.running(now_s):
                return
            await asyncio.sleep(_AGAIN_S)
        await self._cut_off()

    def _part_from(self, connection: ClientConnection, now_s: float) -> None:
        """An idle TLS connection cannot be passed on. A request may be on its way on it, so it is not closed

        under the client's hands: the next answer says that it is the last, or its time as an idle one ends.
        """
        if self._neighbours.has_successor and not connection.is_tls:
            self._neighbours.pass_idle(connection)
        elif not self._neighbours.has_successor or now_s > self._deadline_s - _SAY_CLOSE_S:
            connection.close_idle()

    async def _cut_off(self) -> None:
        for relay in list(self._context.relays):
            relay.on_drain_over()
        await asyncio.sleep(_LAST_BYTES_S)
        for connection in list(self._gateway.connections):
            connection.abort()
