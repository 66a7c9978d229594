"""Whose seat is taken back when a request would have to wait for one: a stream that can go on later gives way.

No order of the queue helps a request that comes to a system whose seats are all taken. So a stream of another tenant is
ended at its engine, waits in its tenant's line, before that tenant's other requests, and goes on from where it was.

It gives way only to a request of a higher class, or of its own class and a tenant that was served clearly less: with
what is left of the stream given back to its tenant and the request charged to the other one, that other tenant still
lacks ``CLEAR_REQUESTS`` requests of the usual cost. So neither takes the seat back from the other. Of those that may
give way the lowest class comes first, then the tenant that was served the most, then streams that gave way the fewest
times, then the youngest. A stream gives way ``PREEMPTIONS_MAX`` times at most.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

PREEMPTIONS_MAX = 16
CLEAR_REQUESTS = 8

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is next and finds no seat. ``served``, ``cost``, ``usual_cost``: in weighted tokens."""

    tenant: str
    priority: int
    served: float
    cost: float
    usual_cost: float


@dataclass(frozen=True, slots=True)
class Seat(Generic[T_co]):
    """A stream that could give way.

    left:        weighted tokens that its tenant was charged for it and that it has not used
    preemptions: how often it gave way
    taken_s:     when it got this seat
    """

    item: T_co
    left: float
    preemptions: int
    taken_s: float


@dataclass(frozen=True, slots=True)
class Holding(Generic[T_co]):
    """What a tenant has of one class. ``seats`` is read only where the tenant comes into question."""

    tenant: str
    priority: int
    served: float
    seats: Iterable[Seat[T_co]]


def seat_to_take_back(claim: Claim, held: Iterable[Holding[T]]) -> Seat[T] | None:
    """Who gives way to the claim; ``None``: it waits."""
    clear = claim.served + claim.cost + CLEAR_REQUESTS * claim.usual_cost
    others = [
        each
        for each in held
        if each.tenant != claim.tenant
        and (each.priority < claim.priority or (each.priority == claim.priority and each.served > clear))
    ]
    for holding in sorted(others, key=lambda each: (each.priority, -each.served)):
        is_lower = holding.priority < claim.priority
        may = [
            seat
            for seat in holding.seats
            if seat.preemptions < PREEMPTIONS_MAX and (is_lower or holding.served - seat.left >= clear)
        ]
        if may:
            return min(may, key=lambda seat: (seat.preemptions, -seat.taken_s))
    return None
