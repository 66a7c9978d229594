"""Which LoRA adapters are loaded where, as far as this gateway's own requests tell, and who may load another.

An engine is told of all adapters of its deployment at its start and loads one when it is first asked for, in
place of the longest unused. So what was last asked for through here is what is loaded, up to the number of
slots. Loading costs everybody on that replica, so a replica that lately loaded one in place of another is not
asked for a further one while there is a choice: that bounds the thrash. ``step(slots, event, now)``; one owner.
"""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slots:
    """By place: who is there (``None`` = nobody) and how many adapters are loaded there at once."""

    replica_ids: tuple[str | None, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Used:
    """A request for the adapter went to the replica at this place."""

    place: int
    adapter: str


@dataclass(slots=True)
class _Replica:
    replica_id: str | None
    slots: int
    loaded: OrderedDict[str, None] = field(default_factory=OrderedDict)
    swapped_at_s: float = -1e9


@dataclass(slots=True)
class AdapterSlots:
    """See the module. ``swap_pause_s``: how long a replica is left alone after it put an adapter out."""

    swap_pause_s: float = 5.0
    swaps: int = 0
    _replicas: list[_Replica] = field(default_factory=list)

    def warm(self, adapter: str) -> int:
        """The replicas that have it loaded, as bits."""
        return sum(1 << place for place, each in enumerate(self._replicas) if adapter in each.loaded)

    def open(self, now_s: float) -> int:
        """The replicas that may load another one now: those with a free slot, or that did not swap lately."""
        return sum(
            1 << place
            for place, each in enumerate(self._replicas)
            if len(each.loaded) < each.slots
            or (each.slots and now_s - each.swapped_at_s >= self.swap_pause_s)
        )


def step(state: AdapterSlots, event: Slots | Used, now_s: float) -> None:
    """Take the event into account."""
    replicas = state._replicas
    if isinstance(event, Slots):
        _on_slots(state, event)
    elif event.place < len(replicas):
        each = replicas[event.place]
        if event.adapter in each.loaded:
            each.loaded.move_to_end(event.adapter)
            return
        while each.loaded and len(each.loaded) >= each.slots:
            each.loaded.popitem(last=False)
            each.swapped_at_s = now_s
            state.swaps += 1
        if each.slots:
            each.loaded[event.adapter] = None


def _on_slots(state: AdapterSlots, event: Slots) -> None:
    before = state._replicas
    after = []
    for place, (replica_id, slots) in enumerate(zip(event.replica_ids, event.slots, strict=True)):
        stays = place < len(before) and before[place].replica_id == replica_id
        each = before[place] if stays else _Replica(replica_id, slots)
        each.slots = slots
        after.append(each)
    state._replicas = after
