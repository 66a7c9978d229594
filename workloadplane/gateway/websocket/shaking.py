"""The engine's side of one session before its tunnel: attempts one at a time, and the load counted for them."""

import asyncio
from typing import Protocol

from workloadplane.gateway import errors
from workloadplane.gateway.attempt import Attempt
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.websocket.engine import EngineSink, EngineSocket
from workloadplane.gateway.websocket.seat import Seat


class Owner(EngineSink, Protocol):
    """Whose attempts these are; the answers come to it as the socket's sink."""

    def on_sent(self, attempt: Attempt) -> None:
        """The handshake has been written."""

    def on_attempt_lost(self, failure: Failure, cause: str) -> None:
        """The connection could not be had."""


class Shaking:
    """See the module. ``attempt``: the one under way, or that the tunnel came of; ``engine``, ``seat``: its own."""

    __slots__ = ("_connecting", "_context", "_expected_accept", "_owner", "attempt", "engine", "seat")

    def __init__(self, context: GatewayContext, owner: Owner) -> None:
        self._context = context
        self._owner = owner
        self._connecting: asyncio.Task[None] | None = None
        self._expected_accept = b""
        self.attempt: Attempt | None = None
        self.engine: EngineSocket | None = None
        self.seat: Seat | None = None

    @property
    def expected_accept(self) -> bytes:
        """The ``Sec-WebSocket-Accept`` of a sound answer."""
        return self._expected_accept

    def begin(self, attempt: Attempt, expected_accept: bytes) -> None:
        """Connect and send the handshake."""
        self.attempt = attempt
        self._expected_accept = expected_accept
        self.seat = Seat(self._context, attempt)
        self._connecting = self._context.loop.create_task(self._connect(attempt))

    async def _connect(self, attempt: Attempt) -> None:
        try:
            engine = await self._context.pool.open(attempt.target, lambda: EngineSocket(self._owner))
        except (OSError, ValueError):  # the latter: a host name that cannot even be looked up
            self._connecting = None
            self._owner.on_attempt_lost(errors.upstream_unreachable(), "connect")
            return
        if self.attempt is not attempt:
            engine.abort()
            return
        self._connecting = None
        self.engine = engine
        attempt.was_sent = True
        self._owner.on_sent(attempt)
        engine.write(attempt.head)

    def end(self, *, abort: bool) -> None:
        """Let go of the load that was counted, and of the socket, unless a tunnel ends it in its own way."""
        self.attempt = None
        seat, self.seat = self.seat, None
        if seat is not None:
            seat.give_up()
        engine, self.engine = self.engine, None
        if engine is not None and abort:
            engine.abort()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
