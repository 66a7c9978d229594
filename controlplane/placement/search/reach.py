"""What the pools that are still to be decided must cost at least, so that a deployment has all it needs.

Needs are counted in small whole numbers (``thresholds.py``), as every lawful plan keeps them: pools weigh so much, and
whatever group is lost, the others must reach the quota. Let m be the least of the quota and what the heaviest group
weighs: then all that groups weigh, no group counted above m, is quota + m at least, and below the quota none weighs
more than m. So ways are looked for m by m, and of each m what is least follows from what the group at hand weighs and
what is still lacking, from the last pool backwards.

Where losses overlap, a pool is of the group of one of them: less is lost than would be, which errs low.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from controlplane.placement.search.batches import QUOTAS
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer
from controlplane.placement.search.thresholds import threshold

#: Rounding is good enough where about so much is left out.
_FINE = 0.01


@dataclass(slots=True, eq=False)
class Reach:
    """Ways whose heaviest group counts ``cap``. A state is what the group at hand weighs, what the heaviest did, and
    what is lacking: one number.

    places: the pools in order
    weights: by place and number of replicas
    grouped: by place, whether it is of a group that may be lost; ``ends_group``: whether it is the last of its group
    least_after: turn, weight of the group at hand, lacking -> cost of all that follows
    """

    places: Ints
    weights: Sequence[Ints]
    grouped: Bools
    ends_group: Bools
    quota: int
    cap: int
    least_after: Floats = field(init=False)

    def look_back(self, offer: Offer, costs: Sequence[Floats]) -> None:
        """Work out what is least, from the last pool backwards. ``costs`` by place and number of replicas."""
        lacking, held = np.arange(self.quota + self.cap + 1), np.arange(self.cap + 1)
        self.least_after = np.full((len(costs) + 1, len(held), len(lacking)), np.inf)
        self.least_after[-1] = offer.missing * lacking if offer.short else np.where(lacking > 0, np.inf, 0.0)
        for turn in range(len(costs) - 1, -1, -1):
            after, gained, lawful = self._weighed(turn, held[:, None], self.weights[turn][None, :])
            after = np.where(self.ends_group[turn], 0, after)
            left = np.maximum(lacking - gained[:, :, None], 0)
            ways = costs[turn][:, None] + self.least_after[turn + 1][after[:, :, None], left]
            self.least_after[turn] = np.where(lawful[:, :, None], ways, np.inf).min(axis=1)

    @property
    def least(self) -> float:
        """No way costs less."""
        return float(self.least_after[0, 0, -1])

    def least_left(self, turn: int) -> float:
        """Whatever was chosen so far, all pools after this turn cost so much at least."""
        return float(self.least_after[turn + 1].min())

    def begin(self) -> Ints:
        """The state before the first pool: weight of the group, heaviest, lacking."""
        return np.array([[0, 0, self.least_after.shape[2] - 1]])

    def follow(self, turn: int, states: Ints, numbers: Ints) -> tuple[Ints, Floats]:
        """What follows from each state with its number of replicas, and what all later pools cost at least (infinite:
        there is no way).
        """
        group, heaviest, lacking = states.T
        after, gained, lawful = self._weighed(turn, group, self.weights[turn][numbers])
        lacking = np.maximum(lacking - gained, 0)
        heaviest = np.maximum(heaviest, after)
        after = np.where(self.ends_group[turn], 0, after)
        left = np.where(lawful, self.least_after[turn + 1, after, lacking], np.inf)
        return np.stack([after, heaviest, lacking], axis=1), left

    def ends(self, states: Ints) -> Bools:
        """Whether the heaviest group did count as much as the cap: else it is a way of another."""
        found: Bools = states[:, 1] >= self.cap
        return found

    def _weighed(self, turn: int, group: Ints, weights: Ints) -> tuple[Ints, Ints, Bools]:
        """(what the group weighs then, no more than the cap; what that adds to what counts; whether it may)."""
        heavy = group + weights
        if not self.grouped[turn]:
            return np.zeros_like(heavy), heavy - group, np.ones(heavy.shape, dtype=bool)
        after = np.minimum(heavy, self.cap)
        return after, after - group, (heavy <= self.cap) | (self.cap == self.quota)


def reaches(
    offer: Offer, parts: Floats, costs: Sequence[Floats], places: Ints, losses: Sequence[Bools]
) -> Iterator[Reach]:
    """One for each m. ``costs`` by pool and number of replicas; ``parts``: what a replica gives of each need."""
    factor, quota = _rounded(offer, parts, costs, places)
    group = np.full(len(parts[0]), -1)
    for number, taken in enumerate(losses):
        group[taken & (group < 0)] = number
    order = places[np.lexsort((places, group[places]))]
    grouped = group[order] >= 0
    ends_group = np.append(group[order][1:] != group[order][:-1], True)
    weights = [_weights(factor[place], len(costs[place])) for place in order]
    groups = len(np.unique(group[order][grouped]))
    least_cap = (
        -(-quota // max(1, groups - 1)) if grouped.all() else 1
    )  # so many at least, or all together are too few
    for cap in range(least_cap, quota + 1) if losses else [0]:
        found = Reach(order, weights, grouped, ends_group, quota, cap)
        found.look_back(offer, [costs[place] for place in order])
        yield found


def _rounded(offer: Offer, parts: Floats, costs: Sequence[Floats], places: Ints) -> tuple[Floats, int]:
    """What a replica weighs by pool, and the quota."""
    if offer.short:
        if offer.needs.served > 0:
            return offer.share * offer.needs.size, offer.needs.size
        return np.ones(len(offer.pools)), offer.needs.replicas
    price = np.array([max(1.0, float(costs[place][1:2].sum())) for place in places])
    for most in QUOTAS:
        found = threshold(parts[0][places], parts[1][places], price, most=most)
        if found.error < _FINE:
            break
    factor = np.zeros(len(offer.pools))
    factor[places] = found.factor
    return factor, found.quota


def _weights(factor: float, size: int) -> Ints:
    """Of each number of replicas, rounded up."""
    found: Ints = np.ceil(np.arange(size) * factor - 1e-6).astype(np.int64)
    return np.maximum(found, 0)
