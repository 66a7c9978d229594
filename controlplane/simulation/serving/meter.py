"""What an agent tells its autoscaler: who waited too long, who is at hand, the work that arrives.

The mean work of a request is known here.
"""

from dataclasses import dataclass

from workloadplane.autoscaling import Arriving, WorkSeen

#: So often a gateway tells its agent how busy it is; an agent that hears of somebody who waits decides at once.
TOLD_EVERY_S = 0.25


@dataclass(slots=True)
class Told:
    """Requests since the last decision, by whether they waited too long."""

    inside: int = 0
    outside: int = 0


@dataclass(slots=True)
class AtHand:
    """Requests in flight and waiting, in the mean since the last decision: gateways tell of them all the time."""

    count: int = 0
    since_s: float = 0.0
    last_s: float = 0.0
    sum_s: float = 0.0

    def add(self, count: int, now_s: float) -> None:
        """So many more, or fewer."""
        self.sum_s += self.count * (now_s - self.last_s)
        self.last_s = now_s
        self.count += count

    def mean(self, now_s: float) -> float:
        """It begins anew."""
        self.add(0, now_s)
        over_s = now_s - self.since_s
        found = self.sum_s / over_s if over_s > 0 else float(self.count)
        self.since_s, self.sum_s = now_s, 0.0
        return found


class Meter:
    """Count requests in ``arrived``; ``step`` at each decision. ``work_s``: replica-seconds of a mean request."""

    def __init__(self, work_s: float, seats: int) -> None:
        self.arrived = 0
        self._work_s, self._seats = work_s, seats
        self._arriving = Arriving()
        self._last_s = 0.0

    def step(self, now_s: float, *, in_flight: int, waiting_s: float) -> WorkSeen | None:
        """The demand that arrives; None if no time has gone by."""
        over_s = now_s - self._last_s
        if over_s <= 0:
            return None
        demand = self._arriving.demand(
            self.arrived * self._work_s,
            over_s,
            request_s=self._work_s * self._seats,
            busy=in_flight / self._seats,
            waits=waiting_s > 0,
            now=now_s,
        )
        self.arrived, self._last_s = 0, now_s
        return WorkSeen(arrived_s=demand * over_s, over_s=over_s, waiting_s=waiting_s)
