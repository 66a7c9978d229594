"""What may only the control plane do when a region is lost or given up?

``seat_settle(seat, wanted, standings, ...) -> seat`` answers one part of it: which cluster may serve an
``active_passive`` deployment now, so that never two do.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here.
"""

from controlplane.failover.handover import Seat, Standing, Yielding, lease_is_over, seat_settle

__all__ = ["Seat", "Standing", "Yielding", "lease_is_over", "seat_settle"]
