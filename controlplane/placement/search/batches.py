"""Deployments of like kind side by side, so that one pass over tables prices them all.

A batch holds deployments of one level of survivability whose quotas are about equal. Its tables are laid out once; each
round puts only new prices into them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Pools
from controlplane.placement.search.thresholds import Threshold, replicas_for, threshold

#: Quotas up to so much share a batch. More than the last is too much for tables.
QUOTAS = (4, 8, 16, 32)

_ROWS = {4: 128, 8: 96, 16: 48, 32: 24}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Rows (deployments) x cells x slots (pools of the cell).

    pool:   the problem's pool in each slot of each row, -1 for none
    place:  its position in the row's offer
    least:  so many replicas it takes to weigh 0, 1 ... quota (one at least), more than there may be where none do
    groups: what is lost together, groups x stages of cells (-1 for none)
    late:   rows x origins x cells
    """

    offers: tuple[Offer, ...]
    survives: bool
    pool: Ints
    place: Ints
    quota: Ints
    least: Floats
    limit: Floats
    held: Floats
    leaving: Floats
    refused: Floats
    freed: Floats
    room_gpus: Floats
    gpus: Floats
    budgeted: Floats
    groups: Ints
    usable: Bools
    late: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """What a GPU costs by pool, rent in it (``used``) and beyond it (``scarce``), and a micro-dollar of each budget."""

    used: Floats
    scarce: Floats
    budget: Floats

    @property
    def gpu(self) -> Floats:
        return self.used + self.scarce


def rounded(offer: Offer, pools: Pools) -> Threshold | None:
    """The offer's needs in whole numbers, or None where tables would not do: too large, or losses that overlap."""
    if not len(offer.pools) or not disjoint(offer):
        return None
    survival = offer.survival if offer.level != "none" else np.ones_like(offer.survival)
    price = pools.rent_micro_usd_per_gpu_h[offer.pools] * offer.gpus
    found = None
    for most in QUOTAS:
        found = threshold(offer.share * survival, survival / offer.needs.replicas, price, most=most)
        if found.error < 0.01:
            return found
    return found if found is not None and (found.error < 0.3) else None


def disjoint(offer: Offer) -> bool:
    """Whether each usable pool is taken by at most one loss (by one, where any is promised to be survived)."""
    if offer.passive or offer.level == "none":
        return True
    if not offer.losses:
        return False
    taken = np.sum(list(offer.losses.values()), axis=0)
    return bool(np.all(taken == 1))


def batches(pools: Pools, found: Sequence[tuple[Offer, Threshold]]) -> Iterator[Batch]:
    """All offers in batches; like with like, by level, size of quota, and where they may go."""

    def kind(one: tuple[Offer, Threshold]) -> tuple[bool, bool, int, str]:
        offer, needs = one
        size = next(size for size in QUOTAS if needs.quota <= size)
        return offer.passive, offer.level != "none", size, offer.level

    order = sorted(
        found, key=lambda one: (kind(one), tuple(one[0].pools[:3]), len(one[0].pools), one[0].number)
    )
    start = 0
    while start < len(order):
        this = kind(order[start])
        end = start
        while end < len(order) and end - start < _ROWS[this[2]] and kind(order[end]) == this:
            end += 1
        yield _batch(pools, order[start:end])
        start = end


def _labels(pools: Pools, offer: Offer) -> list[tuple[str, str]]:
    """Each usable pool's (group, region), or in active_passive (cluster, region)."""
    if offer.passive:
        return [(f"{pools.cluster[pool]:06d}", pools.region[pool]) for pool in offer.pools]
    group = [""] * len(offer.pools)
    for name, taken in offer.losses.items():
        for position in np.flatnonzero(taken):
            group[position] = name
    return [(group[position], pools.region[pool]) for position, pool in enumerate(offer.pools)]


def _batch(pools: Pools, found: Sequence[tuple[Offer, Threshold]]) -> Batch:
    offers = tuple(offer for offer, _ in found)
    labels = [_labels(pools, offer) for offer in offers]
    cell = {label: number for number, label in enumerate(sorted({one for row in labels for one in row}))}
    slots = max(max(row.count(label) for label in row) for row in labels)
    shape = (len(offers), len(cell), slots)
    size = max(needs.quota for _, needs in found) + 1
    origins = max(len(offer.load) for offer in offers)
    pool, place = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    least = np.full((*shape, size), np.inf)
    names = ("limit", "held", "leaving", "refused", "freed", "room_gpus", "budgeted")
    filled = {name: np.zeros(shape) for name in names}
    late = np.full((len(offers), origins, len(cell)), 0.0)
    for row, (offer, needs) in enumerate(found):
        at_cell = np.array([cell[label] for label in labels[row]])
        at_slot = _slots(at_cell)
        pool[row, at_cell, at_slot] = offer.pools
        place[row, at_cell, at_slot] = np.arange(len(offer.pools))
        for name, values in filled.items():
            values[row, at_cell, at_slot] = getattr(offer, name)
        for weight in range(size):
            fewest = replicas_for(needs.factor, max(1, weight))
            if weight == 0:  # what serves nothing may stay all the same, where leaving costs more
                fewest = np.where(np.isfinite(fewest), fewest, 1.0)
            least[row, at_cell, at_slot, weight] = fewest
        late[row, : len(offer.load), at_cell] = offer.late.T
    labelled = sorted({group for group, _ in cell})
    members = [[number for (group, _), number in cell.items() if group == name] for name in labelled]
    groups = np.full((len(labelled), max(len(one) for one in members)), -1, dtype=np.int64)
    for number, one in enumerate(members):
        groups[number, : len(one)] = one
    return Batch(
        offers=offers,
        survives=offers[0].level != "none",
        pool=pool,
        place=place,
        quota=np.array([needs.quota for _, needs in found]),
        least=least,
        gpus=np.array([float(offer.gpus) for offer in offers]),
        groups=groups,
        usable=np.any(pool >= 0, axis=2),
        late=late,
        **filled,
    )


def _slots(cell: Ints) -> Ints:
    """The how-manieth of its cell each pool is."""
    seen: dict[int, int] = {}
    found = []
    for one in cell:
        found.append(seen.get(int(one), 0))
        seen[int(one)] = found[-1] + 1
    return np.array(found)


def priced(batch: Batch, prices: Prices, project: Ints) -> tuple[Floats, Floats]:
    """(cost, replicas) rows x cells x slots x quota+1, beside having none there. ``project``: each row's budget or -1.

    More replicas than are needed stay only where that costs less than to send them away.
    """
    pool = np.maximum(batch.pool, 0)
    budget = np.where(project >= 0, np.append(prices.budget, 0.0)[project], 0.0)
    gpus = batch.gpus[:, None, None]
    used = prices.used[pool] * gpus + budget[:, None, None] * batch.budgeted
    scarce = prices.scarce[pool] * batch.room_gpus

    def cost(replicas: Floats, extra: tuple[None, ...]) -> Floats:
        def wide(values: Floats) -> Floats:
            return values[(..., *extra)]

        beyond = np.maximum(replicas - wide(batch.freed), 0) * wide(scarce)
        new = np.maximum(replicas - wide(batch.held), 0) * wide(batch.refused)
        stay = np.minimum(replicas, wide(batch.held)) * wide(batch.leaving)
        total: Floats = replicas * wide(used) + beyond + new - stay
        return total

    stay = np.zeros_like(used)
    least = cost(stay, ())
    most = np.minimum(batch.held, batch.limit)
    for some in (np.minimum(np.floor(batch.freed), most), np.minimum(np.ceil(batch.freed), most), most):
        here = cost(some, ())
        stay = np.where(here < least, some, stay)
        least = np.minimum(here, least)
    replicas = np.maximum(batch.least, stay[..., None])
    lawful = replicas <= batch.limit[..., None]
    replicas = np.where(lawful, replicas, 0.0)
    return np.where(lawful, cost(replicas, (None,)), np.inf), replicas
