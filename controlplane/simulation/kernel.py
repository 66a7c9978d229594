"""Virtual time: what is to happen, in order. Equal times keep the order in which they were put in."""

import heapq
import math
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Queue(Generic[Event]):
    """Events by time. ``now_s`` is the time of the last one taken; it never goes back. Single owner."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Event]] = []
        self._put = 0

    def put(self, at_s: float, event: Event) -> None:
        """Let something happen at ``at_s``. Raises ValueError for a time that has passed."""
        if at_s < self.now_s:
            raise ValueError(f"at_s is {at_s}, and it is {self.now_s} already; give a time to come")
        heapq.heappush(self._heap, (at_s, self._put, event))
        self._put += 1

    @property
    def next_s(self) -> float:
        """When the next one happens; infinite where there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def take(self, until_s: float) -> Event | None:
        """The next event up to ``until_s``; None, and the time is ``until_s``, where there is no more."""
        if not self._heap or self._heap[0][0] > until_s:
            self.now_s = max(self.now_s, until_s)
            return None
        self.now_s, _, event = heapq.heappop(self._heap)
        return event
