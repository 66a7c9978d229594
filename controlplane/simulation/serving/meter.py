"""What an agent tells its autoscaler of the work that arrives, here with the mean work of a request known."""

from workloadplane.autoscaling import Arriving, WorkSeen


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
