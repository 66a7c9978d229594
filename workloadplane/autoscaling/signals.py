"""What is seen of a revision between two decisions; what nobody could tell is None, never 0."""

import math

from msgspec import Struct

#: Replicas' worth of load beyond which a number is taken for this much.
MOST_DEMAND = 1e6


class WorkSeen(Struct, frozen=True, kw_only=True):
    """Token work that arrived since the last decision, and what of it waits.

    A replica-second is what one replica does in a second at its concurrency target (``work.TokenWork`` learns how
    many tokens that are).

    arrived_s: replica-seconds that arrived
    over_s:    the seconds in which they did
    waiting_s: replica-seconds that wait for a replica
    """

    arrived_s: float
    over_s: float
    waiting_s: float = 0.0

    @property
    def demand(self) -> float | None:
        """Replicas that the arrivals keep busy; None where a number is none, negative or without a time."""
        valid = (
            math.isfinite(self.arrived_s)
            and self.arrived_s >= 0
            and math.isfinite(self.over_s)
            and self.over_s > 0
            and math.isfinite(self.waiting_s)
            and self.waiting_s >= 0
        )
        return min(self.arrived_s / self.over_s, MOST_DEMAND) if valid else None


class SloSeen(Struct, frozen=True, kw_only=True):
    """Requests since the last decision that were inside the SLO, and those that were not."""

    inside: float
    outside: float

    @property
    def valid(self) -> bool:
        """Whether both are finite numbers of at least 0."""
        return (
            math.isfinite(self.inside) and math.isfinite(self.outside) and min(self.inside, self.outside) >= 0
        )


class Seen(Struct, frozen=True, kw_only=True):
    """Everything that a scaler is told at a moment.

    now:               seconds on any clock that only rises
    ready, starting:   replicas
    concurrency:       requests at hand, in flight and waiting
    cold_start_s:      the learned p90 from a launch to the first answer
    """

    now: float
    ready: int
    starting: int = 0
    concurrency: float | None = None
    work: WorkSeen | None = None
    slo: SloSeen | None = None
    cold_start_s: float | None = None
