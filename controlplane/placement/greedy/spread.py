"""How many replicas go where, for one deployment that is looked at alone: enough after any loss, at least cost.

Greedy. With at most a part ``q`` of what is needed in any domain, ``1 + q`` in all are enough: the fewer domains, the
more spare. Each such bound is tried: what runs is taken first, then slots in the order of their cost within the bound;
what still lacks after some loss is filled up outside of it; what is not needed is given back. The cheapest wins.

Where that takes more replicas than there may be, each is charged for being one, ever more, so that fewer strong ones
take the place of many cheap ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.placement.greedy.candidates import Slot
from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.wishes import Survivability

#: More bounds than for so many domains are not tried: the spare that another one saves gets small.
MOST_DOMAINS = 8

#: Beyond its cost a replica is charged so many times the dearest one's: nothing, unless that takes too many.
CHARGES = (0.0, 0.01, 0.1, 1.0, 10.0, 1000.0)

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


def spread(slots: Sequence[Slot], ask: Ask) -> Shape | None:
    """The cheapest shape that is enough after each loss; None where there is none."""
    for charge in CHARGES:
        dearest = max([1.0, *(slot.each for slot in slots)]) if charge else 0.0
        shapes = _shapes(_parts(slots, ask, charge * dearest), ask)
        few = [shape for shape in shapes if shape.replicas <= ask.most]
        if few or not shapes:
            return _cheapest(few)
    return None


def _cheapest(shapes: Sequence[Shape]) -> Shape | None:
    least = min([shape.micro_usd_per_h for shape in shapes], default=0.0)
    equal = [shape for shape in shapes if shape.micro_usd_per_h == least]
    return min(equal, key=lambda shape: sorted(shape.taken.items()), default=None)


def as_much_as_fits(slots: Sequence[Slot], ask: Ask) -> Shape | None:
    """The most that there is room for, where what is asked for does not fit; None where nothing does.

    In the order of ``slots``; where ``most`` is what bounds it, those first that serve most, if more is served then.
    """
    state = _taken_in_turn(slots, ask)
    if sum(state.taken) == ask.most and state.lacking() > TOLERANCE:
        strongest = _taken_in_turn(sorted(slots, key=lambda slot: -slot.demand), ask)
        if strongest.lacking() < state.lacking() - TOLERANCE:
            state = strongest
    return state.shape() if sum(state.taken) else None


@dataclass(slots=True)
class _Parts:
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


def _parts(slots: Sequence[Slot], ask: Ask, charge: float = 0.0) -> _Parts:
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
    return _Parts(
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


def _caps(parts: _Parts, ask: Ask) -> list[float]:
    """Bounds on what may be in one domain, in parts of what is needed; widest first."""
    if ask.level == "none":
        return [math.inf]
    heaviest = max(parts.weight, default=0.0)
    if heaviest <= 0:
        return []
    needed = math.ceil(1 / heaviest - TOLERANCE)
    bounds = {-(-needed // (count - 1)) for count in range(2, min(parts.domains, MOST_DOMAINS) + 1)}
    return [bound * heaviest for bound in sorted(bounds, reverse=True)]


class _State:
    """Replicas taken of each slot so far, what they weigh, and what of that each loss would take.

    seen: losses that would take anything
    """

    __slots__ = ("beyond", "lost", "parts", "seen", "taken", "weight")

    def __init__(self, parts: _Parts, *, beyond: bool = False) -> None:
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
        taken: dict[str, int] = {}
        cost = 0.0
        for index, replicas in enumerate(self.taken):
            if replicas:
                slot = self.parts.slots[index]
                pool_id = slot.terms.pool.pool_id
                taken[pool_id] = taken.get(pool_id, 0) + replicas
                cost += replicas * slot.each
        return Shape(taken, cost)


class _Mixed(_State):
    """Where neither demand nor replicas bind everywhere, both are counted beside the weight."""

    __slots__ = ("count", "demand", "lost_count", "lost_demand")

    def __init__(self, parts: _Parts, *, beyond: bool = False) -> None:
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


def _nothing_taken(parts: _Parts, *, beyond: bool = False) -> _State:
    return _Mixed(parts, beyond=beyond) if parts.mixed else _State(parts, beyond=beyond)


def _shapes(parts: _Parts, ask: Ask) -> list[Shape]:
    """Of any number of replicas; what runs moves in some only where it must or is allowed to."""
    caps = _caps(parts, ask)
    found: list[Shape] = []
    filled: set[tuple[int, ...]] = set()
    for keep_held in (True, False):
        if ask.moves is None and any(shape.replicas <= ask.most for shape in found):
            break
        for cap in caps:
            if not keep_held and _stays(parts, cap):
                continue  # it would be filled as above
            for beyond in (False, True) if parts.uneven else (False,):
                state = _nothing_taken(parts, beyond=beyond)
                _fill(state, cap, keep_held=keep_held)
                if (taken := tuple(state.taken)) in filled:
                    continue  # another bound led here, or what runs does not move
                filled.add(taken)
                if (shape := _finished(state, ask, keep_held=keep_held)) is not None:
                    found.append(shape)
        if not parts.held:
            break
    return found


def _taken_in_turn(slots: Sequence[Slot], ask: Ask) -> _State:
    state = _nothing_taken(_parts(slots, ask))
    left = ask.most
    for index, slot in enumerate(slots):
        lacking = state.lacking()
        if left < 1 or lacking <= TOLERANCE:
            break
        weight = state.parts.weight[index]
        if weight > 0:
            replicas = min(slot.replicas, left, math.ceil(lacking / weight - TOLERANCE))
            state.add(index, replicas)
            left -= replicas
    return state


def _finished(state: _State, ask: Ask, *, keep_held: bool) -> Shape | None:
    """What was filled, with what still lacks and without what is not needed."""
    if not _repair(state):
        return None
    _give_back(state)
    shape = state.shape()
    return shape if keep_held or ask.moves is None else _moved(state.parts, shape, ask.moves)


def _moved(parts: _Parts, shape: Shape, times: float) -> Shape:
    """The shape at its price with what its moves cost, so many times."""
    cost = shape.micro_usd_per_h
    for index in parts.held:
        slot = parts.slots[index]
        gone = max(0, slot.replicas - shape.taken.get(slot.terms.pool.pool_id, 0))
        cost += times * gone * slot.leaving
    return Shape(shape.taken, cost)


def _fill(state: _State, cap: float, *, keep_held: bool) -> None:
    """What runs, then by cost, each within ``cap``, up to 1 + cap; the last replica is the cheapest that is enough."""
    parts, weights = state.parts, state.parts.weight
    if keep_held:
        for index in parts.held:
            state.add(index, parts.slots[index].replicas)
    lacking = _target(cap) - state.weight
    for index in parts.order:
        if lacking <= TOLERANCE:
            return
        free = state.capped(index, cap)
        if free < 1:
            continue
        whole = min(free, int(lacking / weights[index] + TOLERANCE))
        if whole:
            state.add(index, whole)
            lacking = _target(cap) - state.weight
        if whole < free and lacking > TOLERANCE:
            state.add(_last(state, lacking, cap, index), 1)
            return


def _target(cap: float) -> float:
    """So much is enough if no more than ``cap`` is in any domain."""
    return 1.0 if cap == math.inf else 1 + cap


def _stays(parts: _Parts, cap: float) -> bool:
    """Whether ``_fill`` takes first, and all of, what runs even where that may move."""
    if sorted(parts.order[: len(parts.held)]) != parts.held:
        return False
    running = _State(parts)
    for index in parts.held:
        running.add(index, parts.slots[index].replicas)
    return running.weight <= _target(cap) and max(running.lost, default=0.0) <= cap


def _last(state: _State, lacking: float, cap: float, otherwise: int) -> int:
    """The cheapest replica that makes up for what is lacking."""
    parts, weights = state.parts, state.parts.weight
    for index in parts.cheapest:
        if parts.price[index] >= parts.price[otherwise]:
            break
        if weights[index] >= lacking - TOLERANCE and state.capped(index, cap) > 0:
            return index
    return otherwise


def _repair(state: _State) -> bool:
    """Fill up outside of whatever loss still lacks most, at least cost. False where there is no room for it."""
    parts, weights = state.parts, state.parts.weight
    while True:
        lacking, loss = state.worst()
        if lacking <= TOLERANCE:
            return True
        best, cost = -1, math.inf
        for index, weight in enumerate(weights):
            if weight <= 0 or state.free(index) < 1 or loss in parts.losses[index]:
                continue
            worth = parts.price[index] / min(weight, lacking)
            if worth < cost:
                best, cost = index, worth
        if best < 0:
            return False
        state.add(best, min(state.free(best), max(1, int(lacking / weights[best]))))


def _give_back(state: _State) -> None:
    """What is not needed, the dearest first; what runs last."""
    parts = state.parts
    used = [index for index, replicas in enumerate(state.taken) if replicas]
    for index in sorted(used, key=lambda index: (parts.slots[index].held, -parts.price[index], -index)):
        spare = state.spare(index)
        if spare >= 1:
            state.add(index, -min(state.taken[index], int(spare)))
