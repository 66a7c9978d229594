"""What may only the control plane do when a region is lost, given up or emptied?

``listen(listening, markers, now, policy) -> listening`` says for how long a cluster has been silent;
``promotion(candidates, policy) -> promotion`` which of them is to serve an ``active_passive`` deployment;
``seat_settle(seat, wanted, standings, lease) -> seat`` which may serve it now, so that never two do;
``next_event(facts, now)`` and ``drain_step(state, event)`` how a planned move goes on.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here.
"""

from controlplane.failover.drain import (
    DRAIN_STATES,
    ENDED,
    IN_FORCE,
    DrainEvent,
    DrainFacts,
    DrainState,
    begins_at,
    drain_step,
    expected_s,
    next_event,
)
from controlplane.failover.handover import Seat, Standing, Yielding, has_yielded, seat_fenced, seat_settle
from controlplane.failover.promotion import Candidate, Cause, Promotion, PromotionPolicy, promotion
from controlplane.failover.silence import Heard, Listening, ListeningPolicy, listen

__all__ = [
    "DRAIN_STATES",
    "ENDED",
    "IN_FORCE",
    "Candidate",
    "Cause",
    "DrainEvent",
    "DrainFacts",
    "DrainState",
    "Heard",
    "Listening",
    "ListeningPolicy",
    "Promotion",
    "PromotionPolicy",
    "Seat",
    "Standing",
    "Yielding",
    "begins_at",
    "drain_step",
    "expected_s",
    "has_yielded",
    "listen",
    "next_event",
    "promotion",
    "seat_fenced",
    "seat_settle",
]
