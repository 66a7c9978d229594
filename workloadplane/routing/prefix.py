"""Which replicas have the beginning of this prompt in their KV cache, as far as can be known from here?

One index per deployment. It believes that a replica holds what was sent there, as far back as its cache
reaches, and takes back what it is told is gone. ``step(index, event, now)`` changes it; it has one owner.

Replicas are bits: the place of a replica in its deployment's fleet is its bit, a block's hash leads to the
bits of those that hold it, and matching a prompt is one AND of integers per block, whatever the number of
replicas. What a replica holds is kept as a few generations of hashes, the newest last: a new one begins when
the last is full, and the oldest is forgotten but for what was used since. The full ones are as much as fits the
cache, the one that fills comes on top. This is LRU in steps of a generation, and it never touches a block one
by one to keep an order.

Memory: a block known of one replica takes about 120 bytes, each further replica about 55 more (measured:
``python -m tests.benchmarks.bench_picker``); ``Bounds.blocks_max`` bounds their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

import msgspec

from workloadplane.routing.blocks import BLOCK_ENDS

#: Full ones that a replica's cache is believed to hold.
_GENERATIONS = 4
#: Of a replica whose cache's size nobody told.
_CAPACITY_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """``blocks_max``: pairs of block and replica that an index keeps."""

    blocks_max: int = 300_000


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas by place; ``None`` = nobody there. ``capacities``: bytes of prompt that fit a cache, 0 = unknown."""

    replica_ids: tuple[str | None, ...]
    capacities: tuple[int, ...] = ()


class Routed(msgspec.Struct, frozen=True, gc=False):
    """A prompt with these block hashes was sent to the replica at this place: soon it holds them."""

    place: int
    hashes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Cleared:
    """The replica at this place has lost its cache: it restarted, or told so."""

    place: int


@dataclass(frozen=True, slots=True)
class Turned:
    """The engine at this place said that it has stored this share of its cache's capacity anew, for whomever.

    From then on what is believed of it ages by its own word and not by what was sent from here.
    """

    place: int
    share: float


Event = Fleet | Routed | Cleared | Turned


@dataclass(slots=True)
class _Held:
    """What one replica is believed to hold. ``generations``: hashes, the newest last."""

    replica_id: str | None
    capacity_bytes: int
    generations: list[set[int]] = field(default_factory=lambda: [set()])
    newest_bytes: int = 0
    blocks: int = 0
    turned: float | None = None


@dataclass(slots=True)
class PrefixIndex:
    """See the module. ``blocks``: pairs of block and replica now kept."""

    bounds: Bounds = field(default_factory=Bounds)
    blocks: int = 0
    used_at_s: float = 0.0
    _masks: dict[int, int] = field(default_factory=dict)
    _held: list[_Held] = field(default_factory=list)

    def match(self, hashes: Sequence[int]) -> list[tuple[int, int]]:
        """(bytes known, bits of the replicas that know at least them), the longest first."""
        levels: list[tuple[int, int]] = []
        get = self._masks.get
        alive = -1
        for depth, mask in enumerate(map(get, hashes, repeat(0))):
            if mask != alive:
                still = mask & alive
                if still != alive:
                    if depth:
                        levels.append((BLOCK_ENDS[depth - 1], alive))
                    alive = still
                    if not still:
                        break
        if alive > 0:
            levels.append((BLOCK_ENDS[len(hashes) - 1], alive))
        levels.reverse()
        return levels


def step(index: PrefixIndex, event: Event, now_s: float) -> None:
    """Take the event into account."""
    index.used_at_s = now_s
    if isinstance(event, Routed):
        _on_routed(index, event)
    elif isinstance(event, Fleet):
        _on_fleet(index, event)
    elif event.place < len(index._held):
        held = index._held[event.place]
        if isinstance(event, Cleared):
            _forget(index, event.place, held)
        else:
            _on_turned(index, held, event)


def shrink(index: PrefixIndex) -> None:
    """Forget the oldest generation of every replica: others need the memory more."""
    for place, held in enumerate(index._held):
        if len(held.generations) > 1:
            _drop_oldest(index, place, held)
        else:
            _forget(index, place, held)


def _on_fleet(index: PrefixIndex, event: Fleet) -> None:
    """Whose place has another replica now, or none, is forgotten."""
    held = index._held
    while len(held) < len(event.replica_ids):
        held.append(_Held(None, _CAPACITY_BYTES))
    for place, each in enumerate(held):
        replica_id = event.replica_ids[place] if place < len(event.replica_ids) else None
        capacity = event.capacities[place] if place < len(event.capacities) else 0
        each.capacity_bytes = capacity or _CAPACITY_BYTES
        if each.replica_id != replica_id:
            _forget(index, place, each)
            each.replica_id = replica_id
            each.turned = None
    del held[len(event.replica_ids) :]


def _on_routed(index: PrefixIndex, event: Routed) -> None:
    if event.place >= len(index._held):
        return
    held = index._held[event.place]
    masks = index._masks
    bit = 1 << event.place
    newest = held.generations[-1]
    hashes = event.hashes
    begin, end = 0, len(hashes)
    while begin < end and hashes[begin] in newest:
        begin += 1
    if begin == end:
        return
    fresh = hashes[begin:]
    newest.update(fresh)
    added = 0
    for each in fresh:
        mask = masks.get(each, 0)
        if not mask & bit:
            masks[each] = mask | bit
            added += 1
    held.blocks += added
    index.blocks += added
    held.newest_bytes += BLOCK_ENDS[end - 1] - (BLOCK_ENDS[begin - 1] if begin else 0)
    share = index.bounds.blocks_max // max(1, len(index._held))
    full = held.turned is None and held.newest_bytes * _GENERATIONS >= held.capacity_bytes
    if full or len(newest) * (_GENERATIONS + 1) >= share:
        _begin_generation(index, event.place, held)


def _on_turned(index: PrefixIndex, held: _Held, event: Turned) -> None:
    turned = (held.turned or 0.0) + event.share
    for _ in range(min(int(turned * _GENERATIONS), _GENERATIONS + 1)):
        _begin_generation(index, event.place, held)
    held.turned = turned % (1.0 / _GENERATIONS)


def _begin_generation(index: PrefixIndex, place: int, held: _Held) -> None:
    held.generations.append(set())
    held.newest_bytes = 0
    if len(held.generations) > _GENERATIONS + 1:
        _drop_oldest(index, place, held)


def _drop_oldest(index: PrefixIndex, place: int, held: _Held) -> None:
    oldest = held.generations.pop(0)
    oldest.difference_update(*held.generations)
    _take_back(index, place, held, oldest)


def _forget(index: PrefixIndex, place: int, held: _Held) -> None:
    _take_back(index, place, held, set().union(*held.generations))
    held.generations = [set()]
    held.newest_bytes = 0


def _take_back(index: PrefixIndex, place: int, held: _Held, hashes: set[int]) -> None:
    masks = index._masks
    bit = 1 << place
    gone = 0
    for each in hashes:
        mask = masks.get(each, 0)
        if mask & bit:
            gone += 1
            if mask == bit:
                del masks[each]
            else:
                masks[each] = mask ^ bit
    held.blocks -= gone
    index.blocks -= gone
