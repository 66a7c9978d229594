"""What an agent tells its autoscaler of the work that arrives, here with the mean work of a request known."""

from collections import deque

from controlplane.simulation.serving.world import ServingWorld, Survey
from workloadplane.autoscaling import WorkSeen

#: As an agent does: arrivals are averaged over as long as a request takes, within these.
AVERAGED_S = (5.0, 120.0)


class Meter:
    """Count requests in ``arrived``; ``step`` at each decision."""

    def __init__(self, seen: Survey, world: ServingWorld) -> None:
        self.arrived = 0
        self._request_s = float(seen.work_s_by_step.sum()) / max(1, seen.requests)
        self._seats, self._every_s = world.service.seats, world.decide_every_s
        averaged_s = min(max(self._request_s * self._seats, AVERAGED_S[0]), AVERAGED_S[1])
        self._last: deque[int] = deque(maxlen=max(1, round(averaged_s / self._every_s)))

    def step(self, *, in_flight: int, waiting_s: float) -> WorkSeen:
        """The demand that arrives, no less than what is in flight keeps busy; the count begins anew."""
        self._last.append(self.arrived)
        self.arrived = 0
        arriving = sum(self._last) / len(self._last) / self._every_s * self._request_s
        demand = max(arriving, in_flight / self._seats)
        return WorkSeen(arrived_s=demand * self._every_s, over_s=self._every_s, waiting_s=waiting_s)
