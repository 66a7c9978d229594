"""The load that was seen, in equal slots of time, never more than a bounded number of them.

A slot that was not observed is unknown, not idle: averages are over the slots that were. So a gap in the
measurements neither scales anything down nor dilutes the load around it.
"""

import math

from msgspec import Struct

#: Slots a stable window is cut into at most; shorter windows have slots of one second.
MAX_SLOTS = 120
#: More requests at hand than this are taken for so many: sums of them stay finite.
MOST_AT_HAND = 1e12


class Slot(Struct, frozen=True):
    """The requests at hand (in flight and waiting) within one slot: their sum over ``count`` observations."""

    index: int
    total: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / self.count


class LoadHistory(Struct, frozen=True, kw_only=True):
    """Slots in order of time, the newest last, and when the latest observation was made."""

    window_s: float
    slots: tuple[Slot, ...] = ()
    last_at: float | None = None

    @property
    def slot_s(self) -> float:
        return max(1.0, self.window_s / MAX_SLOTS)

    def average(self, *, now: float, over_s: float) -> float | None:
        """The mean load of the last ``over_s`` seconds' slots; None if none was observed."""
        oldest = math.floor((now - over_s) / self.slot_s) + 1
        newest = math.floor(now / self.slot_s)
        means = [slot.mean for slot in self.slots if oldest <= slot.index <= newest]
        return math.fsum(means) / len(means) if means else None


def record(history: LoadHistory, *, now: float, concurrency: float) -> LoadHistory:
    """The history after one more observation; a value that is no finite number >= 0 is no observation."""
    if not math.isfinite(concurrency) or concurrency < 0:
        return history
    if history.last_at is not None and now < history.last_at:
        return history
    concurrency = min(concurrency, MOST_AT_HAND)
    index = math.floor(now / history.slot_s)
    slots = history.slots
    if slots and slots[-1].index == index:
        latest = Slot(index, slots[-1].total + concurrency, slots[-1].count + 1)
        slots = (*slots[:-1], latest)
    else:
        oldest = index - math.ceil(history.window_s / history.slot_s)
        slots = (*(slot for slot in slots if slot.index > oldest), Slot(index, concurrency, 1))
    return LoadHistory(window_s=history.window_s, slots=slots, last_at=now)
