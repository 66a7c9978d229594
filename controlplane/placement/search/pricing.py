"""The cheapest plan of each deployment at given prices, and a bound that no plan of it goes below.

Tables know what replicas cost; traffic depends on which cells are used at all. So that is branched on: a node says
which cells may be used and which must be, its bound takes every allowed cell for used. The best plan found in any node
is the deployment's, the least bound of those that were closed its lower bound.

In ``active_passive`` a cell is a cluster: all that serves is in one, and traffic with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from controlplane.placement.search import tables
from controlplane.placement.search.batches import Batch, Prices, priced
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer

#: Branching ends where a bound is this near to the best plan, as a part of its cost, or after so many rounds.
_NEAR = 2e-4
_ROUNDS = 14
_NODES_PER_ROW = 6


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """``bound``: no plan of the offer costs less at the prices. ``replicas`` by the offer's pools, and which stand by;
    None where there is no plan. It may lack a little of what is needed, where whole numbers were too coarse.
    """

    offer: Offer
    bound: float
    replicas: Ints | None
    standby: Bools | None = None


@dataclass(slots=True, eq=False)
class _Nodes:
    row: Ints
    allowed: Bools
    forced: Bools


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A batch's tables at some prices. ``replicas_at``: how many a slot has when it weighs so much."""

    batch: Batch
    cells: tables.Cells
    replicas_at: Floats

    def fill(self, row: int, cell: int, reached: int, replicas: Ints) -> None:
        """Add the replicas of a cell that weighs ``reached``."""
        for slot, weight in tables.weights_in(self.cells, row, cell, reached):
            place = self.batch.place[row, cell, slot]
            replicas[place] += int(self.replicas_at[row, cell, slot, weight])


def price(batch: Batch, prices: Prices, project: Ints, *, near: float = _NEAR) -> Iterator[Found]:
    """For every offer of the batch the cheapest plan and a bound, penalties and what is gone included."""
    costs, replicas_at = priced(batch, prices, project)
    made = _Made(batch, tables.cells(costs), replicas_at)
    if batch.offers[0].passive:
        yield from _passive(made)
        return
    bound, weights = _branched(batch, made.cells.cost, near)
    for row, offer in enumerate(batch.offers):
        if not np.isfinite(bound[row]):
            yield Found(offer, np.inf, None)
            continue
        replicas = np.zeros(len(offer.pools), dtype=np.int64)
        for cell in np.flatnonzero(weights[row] >= 0):
            made.fill(row, int(cell), int(weights[row, cell]), replicas)
        yield Found(offer, float(bound[row]) + offer.fixed, replicas)


def _branched(batch: Batch, cost: Floats, near: float) -> tuple[Floats, Ints]:
    rows, width = batch.usable.shape
    best, bound = np.full(rows, np.inf), np.full(rows, np.inf)
    chosen = np.full((rows, width), -1, dtype=np.int64)
    nodes = _Nodes(np.arange(rows), batch.usable.copy(), np.zeros((rows, width), dtype=bool))
    for turn in range(_ROUNDS):
        value, weights = _solved(batch, cost, nodes)
        late = batch.late[nodes.row]
        low = value + _least(late, nodes.allowed)
        high = value + _least(late, weights >= 0)
        for number in np.argsort(high, kind="stable"):
            row = nodes.row[number]
            if high[number] < best[row]:
                best[row], chosen[row] = high[number], weights[number]
        open_ = low < np.where(np.isfinite(best), best * (1 - near), best)[nodes.row] - 1.0
        open_ &= low < high - 1.0
        if turn == _ROUNDS - 1 or open_.sum() > _NODES_PER_ROW * rows:
            open_[:] = False
        closed = ~open_
        np.minimum.at(bound, nodes.row[closed], low[closed])
        if not open_.any():
            break
        nodes = _children(nodes, late, weights >= 0, open_)
    return np.minimum(bound, best), chosen


def _least(late: Floats, cells: Bools) -> Floats:
    """Each origin's traffic at its cheapest of these cells."""
    if not late.shape[1]:
        return np.zeros(len(late))
    found = np.where(cells[:, None, :], late, np.inf).min(axis=2)
    total: Floats = np.where(np.isfinite(found), found, 0.0).sum(axis=1)
    return total


def _solved(batch: Batch, cost: Floats, nodes: _Nodes) -> tuple[Floats, Ints]:
    used = np.where(nodes.allowed[:, :, None], cost[nodes.row], np.inf)
    quota = batch.quota[nodes.row]
    joined = tables.join(used, nodes.forced, batch.groups)
    value, cap = tables.whole(joined[-1], quota, survives=batch.survives)
    reached = tables.parts(joined[-1], quota, cap, survives=batch.survives)
    weights = tables.split(joined, used, nodes.forced, batch.groups, reached)
    return value, np.where(np.isfinite(value)[:, None], weights, -1)


def _children(nodes: _Nodes, late: Floats, used: Bools, open_: Bools) -> _Nodes:
    """Of the origin that loses most, the cheapest cell that the node allows: it must be used, or may not be."""
    keep = np.flatnonzero(open_)
    late, used = late[keep], used[keep]
    allowed, forced, row = nodes.allowed[keep], nodes.forced[keep], nodes.row[keep]
    every = np.arange(len(keep))
    over_allowed = np.where(allowed[:, None, :], late, np.inf).min(axis=2)
    over_used = np.where(used[:, None, :], late, np.inf).min(axis=2)
    origin = np.argmax(over_used - over_allowed, axis=1)
    seen = np.where(allowed & ~used, late[every, origin], np.inf)
    cell = np.argmin(seen, axis=1)
    without, with_ = allowed.copy(), forced.copy()
    without[every, cell] = False
    with_[every, cell] = True
    return _Nodes(
        np.concatenate([row, row]), np.concatenate([without, allowed]), np.concatenate([forced, with_])
    )


def _passive(made: _Made) -> Iterator[Found]:
    """Every pair of a cluster that serves and one that stands by, outside of whatever loss takes the first."""
    batch = made.batch
    for row, offer in enumerate(batch.offers):
        quota = int(batch.quota[row])
        alone = made.cells.cost[row, :, quota]
        pairs = (alone + batch.late[row].sum(axis=0))[:, None]
        if batch.survives:
            pairs = pairs + np.where(_apart(batch, row), alone[None, :], np.inf)
        best = int(np.argmin(pairs))
        cost = float(pairs.flat[best])
        if not np.isfinite(cost):
            yield Found(offer, np.inf, None)
            continue
        first, second = divmod(best, pairs.shape[1])
        replicas = np.zeros(len(offer.pools), dtype=np.int64)
        made.fill(row, first, quota, replicas)
        active = replicas > 0
        if batch.survives:
            made.fill(row, second, quota, replicas)
        yield Found(offer, cost + offer.fixed, replicas, (replicas > 0) & ~active)


def _apart(batch: Batch, row: int) -> Bools:
    """Cells x cells: whether no loss takes pools of both."""
    offer = batch.offers[row]
    width = batch.usable.shape[1]
    together = np.eye(width, dtype=bool)
    cell, slot = np.nonzero(batch.pool[row] >= 0)
    place = batch.place[row, cell, slot]
    for taken in offer.losses.values():
        touched = np.zeros(width, dtype=bool)
        touched[cell[taken[place]]] = True
        together |= touched[:, None] & touched[None, :]
    return ~together
