"""One virtual time for all clusters of a world: what is to happen to whom, and when the next request ends where."""

from heapq import heappop, heappush
from math import inf
from typing import Protocol

from controlplane.simulation.kernel import Queue
from controlplane.simulation.serving.replicas import SimulatedReplica


class Actor(Protocol):
    """To whom something happens."""

    def happen(self, event: object, now_s: float) -> None:
        """What was put for this moment."""


class Server(Protocol):
    """Whose replicas' requests end."""

    def finish(self, replica: SimulatedReplica, now_s: float) -> None:
        """The request of ``replica`` that ends next has ended."""


class Clock:
    """Single owner: the mode that plays. ``next_s``: before it nothing happens."""

    def __init__(self) -> None:
        self.next_s = inf
        self._queue: Queue[tuple[Actor, object]] = Queue()
        self._ends: list[tuple[float, int, SimulatedReplica, int, Server]] = []
        self._number = 0

    def put(self, at_s: float, actor: Actor, event: object) -> None:
        """Let this happen then. Raises ValueError for a time that has passed."""
        self._queue.put(at_s, (actor, event))
        self.next_s = min(self.next_s, at_s)

    def put_end(self, end_s: float, replica: SimulatedReplica, server: Server) -> None:
        """Its next request ends then, unless ``replica.turn`` is another one by that time."""
        self._number += 1
        heappush(self._ends, (end_s, self._number, replica, replica.turn, server))
        self.next_s = min(self.next_s, end_s)

    def go_on(self, until_s: float) -> None:
        """All that happens up to then."""
        ends, queue = self._ends, self._queue
        while True:
            end_s = ends[0][0] if ends else queue.next_s
            if min(end_s, queue.next_s) > until_s:
                self.next_s = min(end_s, queue.next_s)
                return
            if queue.next_s <= end_s:
                found = queue.take(until_s)
                if found is None:
                    return
                actor, event = found
                actor.happen(event, queue.now_s)
                continue
            at_s, _, replica, turn, server = heappop(ends)
            if turn == replica.turn:
                server.finish(replica, at_s)
