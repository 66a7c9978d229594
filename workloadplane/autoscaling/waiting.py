"""Requests that wait without a pause: then nobody need foresee that too little is there.

What has lasted so long lasts, as a rule, about as long again (the Lindy effect): once it has been a fixed part of a
cold start, a replica that is launched now comes in time to be of use.
"""

from msgspec import Struct

#: Work below this, in replica-seconds, does not wait: it is being handed over.
LEAST_WAITING_S = 0.01
#: So long, in cold starts and at least in seconds, work must wait before it counts.
BELIEVED_COLD_STARTS, BELIEVED_S = 0.3, 2.0
#: What waits then is to be served in a cold start of up to a minute, then in a minute, then in a third of one: in a
#: minute, too, what piles up in a cold start would ask for the more replicas the longer it lasts.
LEAST_DRAIN_S, DRAIN_S, DRAIN_COLD_STARTS = 10.0, 60.0, 1.0 / 3.0


class Waiting(Struct, frozen=True, kw_only=True):
    """Since when work waits (None: none does), and what has come since, in replica-seconds over seconds."""

    since: float | None = None
    arrived_s: float = 0.0
    over_s: float = 0.0

    def need(self, waiting_s: float, cold_start_s: float, now: float) -> float:
        """Replicas for the load since then and to drain the queue; 0 before it is believed."""
        believed_s = max(BELIEVED_S, BELIEVED_COLD_STARTS * cold_start_s)
        if self.since is None or self.over_s <= 0 or now - self.since < believed_s:
            return 0.0
        drain_s = max(min(max(cold_start_s, LEAST_DRAIN_S), DRAIN_S), DRAIN_COLD_STARTS * cold_start_s)
        return self.arrived_s / self.over_s + waiting_s / drain_s


def waited(state: Waiting, *, waiting_s: float, demand: float, step_s: float, now: float) -> Waiting:
    """The state after a look at what waits; ``demand`` came in the last ``step_s`` seconds, in replicas."""
    if waiting_s < LEAST_WAITING_S:
        return Waiting() if state.since is not None else state
    return Waiting(
        since=now if state.since is None else state.since,
        arrived_s=state.arrived_s + demand * step_s,
        over_s=state.over_s + step_s,
    )
