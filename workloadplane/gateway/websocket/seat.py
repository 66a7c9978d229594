"""A session's place at its replica: one of the sessions there, and a seat while the replica computes for it.

An open session costs a replica a socket and some memory, for hours perhaps; a response costs what any request does.
So sessions are bounded in number for themselves, and only a response takes a seat from the requests. What has begun
cannot be refused any more: a response in a session may find all seats taken and takes one more.
"""

from workloadplane.gateway.attempt import Attempt
from workloadplane.gateway.context import GatewayContext


class Seat:
    """One session's, at the replica of one attempt; a peer counts its own. ``taken``: it counts as a request."""

    __slots__ = ("_context", "_name", "_traffic", "taken")

    def __init__(self, context: GatewayContext, attempt: Attempt) -> None:
        self._context = context
        self._name = attempt.name
        self._traffic = attempt.traffic
        self.taken = False
        if self._traffic is not None:
            context.sessions_at[self._name] += 1
        self.take()

    def take(self) -> None:
        if self._traffic is None or self.taken:
            return
        self.taken = True
        self._traffic.begin()
        in_flight = self._context.registry.in_flight
        in_flight[self._name] = in_flight.get(self._name, 0) + 1

    def leave(self) -> None:
        """Stay a session without a seat; the next in the queue may have it."""
        if self._traffic is None or not self.taken:
            return
        self.taken = False
        self._traffic.end()
        in_flight = self._context.registry.in_flight
        in_flight[self._name] -= 1
        if not in_flight[self._name]:
            del in_flight[self._name]
        self._context.turns.soon(self._traffic.deployment_id)

    def give_up(self) -> None:
        """The session is there no more."""
        self.leave()
        if self._traffic is not None:
            sessions = self._context.sessions_at
            sessions[self._name] -= 1
            if not sessions[self._name]:
                del sessions[self._name]
            self._context.turns.soon(self._traffic.deployment_id)


def full_of_sessions(context: GatewayContext) -> frozenset[str]:
    """Replicas that have as many sessions as they may."""
    most = context.limits.websockets_per_replica_max
    return frozenset(name for name, count in context.sessions_at.items() if count >= most)


def is_leaving(context: GatewayContext, attempt: Attempt | None) -> bool:
    """Whether its replica is being stopped: a session at rest is told to connect again, and meets another."""
    if attempt is None or attempt.traffic is None:
        return False
    endpoint = context.registry.endpoints.get(attempt.name)
    return endpoint is None or endpoint.state != "ready"
