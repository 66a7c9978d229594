"""Requests that wait for a replica to start: bounded by count, bytes and time, released in order."""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from workloadplane.gateway.limits import Limits


class Held(Protocol):
    """A request that can wait."""

    @property
    def body_bytes(self) -> int:
        """What it takes while it waits."""

    def choose(self) -> None:
        """Try again; holds itself anew if there is still nothing."""


class Holding:
    """By deployment, first come first released."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: dict[str, deque[Held]] = {}
        self._count = 0
        self._bytes = 0

    def can_hold(self, body_bytes: int) -> bool:
        return (
            self._count < self._limits.hold_requests_max
            and self._bytes + body_bytes <= self._limits.hold_bytes_max
        )

    def hold(self, deployment_id: str, held: Held) -> None:
        self._queues.setdefault(deployment_id, deque()).append(held)
        self._count += 1
        self._bytes += held.body_bytes

    def drop(self, deployment_id: str, held: Held) -> None:
        """It waits no more: its client has gone or its time is over."""
        queue = self._queues.get(deployment_id)
        if queue is not None and held in queue:
            queue.remove(held)
            self._left(deployment_id, held)

    def deployments(self) -> Iterator[str]:
        """For which something waits."""
        return iter(tuple(self._queues))

    def release(self, deployment_id: str) -> None:
        """Let all that wait for this deployment try again, in order."""
        queue = self._queues.get(deployment_id)
        for _ in range(len(queue) if queue else 0):
            if not queue:
                return
            held = queue.popleft()
            self._left(deployment_id, held)
            held.choose()
            queue = self._queues.get(deployment_id)

    def _left(self, deployment_id: str, held: Held) -> None:
        self._count -= 1
        self._bytes -= held.body_bytes
        if not self._queues[deployment_id]:
            del self._queues[deployment_id]
