"""Capacity that its provider takes back: what is to have happened by when. Pure.

::

    seen ── no new requests ──▶ hand over ── streams go on elsewhere ──▶ stop ── margin ──▶ deadline

Streams end by themselves until it is time to hand them over, as each one that moves has its text computed again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from workloadplane.protocol.observed import Notice

#: Before the deadline: streams are moved, and processes are ended. Of short notices the half, and a sixth.
HAND_OVER_S: Final = 20.0
MARGIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What a notice means here. Times are of this machine's monotonic clock."""

    notice: Notice
    hand_over_since: float
    stop_since: float


def departure(notice: Notice, *, left_s: float, now: float) -> Departure:
    """The times of a notice that was first seen ``now``, ``left_s`` before its deadline."""
    left_s = max(0.0, left_s)
    return Departure(
        notice=notice,
        hand_over_since=now + left_s - min(HAND_OVER_S, left_s / 2),
        stop_since=now + left_s - min(MARGIN_S, left_s / 6),
    )


def departure_of(departures: Iterable[Departure], pool: str, nodes: Collection[str]) -> Departure | None:
    """The first to come of those that concern something on these nodes of a pool."""
    concerned = [
        each
        for each in departures
        if each.notice.pool == pool and (each.notice.node is None or each.notice.node in nodes)
    ]
    return min(concerned, key=lambda each: each.stop_since, default=None)
