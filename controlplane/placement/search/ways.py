"""All ways of one deployment that cost no more than a given sum at given prices: each of them, not the cheapest alone.

A way is a whole plan of it in whole replicas. Ways are put together pool by pool, and dropped as soon as what the other
pools must still give (``reach.py``) would cost too much, or traffic does already.

Left out are ways that hold an idle replica: without it they cost no more, take no more, and keep as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.search.batches import Prices
from controlplane.placement.search.carried import Carried
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers
from controlplane.placement.search.programs import Program
from controlplane.placement.search.reach import Reach, reaches

#: What a need may fall short by: more than any lawful plan's, so that none is left out.
_SHORT = 4 * TOLERANCE

#: Sums are compared with so much to spare, in micro-USD/h.
_SAFE = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Ways:
    """``replicas`` ways x the offer's pools, which of them stand by, and ``own``: all that a way costs but rent."""

    offer: Offer
    replicas: Ints
    standby: Bools
    own: Floats


class TooManyError(Exception):
    """There are more ways than were allowed."""


def _within(offers: Offers, found: Ways, prices: Prices, spare: float) -> Ways:
    """Those that cost ``spare`` at most at these prices."""
    used, scarce = _units(offers, found.offer, prices)
    paid = found.own + found.replicas @ used + np.maximum(found.replicas - found.offer.freed, 0) @ scarce
    return _some(found, paid <= spare + _SAFE)


def _units(offers: Offers, offer: Offer, prices: Prices) -> tuple[Floats, Floats]:
    """What a replica costs on each pool: rent and budget, and beyond the room that its own outgoing ones leave."""
    budget = _budget_price(offers, offer, prices)
    used: Floats = prices.used[offer.pools] * offer.gpus + budget * offer.budgeted
    scarce: Floats = prices.scarce[offer.pools] * offer.room_gpus
    return used, scarce


def _budget_price(offers: Offers, offer: Offer, prices: Prices) -> float:
    """Of a micro-dollar of its project's."""
    project = offers.project.get(offer.deployment.project_id, -1)
    return float(prices.budget[project]) if project >= 0 else 0.0


def _some(found: Ways, keep: Bools) -> Ways:
    return Ways(found.offer, found.replicas[keep], found.standby[keep], found.own[keep])


def _dearer(found: Ways, more: Floats) -> Ways:
    return Ways(found.offer, found.replicas, found.standby, found.own + more)


def _carried(offers: Offers, found: Ways) -> Carried:
    return Carried(offers, found.offer, np.where(found.standby, 0, found.replicas))


def _moved(offer: Offer, replicas: Ints) -> Floats:
    """What new replicas cost that may be refused, less what those need not pay that stay."""
    new, stay = np.maximum(replicas - offer.held, 0), np.minimum(replicas, offer.held)
    found: Floats = new @ offer.refused - stay @ offer.leaving
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Waste:
    """What a number of replicas costs at least beyond what it is worth, by pool, and how much of that there may be."""

    by_pool: Sequence[Floats]
    most: float


class Listing:
    """One offer at prices that were tried, by the first of which ways are put together: as often as is asked.

    program: the offer's
    most:    where more come up on the way, that is an error
    costs:   by pool and number of replicas
    """

    def __init__(
        self, offers: Offers, offer: Offer, program: Program, tried: Sequence[Prices], *, most: int
    ) -> None:
        self.offers, self.offer, self.program, self.tried, self.most = offers, offer, program, tried, most
        self.prices = prices = tried[0]
        self._reaches: dict[tuple[int, ...], list[Reach]] = {}
        self.used, self.scarce = _units(offers, offer, prices)
        survival = offer.survival if offer.level != "none" else np.ones(len(offer.pools))
        self.parts = np.array([offer.share * survival, survival / offer.needs.replicas])
        self.costs = [self._cost(place, np.arange(1 + size)) for place, size in enumerate(self._sizes())]

    def ways(self, spares: Sequence[float]) -> Ways:
        """Every way that costs so much at most at each of the prices, all included.

        Raises ``TooManyError``.
        """
        offers, offer = self.offers, self.offer
        replicas, standby = self._in_clusters(spares[0]) if offer.passive else self._anywhere(spares[0])
        own = offer.fixed + _moved(offer, replicas) + self._lacking(replicas)
        found = Ways(offer, replicas, standby, own)
        found = self._within(_dearer(found, _carried(offers, found).nearest), spares)
        found = self._within(_dearer(found, _carried(offers, found).over), spares)
        traffic = _carried(offers, found)
        more = np.zeros(len(found.own))
        for way in map(int, np.flatnonzero(traffic.open)):
            more[way] = traffic.exactly(way) - traffic.nearest[way] - traffic.over[way]
        return _taut(self._within(_dearer(found, more), spares))

    def _within(self, found: Ways, spares: Sequence[float]) -> Ways:
        for prices, spare in zip(self.tried, spares, strict=True):
            found = _within(self.offers, found, prices, spare)
        return found

    def _lacking(self, replicas: Ints) -> Floats:
        """What replicas that are missing cost, by way."""
        offer = self.offer
        if not offer.short:
            return np.zeros(len(replicas))
        missing = np.maximum(0, offer.needs.replicas - replicas.sum(axis=1))
        if offer.needs.served > 0:
            lacking = np.ceil((1 - replicas @ offer.share) * offer.needs.size - 1e-6)
            missing = np.maximum(missing, lacking)
        found: Floats = offer.missing * missing
        return found

    def _sizes(self) -> Ints:
        """So many replicas of each pool at most: more serve nobody, and stay only where leaving costs something."""
        offer = self.offer
        # More replicas may take traffic that is parted where it is nearer; of a pair one cluster takes all of it.
        parted = len(offer.load) > 0 and not offer.passive
        parts = np.vstack([self.parts, offer.share * offer.needs.served]) if parted else self.parts
        some = parts > 1e-9
        enough = np.ceil(np.where(some, 1.0 / np.where(some, parts, 1.0), 0.0) - 1e-9).max(axis=0)
        if offer.needs.served < 1.0 and parted:
            enough = np.full(len(offer.pools), float(offer.deployment.max_replicas))
        stay = np.where(offer.leaving > 0, offer.held, 0)
        sizes = np.minimum(np.maximum(enough, stay), np.minimum(offer.limit, offer.deployment.max_replicas))
        found: Ints = sizes.astype(np.int64)
        return found

    def _cost(self, place: int, counts: Ints) -> Floats:
        offer = self.offer
        found: Floats = (
            counts * self.used[place]
            + np.maximum(counts - offer.freed[place], 0) * self.scarce[place]
            + np.maximum(counts - offer.held[place], 0) * offer.refused[place]
            - np.minimum(counts, offer.held[place]) * offer.leaving[place]
        )
        return found

    def _anywhere(self, spare: float) -> tuple[Ints, Bools]:
        """Ways of who may serve from several places."""
        offer = self.offer
        spare -= offer.fixed
        places, losses = np.arange(len(offer.pools)), list(offer.losses.values())
        found = self._grown(places, losses, spare, self._waste(spare))
        return found, np.zeros(found.shape, dtype=bool)

    def _in_clusters(self, spare: float) -> tuple[Ints, Bools]:
        """Ways in which one cluster serves and, where losses must be survived, another one stands by."""
        offer, spare = self.offer, spare - self.offer.fixed
        cluster = self.offers.pools.cluster[offer.pools]
        alone: dict[int, tuple[Ints, Floats]] = {}
        for one in map(int, np.unique(cluster)):
            places = np.flatnonzero(cluster == one)
            replicas = self._grown(places, [], spare, None)
            costs = np.sum([self.costs[place][replicas[:, place]] for place in places], axis=0)
            alone[one] = replicas, costs + self._lacking(replicas)
        made = [
            (np.zeros((0, len(offer.pools)), dtype=np.int64), np.zeros((0, len(offer.pools)), dtype=bool))
        ]
        for first, (serving, cost) in alone.items():
            late = float(offer.late[:, np.flatnonzero(cluster == first)[0]].sum())
            if offer.level == "none":
                keep = cost + late <= spare + _SAFE
                made.append((serving[keep], np.zeros((int(keep.sum()), len(offer.pools)), dtype=bool)))
                continue
            for second, (standing, other) in alone.items():
                if second != first and not self._lost_together(cluster, first, second):
                    way, other_way = np.nonzero(cost[:, None] + other[None, :] + late <= spare + _SAFE)
                    self._check(len(way))
                    made.append((serving[way] + standing[other_way], standing[other_way] > 0))
        return np.vstack([replicas for replicas, _ in made]), np.vstack([standby for _, standby in made])

    def _waste(self, spare: float) -> _Waste | None:
        """By the linear program: much is told of large numbers that rounded needs do not tell, and of traffic."""
        found = self.program.relaxed(self.prices, _budget_price(self.offers, self.offer, self.prices))
        if found is None:
            return None
        least, worth = found
        beyond = [cost - worth[place] * np.arange(len(cost)) for place, cost in enumerate(self.costs)]
        fewest = [float(one.min()) for one in beyond]
        wasted = [one - few for one, few in zip(beyond, fewest, strict=True)]
        return _Waste(wasted, spare - least - sum(fewest) + _SAFE)

    def _lost_together(self, cluster: Ints, first: int, second: int) -> bool:
        return any(
            bool(np.any(taken[cluster == first]) and np.any(taken[cluster == second]))
            for taken in self.offer.losses.values()
        )

    def _check(self, count: int) -> None:
        if count > self.most:
            raise TooManyError

    def _grown(self, places: Ints, losses: Sequence[Bools], spare: float, waste: _Waste | None) -> Ints:
        """Replicas on these places (all pools wide) that suffice whatever is lost and cost no more."""
        offer = self.offer
        late = offer.late[:, :0] if offer.passive else offer.late
        key = tuple(map(int, places))
        if key not in self._reaches:
            self._reaches[key] = list(reaches(offer, self.parts, self.costs, places, losses))
        kinds = [reach for reach in self._reaches[key] if reach.least <= spare + _SAFE]
        none = np.zeros((0, len(offer.pools)), dtype=np.int64)
        replicas = np.vstack([none, *(self._reaching(reach, spare, late, waste) for reach in kinds)])
        keep = replicas.sum(axis=1) <= offer.deployment.max_replicas
        if offer.short:
            keep &= replicas.any(axis=1)  # to have none at all is no part of what is asked for
        else:
            left = ~np.array(losses or [np.zeros(len(offer.pools), dtype=bool)])
            parts = (left[:, None, :] * self.parts[None]).reshape(-1, len(offer.pools))
            keep &= np.all(replicas.astype(float) @ parts.T >= 1 - _SHORT, axis=1)
        lawful: Ints = replicas[keep]
        return lawful

    def _reaching(self, reach: Reach, spare: float, late: Floats, waste: _Waste | None) -> Ints:
        """Those of one kind, pool by pool. ``late``: none where traffic is decided already."""
        offer, order = self.offer, reach.places
        origins = len(late) if late.shape[1] else 0
        replicas = np.zeros((1, len(offer.pools)), dtype=np.int64)
        spent, seen, states = np.zeros(1), np.full((1, origins), np.inf), reach.begin()
        wasted = np.zeros(1)
        for turn, place in enumerate(order):
            sums = spent[:, None] + self.costs[place][None, :]
            fits = sums + reach.least_left(turn) <= spare + _SAFE
            if waste is not None:
                fits &= wasted[:, None] + waste.by_pool[place][None, :] <= waste.most
            row, number = np.nonzero(fits)
            states, left = reach.follow(turn, states[row], number)
            fitting = np.flatnonzero(sums[row, number] + left <= spare + _SAFE)
            row, number, states, left = row[fitting], number[fitting], states[fitting], left[fitting]
            self._check(len(row))
            replicas, spent = replicas[row], sums[row, number]
            replicas[:, place] = number
            if waste is not None:
                wasted = wasted[row] + waste.by_pool[place][number]
            if origins:
                here = np.minimum(seen[row], late[:, place])
                seen = np.where((number > 0)[:, None], here, seen[row])
                nearest = np.minimum(seen, late[:, order[turn + 1 :]].min(axis=1, initial=np.inf))
                least = np.where(np.isfinite(nearest), nearest, 0.0).sum(axis=1)
                alive = np.flatnonzero(spent + left + least <= spare + _SAFE)
                replicas, spent, seen, states = replicas[alive], spent[alive], seen[alive], states[alive]
                wasted = wasted[alive] if waste is not None else wasted
        return replicas[reach.ends(states)]


def _taut(found: Ways) -> Ways:
    """Without ways that are others with a replica more, which saves nothing."""
    count = len(found.own)
    sizes = found.replicas.max(axis=0, initial=0) + 1
    if count < 2 or math.prod(2 * int(size) for size in sizes) >= 2**62:
        return found
    steps = np.concatenate([[1], np.cumprod(2 * sizes[:-1])]).astype(np.int64)
    code = (2 * found.replicas + found.standby) @ steps
    order = np.argsort(code, kind="stable")
    in_order = code[order]
    keep = np.ones(count, dtype=bool)
    for place in range(found.replicas.shape[1]):
        some = found.replicas[:, place] > 0
        last = (found.replicas[:, place] == 1) & found.standby[:, place]
        less = code - 2 * steps[place] - np.where(last, steps[place], 0)
        at = np.minimum(np.searchsorted(in_order, less), count - 1)
        there = some & (in_order[at] == less)
        keep &= ~(there & (found.own[order[at]] <= found.own + 1e-6))
    return _some(found, keep)
