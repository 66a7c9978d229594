"""The demand that arrives, from the work that comes and the requests in flight: for agents and for the simulator."""

import math
from collections import deque

#: Arrivals are averaged over as long as a request takes, within these.
_AVERAGED_S_MIN, _AVERAGED_S_MAX = 5.0, 120.0


class Arriving:
    """One revision's. Single owner: whoever meters its work.

    The arrivals are averaged over as long as a request takes, which is what the requests in flight would be if none had
    to wait; where they are more than that, long answers from before are still being made, and they count. Not so while
    requests wait, and for as long as one takes after that: then all seats are taken, however many there are, and each
    replica that is added would be taken for more demand.
    """

    def __init__(self) -> None:
        self._full_until = -math.inf
        self._parts: deque[tuple[float, float, float]] = (
            deque()
        )  # when, replica-seconds, over how many seconds

    def demand(
        self, work_s: float, over_s: float, *, request_s: float, busy: float, waits: bool, now: float
    ) -> float:
        """In replicas.

        work_s:    replica-seconds that have come in the last ``over_s`` (above 0)
        request_s: how long a request takes on its seat
        busy:      replicas that the requests in flight would fill
        waits:     whether a request waits for a seat
        """
        averaged_s = min(max(request_s, _AVERAGED_S_MIN), _AVERAGED_S_MAX)
        self._parts.append((now, work_s, over_s))
        while now - self._parts[0][0] >= averaged_s:
            self._parts.popleft()
        arriving = sum(part[1] for part in self._parts) / sum(part[2] for part in self._parts)
        if waits:
            self._full_until = now + request_s
        return arriving if now <= self._full_until else max(arriving, busy)
