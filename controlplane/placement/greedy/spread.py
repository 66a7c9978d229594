"""How many replicas go where, for one deployment that is looked at alone: enough after any loss, at least cost.

Greedy. With at most a part ``q`` of what is needed in any domain, ``1 + q`` in all are enough: the fewer domains, the
more spare. Each such bound is tried: what runs is taken first, then slots in the order of their cost within the bound;
what still lacks after some loss is filled up outside of it; what is not needed is given back. The cheapest wins.

Where that takes more replicas than there may be, each is charged for being one, ever more, so that fewer strong ones
take the place of many cheap ones.
"""

import math
from collections.abc import Sequence

from controlplane.placement.greedy.candidates import Slot
from controlplane.placement.greedy.tally import Ask, Parts, Shape, Taken, nothing_taken, parts_of
from controlplane.placement.rules.needs import TOLERANCE

#: More bounds than for so many domains are not tried: the spare that another one saves gets small.
MOST_DOMAINS = 8

#: Beyond its cost a replica is charged so many times the dearest one's: nothing, unless that takes too many.
CHARGES = (0.0, 0.01, 0.1, 1.0, 10.0, 1000.0)


def spread(slots: Sequence[Slot], ask: Ask) -> Shape | None:
    """The cheapest shape that is enough after each loss; None where there is none."""
    for charge in CHARGES:
        dearest = max([1.0, *(slot.each for slot in slots)]) if charge else 0.0
        shapes = _shapes(parts_of(slots, ask, charge * dearest), ask)
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


def _caps(parts: Parts, ask: Ask) -> list[float]:
    """Bounds on what may be in one domain, in parts of what is needed; widest first."""
    if ask.level == "none":
        return [math.inf]
    heaviest = max(parts.weight, default=0.0)
    if heaviest <= 0:
        return []
    needed = math.ceil(1 / heaviest - TOLERANCE)
    bounds = {-(-needed // (count - 1)) for count in range(2, min(parts.domains, MOST_DOMAINS) + 1)}
    return [bound * heaviest for bound in sorted(bounds, reverse=True)]


def _shapes(parts: Parts, ask: Ask) -> list[Shape]:
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
                state = nothing_taken(parts, beyond=beyond)
                _fill(state, cap, keep_held=keep_held)
                if (taken := tuple(state.taken)) in filled:
                    continue  # another bound led here, or what runs does not move
                filled.add(taken)
                if (shape := _finished(state, ask, keep_held=keep_held)) is not None:
                    found.append(shape)
        if not parts.held:
            break
    return found


def _taken_in_turn(slots: Sequence[Slot], ask: Ask) -> Taken:
    state = nothing_taken(parts_of(slots, ask))
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


def _finished(state: Taken, ask: Ask, *, keep_held: bool) -> Shape | None:
    """What was filled, with what still lacks and without what is not needed."""
    if not _repair(state):
        return None
    _give_back(state)
    shape = state.shape()
    return shape if keep_held or ask.moves is None else _moved(state.parts, shape, ask.moves)


def _moved(parts: Parts, shape: Shape, times: float) -> Shape:
    """The shape at its price with what its moves cost, so many times."""
    cost = shape.micro_usd_per_h
    for index in parts.held:
        slot = parts.slots[index]
        gone = max(0, slot.replicas - shape.taken.get(slot.terms.pool.pool_id, 0))
        cost += times * gone * slot.leaving
    return Shape(shape.taken, cost)


def _fill(state: Taken, cap: float, *, keep_held: bool) -> None:
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


def _stays(parts: Parts, cap: float) -> bool:
    """Whether ``_fill`` takes first, and all of, what runs even where that may move."""
    if sorted(parts.order[: len(parts.held)]) != parts.held:
        return False
    running = Taken(parts)
    for index in parts.held:
        running.add(index, parts.slots[index].replicas)
    return running.weight <= _target(cap) and max(running.lost, default=0.0) <= cap


def _last(state: Taken, lacking: float, cap: float, otherwise: int) -> int:
    """The cheapest replica that makes up for what is lacking."""
    parts, weights = state.parts, state.parts.weight
    for index in parts.cheapest:
        if parts.price[index] >= parts.price[otherwise]:
            break
        if weights[index] >= lacking - TOLERANCE and state.capped(index, cap) > 0:
            return index
    return otherwise


def _repair(state: Taken) -> bool:
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


def _give_back(state: Taken) -> None:
    """What is not needed, the dearest first; what runs last."""
    parts = state.parts
    used = [index for index, replicas in enumerate(state.taken) if replicas]
    for index in sorted(used, key=lambda index: (parts.slots[index].held, -parts.price[index], -index)):
        spare = state.spare(index)
        if spare >= 1:
            state.add(index, -min(state.taken[index], int(spare)))
