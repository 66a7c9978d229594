"""What an agent tells its autoscaler of the work that arrives, here with the mean work of a request known."""

import math
from collections import deque

from workloadplane.autoscaling import WorkSeen

#: As an agent does: arrivals are averaged over as long as a request takes, within these.
AVERAGED_S = (5.0, 120.0)


class Averaged:
    """The mean of what came over as long as a request takes. ``request_s``: seconds of one, on one of the seats."""

    def __init__(self, request_s: float) -> None:
        self._over_s = min(max(request_s, AVERAGED_S[0]), AVERAGED_S[1])
        self._parts: deque[tuple[float, float, float]] = deque()

    def step(self, now_s: float, amount: float, over_s: float) -> float:
        """A second's amount, with what came in the last ``over_s``."""
        self._parts.append((now_s, amount, over_s))
        while now_s - self._parts[0][0] >= self._over_s:
            self._parts.popleft()
        return sum(part[1] for part in self._parts) / sum(part[2] for part in self._parts)


class Floor:
    """No less demand than what is in flight keeps busy, as an agent reckons.

    That tells nothing where requests wait or have just waited: all seats are taken, however many there are.
    """

    def __init__(self, request_s: float, seats: int) -> None:
        """``request_s``: seconds of a request on one of the ``seats``."""
        self._request_s, self._seats = request_s, seats
        self._full_until = -math.inf

    def demand(self, now_s: float, arriving: float, *, in_flight: float, wait: bool) -> float:
        """In replicas."""
        if wait:
            self._full_until = now_s + self._request_s
        return arriving if now_s <= self._full_until else max(arriving, in_flight / self._seats)


class Meter:
    """Count requests in ``arrived``; ``step`` at each decision. ``work_s``: replica-seconds of a mean request."""

    def __init__(self, work_s: float, seats: int) -> None:
        self.arrived = 0
        self._work_s = work_s
        self._averaged = Averaged(work_s * seats)
        self._floor = Floor(work_s * seats, seats)
        self._last_s = 0.0

    def step(self, now_s: float, *, in_flight: int, waiting_s: float) -> WorkSeen | None:
        """The demand that arrives, no less than what is in flight keeps busy; None if no time has gone by."""
        over_s = now_s - self._last_s
        if over_s <= 0:
            return None
        arriving = self._averaged.step(now_s, self.arrived * self._work_s, over_s)
        self.arrived, self._last_s = 0, now_s
        demand = self._floor.demand(now_s, arriving, in_flight=in_flight, wait=waiting_s > 0)
        return WorkSeen(arrived_s=demand * over_s, over_s=over_s, waiting_s=waiting_s)
