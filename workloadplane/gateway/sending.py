"""The upstream side of one request: its attempts' connections, one at a time, and the load counted for them.

A pooled connection that the replica had closed meanwhile does not count: the request is sent to the same replica
on a fresh one, and nobody hears of it.
"""

import asyncio
from typing import Protocol

from workloadplane.gateway import errors
from workloadplane.gateway.attempt import Attempt
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.upstream import ResponseHead, UpstreamConnection


class Owner(Protocol):
    """Whose attempts these are."""

    def on_sent(self, attempt: Attempt) -> None:
        """The request is about to be written to a connection."""

    def on_answer(self, attempt: Attempt, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        """One read, as ``ResponseSink.on_response``."""

    def on_attempt_lost(self, failure: Failure, cause: str) -> None:
        """The connection could not be had (``connect``) or ended before the answer did (``reset``)."""


class _Nobody:
    """Owns what has ended."""

    def on_sent(self, attempt: Attempt) -> None:
        pass

    def on_answer(self, attempt: Attempt, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        pass

    def on_attempt_lost(self, failure: Failure, cause: str) -> None:
        pass


_NOBODY = _Nobody()


class Sending:
    """See the module. ``attempt``: the one under way, from ``begin`` to ``end``."""

    __slots__ = ("_connecting", "_context", "_owner", "_upstream", "attempt")

    def __init__(self, context: GatewayContext, owner: Owner) -> None:
        self._context = context
        self._owner: Owner = owner
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.attempt: Attempt | None = None

    def begin(self, attempt: Attempt) -> None:
        """Send it on a pooled connection, or on a new one as soon as there is one."""
        self.attempt = attempt
        context, traffic = self._context, attempt.traffic
        if traffic is not None:
            traffic.begin()
            in_flight = context.registry.in_flight
            in_flight[attempt.name] = in_flight.get(attempt.name, 0) + 1
            if attempt.anew_bytes:
                attempt.burden = context.affinity.put_on(attempt.name, attempt.anew_bytes)
        connection = None if attempt.afresh else context.pool.take(attempt.target)
        if connection is not None:
            self._send(connection, attempt)
        else:
            self._connect(attempt)

    def end(self) -> None:
        """Let go of the upstream connection and of the load that was counted for it."""
        attempt = self.attempt
        if attempt is None:
            return
        self.attempt = None
        traffic, name = attempt.traffic, attempt.name
        if traffic is not None:
            traffic.end()
            if attempt.burden:
                self._lift(attempt)
            in_flight = self._context.registry.in_flight
            left = in_flight[name] - 1
            if left:
                in_flight[name] = left
            else:
                del in_flight[name]
        upstream, connecting = self._upstream, self._connecting
        if upstream is not None:
            self._upstream = None
            upstream.abandon()
        if connecting is not None:
            self._connecting = None
            connecting.cancel()

    def close(self) -> None:
        """Its owner has ended: let go of it, so that both go at once and none is left to the garbage collector."""
        self.end()
        self._owner = _NOBODY

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def _lift(self, attempt: Attempt) -> None:
        self._context.affinity.lift(attempt.name, attempt.burden)
        attempt.burden = 0.0

    def _connect(self, attempt: Attempt) -> None:
        self._connecting = self._context.loop.create_task(self._connect_and_send(attempt))

    async def _connect_and_send(self, attempt: Attempt) -> None:
        try:
            connection = await self._context.pool.connect(attempt.target)
        except (OSError, ValueError):  # the latter: a host name that cannot even be looked up
            self._connecting = None
            self._owner.on_attempt_lost(errors.upstream_unreachable(), "connect")
            return
        if self.attempt is not attempt:
            connection.abandon()
            return
        self._connecting = None
        self._send(connection, attempt)

    def _send(self, connection: UpstreamConnection, attempt: Attempt) -> None:
        self._upstream = connection
        attempt.was_sent = True
        self._owner.on_sent(attempt)
        connection.send(self, attempt.head, attempt.body)

    # The connection's calls

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        attempt = self.attempt
        if attempt is None:
            return
        if complete:
            self._upstream = None  # it is the pool's again
        if head is not None:
            attempt.answered = True
        if data and attempt.burden:  # an engine sends a stream's head before it has computed anything
            self._lift(attempt)
        self._owner.on_answer(attempt, head, data, complete)

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        attempt, upstream = self.attempt, self._upstream
        self._upstream = None
        if attempt is None:
            return
        if not attempt.answered and valid_http and upstream is not None and not upstream.fresh:
            self._connect(attempt)  # closed while it lay in the pool; on a fresh one it counts
        else:
            failure = errors.upstream_unreachable() if valid_http else errors.upstream_invalid()
            self._owner.on_attempt_lost(failure, "reset")
