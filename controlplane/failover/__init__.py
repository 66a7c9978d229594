"""What may only the control plane do when a region is lost or given up?

``listen(listening, markers, now, policy) -> listening`` says for how long a cluster has been silent;
``promotion(candidates, policy) -> promotion`` which of them is to serve an ``active_passive`` deployment;
``seat_settle(seat, wanted, standings, lease) -> seat`` which may serve it now, so that never two do.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here.
"""

from controlplane.failover.handover import Seat, Standing, Yielding, has_yielded, seat_fenced, seat_settle
from controlplane.failover.promotion import Candidate, Cause, Promotion, PromotionPolicy, promotion
from controlplane.failover.silence import Heard, Listening, ListeningPolicy, listen

__all__ = [
    "Candidate",
    "Cause",
    "Heard",
    "Listening",
    "ListeningPolicy",
    "Promotion",
    "PromotionPolicy",
    "Seat",
    "Standing",
    "Yielding",
    "has_yielded",
    "listen",
    "promotion",
    "seat_fenced",
    "seat_settle",
]
