"""A deployment's replicas by place: sets of them are integers, their loads are rows, nothing is looped over one by one.

Made once for a set of replicas and read at every choice. ``arranged`` keeps each replica at its place from one
set to the next, so that what was learned of it under its bit stays true.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, count, repeat
from math import inf
from operator import add, ge, itemgetter, mul
from typing import Any, Protocol, TypeVar

_AS_SELECTORS = bytes.maketrans(b"01", b"\x00\x01")
#: No tokenizer is known to put more bytes of a prompt into one token; what is longer cannot fit.
BYTES_PER_TOKEN_MAX = 128
_MANY = 64
_Number = TypeVar("_Number", int, float)


class Placed(Protocol):
    """``facts.ReplicaFacts``."""

    @property
    def replica_id(self) -> str: ...
    @property
    def revision_id(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def concurrency_target(self) -> float: ...
    @property
    def max_in_flight(self) -> int: ...
    @property
    def adapters(self) -> frozenset[str]: ...
    @property
    def max_context_tokens(self) -> int: ...


_Named = TypeVar("_Named", bound=Placed)


@dataclass(frozen=True, slots=True)
class Places:
    """Bits and rows by place.

    load_of_one: what one request in flight adds to each replica's load
    max_in_flight: what each takes at once; infinite = no bound
    fewest_seats: the least of them: while nobody has so many, nobody is full
    prompt_bytes_max: a longer prompt certainly does not fit; 0 = not known
    shortest_prompt_bytes_max: the least of them
    all_of: what a mapping has of all, in half the time, if it has something of each; ``None`` = they are few
    """

    replica_ids: tuple[str, ...]
    place_of: Mapping[str, int]
    load_of_one: tuple[float, ...]
    max_in_flight: tuple[float, ...]
    fewest_seats: float
    ready: int
    of_revision: Mapping[str, int]
    of_adapter: Mapping[str, int]
    prompt_bytes_max: tuple[int, ...]
    shortest_prompt_bytes_max: int
    all_of: Callable[[Any], Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, replicas: Sequence[Placed]) -> "Places":
        of_revision: dict[str, int] = {}
        of_adapter: dict[str, int] = {}
        ready = 0
        for place, each in enumerate(replicas):
            bit = 1 << place
            ready |= bit if each.ready else 0
            of_revision[each.revision_id] = of_revision.get(each.revision_id, 0) | bit
            for adapter in each.adapters:
                of_adapter[adapter] = of_adapter.get(adapter, 0) | bit
        seats = tuple(each.max_in_flight or inf for each in replicas)
        longest = tuple(each.max_context_tokens * BYTES_PER_TOKEN_MAX for each in replicas)
        names = tuple(each.replica_id for each in replicas)
        return cls(
            replica_ids=names,
            place_of={each.replica_id: place for place, each in enumerate(replicas) if each.replica_id},
            load_of_one=tuple(1.0 / (each.concurrency_target or 1.0) for each in replicas),
            max_in_flight=seats,
            fewest_seats=min(seats, default=inf),
            ready=ready,
            of_revision=of_revision,
            of_adapter=of_adapter,
            prompt_bytes_max=longest,
            shortest_prompt_bytes_max=min((size for size in longest if size), default=0),
            all_of=itemgetter(*names) if len(names) >= _MANY else None,
        )

    def bits_of(self, names: Iterable[str]) -> int:
        """The replicas among these names."""
        bits = 0
        for name in names:
            place = self.place_of.get(name)
            if place is not None:
                bits |= 1 << place
        return bits

    def counts(self, in_flight: Mapping[str, int]) -> Sequence[int]:
        """Requests in flight by place."""
        return self.row_of(in_flight, 0)

    def row_of(self, told: Mapping[str, _Number], untold: _Number) -> Sequence[_Number]:
        """What is told of each, by place; ``untold`` where nothing is."""
        if self.all_of is not None:
            try:
                row: Sequence[_Number] = self.all_of(told)
                return row
            except KeyError:
                pass
        return list(map(told.get, self.replica_ids, repeat(untold)))

    def full(self, counts: Sequence[int]) -> int:
        """Those that have as many requests as they take."""
        bits = 0
        if max(counts, default=0) >= self.fewest_seats:
            for place in compress(count(), map(ge, counts, self.max_in_flight)):
                bits |= 1 << place
        return bits

    def loads(
        self, counts: Sequence[int], burden: Mapping[str, float], pressure: Mapping[str, float]
    ) -> list[float]:
        """By place, in shares of each one's target."""
        loads = list(map(mul, counts, self.load_of_one))
        for more in (burden, pressure):
            if len(more) > len(loads) // 4:
                loads = list(map(add, loads, map(more.get, self.replica_ids, repeat(0.0))))
            else:
                for name, load in more.items():
                    place = self.place_of.get(name)
                    if place is not None:
                        loads[place] += load
        return loads


def selectors(bits: int) -> bytes:
    """0 or 1 for each place, up to the last that is in ``bits``."""
    return bin(bits)[:1:-1].encode().translate(_AS_SELECTORS)


def places_in(bits: int) -> list[int]:
    """The places in ``bits``, in order."""
    chosen = selectors(bits)
    return list(compress(range(len(chosen)), chosen))


def values_in(row: Sequence[float], bits: int) -> Sequence[float]:
    """The row's values at the places in ``bits`` (at least one), in order."""
    if bits & (bits - 1) == 0:
        return (row[bits.bit_length() - 1],)
    if bits.bit_count() == len(row):
        return row
    return list(compress(row, selectors(bits)))


def arranged(before: Sequence[_Named], now: Iterable[_Named], vacant: _Named) -> tuple[_Named, ...]:
    """``now`` with each replica at its place of ``before``; new ones take the places of those that have gone."""
    coming = {each.replica_id: each for each in now}
    after = [coming.pop(each.replica_id, vacant) for each in before]
    free = (place for place, each in enumerate(after) if each is vacant)
    for each in coming.values():
        place = next(free, None)
        if place is None:
            after.append(each)
        else:
            after[place] = each
    while after and after[-1] is vacant:
        after.pop()
    return tuple(after)
