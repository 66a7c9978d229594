"""What traffic costs in many ways of one deployment at once: lateness and network, each region within its capacity."""

from dataclasses import dataclass, field

import numpy as np

from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.rules.traffic import transported
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers


@dataclass(slots=True, eq=False)
class Carried:
    """``serving``: ways x the offer's pools. Money in micro-USD/h.

    nearest: what it costs, if each region that is used could serve all
    over:    what it costs more than that at least, as regions cannot: what is too much for one goes to where it costs
             least more
    open:    where it may be more than that, as not all of it fits there
    """

    offers: Offers
    offer: Offer
    serving: Ints
    nearest: Floats = field(init=False)
    over: Floats = field(init=False)
    open: Bools = field(init=False)
    _late: Floats = field(init=False)
    _room: Floats = field(init=False)
    _used: Bools = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.serving)
        self.nearest, self.over, self.open = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
        offer = self.offer
        if not count or not len(offer.load):
            return
        pools = self.offers.pools
        place = pools.cluster if offer.passive else pools.region_number
        _, first, at = np.unique(place[offer.pools], return_index=True, return_inverse=True)
        of_pool: Floats = np.eye(len(first))[at]
        self._late = offer.late[:, first]
        self._used = self.serving @ of_pool > 0
        room = (self.serving * offer.share * offer.needs.served) @ of_pool
        total = room.sum(axis=1, keepdims=True)
        self._room = np.where(total > 0, room / np.clip(total, 1e-12, 1.0), 1.0)
        seen = np.where(self._used[:, None, :], self._late[None], np.inf)
        self.nearest = np.where(self._used.any(axis=1), np.min(seen, axis=2).sum(axis=1), 0.0)
        several = np.flatnonzero(self._used.sum(axis=1) > 1)
        if len(several):
            self._reckon_over(several, seen[several])

    def _reckon_over(self, several: Ints, seen: Floats) -> None:
        """``several``: the ways that use more than one region; ``seen``: those x origins x regions, what it costs."""
        load = self.offer.load
        regions = np.argsort(seen, axis=2)[:, :, :2]
        by_cost = np.take_along_axis(seen, regions, axis=2)
        each = np.where(load > 0, (by_cost[:, :, 1] - by_cost[:, :, 0]) / np.where(load > 0, load, 1.0), 0.0)
        order = np.argsort(each, axis=1)
        each = np.take_along_axis(each, order, axis=1)
        first, second = (np.take_along_axis(regions[:, :, rank], order, axis=1) for rank in range(2))
        left, gone_to = self._room[several], np.zeros(seen.shape[::2])
        for region in range(seen.shape[2]):
            here = np.where(first == region, load[order], 0.0)
            left[:, region] -= here.sum(axis=1)
            excess = -left[:, region]
            gone = np.clip(excess[:, None] - (np.cumsum(here, axis=1) - here), 0.0, here)
            gone[excess <= TOLERANCE] = 0.0
            self.over[several] += (gone * each).sum(axis=1)
            gone_to += np.where(second[:, :, None] == np.arange(seen.shape[2]), gone[:, :, None], 0.0).sum(
                axis=1
            )
            left[:, region] += gone.sum(axis=1)
        self.open[several] = np.any(gone_to > np.maximum(left, 0.0) + TOLERANCE, axis=1)

    def exactly(self, way: int) -> float:
        """What traffic costs in one way, as ``columns.column`` counts it."""
        used = self._used[way]
        late = self._late[:, used]
        flow = transported(self.offer.load.tolist(), self._room[way, used].tolist(), late.tolist())
        return float((np.array(flow) * late).sum())
