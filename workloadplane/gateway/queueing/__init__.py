"""Queueing: who waits for a replica, in which order, for how long at most, and who is told to come again?

``FairQueue`` orders the requests of one deployment, ``seat_to_take_back`` says which stream gives way to one of them,
``WaitingRoom`` bounds all of a process and predicts waits,
``RateLimiter`` counts what a key and its project may use. Pure: no sockets, no clock; time is an argument, in
seconds on a monotonic clock. What waits is opaque, so the same code serves the gateway and a simulation.
"""

from workloadplane.gateway.queueing.fair_queue import FairQueue, Ticket
from workloadplane.gateway.queueing.preemption import Holding, Seat, seat_to_take_back
from workloadplane.gateway.queueing.priority import HIGH, LOW, NORMAL
from workloadplane.gateway.queueing.service import Learned
from workloadplane.gateway.queueing.waiting_room import Bounds, Joined, NoRoom, Place, WaitingRoom

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "Bounds",
    "FairQueue",
    "Holding",
    "Joined",
    "Learned",
    "NoRoom",
    "Place",
    "Seat",
    "Ticket",
    "WaitingRoom",
    "seat_to_take_back",
]
