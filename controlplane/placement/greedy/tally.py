"""What slots give of what is asked for, and what was taken of each so far: the tally of ``spread``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.placement.greedy.candidates import Slot
from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.wishes import Survivability

#: A part of the demand that no loss uses up: where there is no demand, every replica serves it.
_ENOUGH = 1e6


@dataclass(frozen=True, slots=True)
class Ask:
    """What slots are chosen for.

    replicas: so many must be ready after any loss, and all of the demand planned for served
    most:     replicas in all
    level:    which losses must be survived
    survival: whether a spot replica counts by its chance to live
    moves:    what runs may also move where that saves so many times what the moves cost; None: only where it must
    """

    replicas: int
    most: int
    level: Survivability
    survival: bool
    moves: float | None = None


class Shape(NamedTuple):
    """Replicas by pool id, and what they cost together in micro-USD/h."""

    taken: dict[str, int]
    micro_usd_per_h: float

    @property
    def replicas(self) -> int:
        return sum(self.taken.values())


@dataclass(slots=True)
class Parts:
    """What one replica of each slot gives of all that is asked for.

    weight:   the less of ``demand`` (its part of the demand) and ``count`` (of the replicas)
    mixed:    it is not the same one of both for all slots; where it is, the other is enough wherever that one is
    price:    what one costs, with what it is charged for being one
    order:    slots that give anything, by what that costs there
    cheapest: the same slots, by the price of one
    uneven:   they do not all give the same
    held:     slots of what runs
    losses:   numbers of the ``domains``, by slot
    """

    slots: Sequence[Slot]
    price: list[float]
    demand: list[float]
    count: list[float]
    weight: list[float]
    mixed: bool
    losses: list[tuple[int, ...]]
    domains: int
    order: list[int]
    cheapest: list[int]
    uneven: bool
    held: list[int]


def parts_of(slots: Sequence[Slot], ask: Ask, charge: float = 0.0) -> Parts:
    """``charge``: micro-USD/h beyond its cost for each replica, so that fewer are taken."""
    price = [slot.each + charge for slot in slots]
    survival = [slot.terms.survival if ask.survival else 1.0 for slot in slots]
    demand = [min(_ENOUGH, slot.demand) * chance for slot, chance in zip(slots, survival, strict=True)]
    count = [chance / ask.replicas for chance in survival]
    weight = list(map(min, demand, count))
    useful = [index for index, one in enumerate(weight) if one > 0]
    numbers: dict[str, int] = {}
    losses = [
        tuple([numbers.setdefault(loss, len(numbers)) for loss in slot.terms.losses[ask.level]])
        for slot in slots
    ]
    return Parts(
        slots=slots,
        price=price,
        demand=demand,
        count=count,
        weight=weight,
        mixed=weight not in (demand, count),
        losses=losses,
        domains=len(numbers),
        order=sorted(useful, key=lambda index: price[index] / weight[index]),
        cheapest=sorted(useful, key=price.__getitem__),
        uneven=ask.level != "none" and len({weight[index] for index in useful}) > 1,
        held=[index for index, slot in enumerate(slots) if slot.held],
    )


class Taken:
    """Replicas taken of each slot so far, what they weigh, and what of that each loss would take.

    seen: losses that would take anything
    """

    __slots__ = ("beyond", "lost", "parts", "seen", "taken", "weight")

    def __init__(self, parts: Parts, *, beyond: bool = False) -> None:
        self.parts, self.beyond = parts, beyond
        self.taken = [0] * len(parts.slots)
        self.weight = 0.0
        self.lost = [0.0] * parts.domains
        self.seen: list[int] = []

    def add(self, index: int, replicas: int) -> None:
        """Take more of a slot; give them back where it is a negative count."""
        self.taken[index] += replicas
        weight, lost = replicas * self.parts.weight[index], self.lost
        self.weight += weight
        for loss in self.parts.losses[index]:
            lost[loss] += weight
            if loss not in self.seen:
                self.seen.append(loss)

    def free(self, index: int) -> int:
        """Replicas of a slot that are not taken."""
        return self.parts.slots[index].replicas - self.taken[index]

    def lacking(self) -> float:
        """Which part of what is needed is lacking while nothing is lost."""
        return 1 - self.weight

    def worst(self) -> tuple[float, int | None]:
        """The loss outside of which most is lacking, and how much; None: without any."""
        without, lost = 1 - self.weight, self.lost
        lacking, found = without, None
        for loss in self.seen:
            here = without + lost[loss]
            if here > lacking + TOLERANCE:
                lacking, found = here, loss
        return lacking, found

    def capped(self, index: int, cap: float) -> int:
        """How many more of a slot until ``cap`` is reached in one of its domains; ``beyond`` it by a part of one."""
        parts, lost = self.parts, self.lost
        free = parts.slots[index].replicas - self.taken[index]
        mine = parts.losses[index]
        if free < 1 or not mine:
            return free
        inside = max([lost[loss] for loss in mine]) if len(mine) > 1 else lost[mine[0]]
        within = (cap - inside) / parts.weight[index]
        whole = math.ceil(within - TOLERANCE) if self.beyond else int(within + TOLERANCE)
        return min(free, max(whole, 1 if inside == 0.0 else 0))

    def spare(self, index: int) -> float:
        """How many of a slot are not needed, whatever is lost."""
        weight = self.parts.weight[index]
        if weight <= 0:
            return self.taken[index]
        return (self.weight - self._most_beside(index, self.lost) - 1 + TOLERANCE) / weight

    def _most_beside(self, index: int, lost: Sequence[float]) -> float:
        """What the worst of the losses takes that leave a slot."""
        mine, most = self.parts.losses[index], 0.0
        for loss in self.seen:
            if lost[loss] > most and loss not in mine:
                most = lost[loss]
        return most

    def shape(self) -> Shape:
        """What was taken, by pool."""
        taken: dict[str, int] = {}
        cost = 0.0
        for index, replicas in enumerate(self.taken):
            if replicas:
                slot = self.parts.slots[index]
                pool_id = slot.terms.pool.pool_id
                taken[pool_id] = taken.get(pool_id, 0) + replicas
                cost += replicas * slot.each
        return Shape(taken, cost)


class _TakenOfBoth(Taken):
    """Where neither demand nor replicas bind everywhere, both are counted beside the weight."""

    __slots__ = ("count", "demand", "lost_count", "lost_demand")

    def __init__(self, parts: Parts, *, beyond: bool = False) -> None:
        super().__init__(parts, beyond=beyond)
        self.demand = self.count = 0.0
        self.lost_demand, self.lost_count = [0.0] * parts.domains, [0.0] * parts.domains

    def add(self, index: int, replicas: int) -> None:
        super().add(index, replicas)
        demand, count = replicas * self.parts.demand[index], replicas * self.parts.count[index]
        self.demand += demand
        self.count += count
        for loss in self.parts.losses[index]:
            self.lost_demand[loss] += demand
            self.lost_count[loss] += count

    def lacking(self) -> float:
        return max(1 - self.demand, 1 - self.count)

    def worst(self) -> tuple[float, int | None]:
        no_demand, no_count = 1 - self.demand, 1 - self.count
        lacking, found = max(no_demand, no_count), None
        for loss in self.seen:
            demand, count = no_demand + self.lost_demand[loss], no_count + self.lost_count[loss]
            here = demand if demand > count else count
            if here > lacking + TOLERANCE:
                lacking, found = here, loss
        return lacking, found

    def spare(self, index: int) -> float:
        spare = math.inf
        for given, lost, each in (
            (self.demand, self.lost_demand, self.parts.demand[index]),
            (self.count, self.lost_count, self.parts.count[index]),
        ):
            if each > 0:
                spare = min(spare, (given - self._most_beside(index, lost) - 1 + TOLERANCE) / each)
        return spare


def nothing_taken(parts: Parts, *, beyond: bool = False) -> Taken:
    """To begin with. ``beyond``: bounds may be passed by a part of a replica."""
    return _TakenOfBoth(parts, beyond=beyond) if parts.mixed else Taken(parts, beyond=beyond)
