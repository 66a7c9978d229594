"""The cheapest ways to reach a quota, for many deployments at once: dynamic programming over dense tables.

Pools lie in cells (one region, one loss), cells in groups (what one loss takes). Three steps, each a (min, +) sum:
pools to a cell, cells to a group, groups to the whole, where whatever group is lost the others must reach the quota.

That is so exactly where there is a cap m such that every group counts at most m and all together count quota + m: if
the largest group counts m, all others count the quota. So each m is tried, all of them in one table.
"""

from dataclasses import dataclass

import numpy as np

from controlplane.placement.search.offers import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """``cost`` rows x cells x quota+1: the cheapest replicas (one at least) that weigh so much at least.

    ``taken`` slots x rows x cells x quota+1: what the slot's pool weighs in it, -1 where it is not used; ``before`` the
    tables that the slots were added to, to find the way back.
    """

    cost: Floats
    taken: Ints
    before: Floats


def cells(cost: Floats) -> Cells:
    """``cost`` rows x cells x slots x quota+1: of enough replicas (one at least) of the slot's pool, or infinite."""
    rows, width, slots, size = cost.shape
    table = np.full((rows, width, size), np.inf)
    taken = np.full((slots, rows, width, size), -1, dtype=np.int64)
    before = np.empty((slots, rows, width, size))
    for slot in range(slots):
        before[slot] = table
        part = cost[:, :, slot]
        start = table.copy()
        start[:, :, 0] = np.minimum(start[:, :, 0], 0.0)
        grown = table.copy()
        for weight in range(size):
            here = part[:, :, weight, None]
            if not np.isfinite(here).any():
                continue
            other = start[:, :, : size - weight] + here
            better = other < grown[:, :, weight:]
            np.copyto(grown[:, :, weight:], other, where=better)
            np.copyto(taken[slot, :, :, weight:], weight, where=better)
        table = grown
    return Cells(table, taken, before)


def weights_in(found: Cells, row: int, cell: int, reached: int) -> list[tuple[int, int]]:
    """(slot, what it weighs) for the pools that are used in the cheapest way of a cell to weigh so much."""
    used = []
    for slot in range(len(found.taken) - 1, -1, -1):
        weight = int(found.taken[slot, row, cell, reached])
        if weight < 0:
            continue
        used.append((slot, weight))
        reached -= weight
        if reached == 0 and found.before[slot, row, cell, 0] >= 0.0:
            break
    return used


def join(cost: Floats, forced: Bools, groups: Ints) -> Floats:
    """Cells to groups: stages+1 x rows x groups x quota+1, the last stage being the whole group's table.

    ``groups`` groups x stages holds cells, -1 for none. A group may stay empty at no cost unless a cell is ``forced``.
    """
    rows, _, width = cost.shape
    count, stages = groups.shape
    table = np.full((rows, count, width), np.inf)
    table[:, :, 0] = 0.0
    found = np.empty((stages + 1, rows, count, width))
    found[0] = table
    for stage in range(stages):
        here = groups[:, stage]
        used = np.where((here >= 0)[:, None], cost[:, here], np.inf)
        must = forced[:, here] & (here >= 0)
        grown = np.where(must[:, :, None], np.inf, table)
        if stage == 0:
            np.minimum(grown, used, out=grown)
        else:
            for weight in range(width):
                part = used[:, :, weight, None]
                np.minimum(
                    grown[:, :, weight:], table[:, :, : width - weight] + part, out=grown[:, :, weight:]
                )
        table = grown
        found[stage + 1] = table
    return found


def whole(table: Floats, quota: Ints, *, survives: bool) -> tuple[Floats, Ints]:
    """(cost, cap m) by row, of groups ``table`` rows x groups x quota+1. Without a loss there is one group."""
    rows, groups, width = table.shape
    every = np.arange(rows)
    if not survives:
        return table[every, 0, quota], quota
    most = width - 1
    size = 2 * most + 1
    total = np.full((rows, most, size), np.inf)
    total[:, :, 0] = 0.0
    for group in range(groups):
        part = table[:, group]
        if not np.isfinite(part[:, 1:]).any() and not part[:, 0].any():
            continue
        grown = total + part[:, 0, None, None]
        for weight in range(1, most + 1):
            target = grown[:, weight - 1 :, weight:]
            np.minimum(
                target, total[:, weight - 1 :, : size - weight] + part[:, weight, None, None], out=target
            )
        total = grown
    caps = np.arange(1, most + 1)
    goal = np.minimum(quota[:, None] + caps, size - 1)
    costs = np.take_along_axis(total, goal[:, :, None], axis=2)[:, :, 0]
    costs = np.where(caps <= quota[:, None], costs, np.inf)
    best = np.argmin(costs, axis=1)
    return costs[every, best], caps[best]


def parts(table: Floats, quota: Ints, cap: Ints, *, survives: bool) -> Ints:
    """What each group counts in the cheapest whole: rows x groups."""
    rows, groups, width = table.shape
    if not survives:
        return quota[:, None]
    size = int((quota + cap).max()) + 1
    total = np.full((groups + 1, rows, size), np.inf)
    total[0, :, 0] = 0.0
    allowed = np.arange(width) <= cap[:, None]
    for group in range(groups):
        part = np.where(allowed, table[:, group], np.inf)
        grown = total[group] + part[:, 0, None]
        for weight in range(1, min(width, size)):
            np.minimum(
                grown[:, weight:],
                total[group][:, : size - weight] + part[:, weight, None],
                out=grown[:, weight:],
            )
        total[group + 1] = grown
    found = np.zeros((rows, groups), dtype=np.int64)
    left = quota + cap
    steps = np.arange(width)
    for group in range(groups - 1, -1, -1):
        source = left[:, None] - steps
        before = np.take_along_axis(total[group], np.maximum(source, 0), axis=1)
        before = np.where((source >= 0) & allowed, before, np.inf)
        found[:, group] = np.argmin(before + table[:, group], axis=1)
        left -= found[:, group]
    return found


def split(found: Floats, cost: Floats, forced: Bools, groups: Ints, reached: Ints) -> Ints:
    """What each cell weighs in the cheapest groups that weigh ``reached``: rows x cells, -1 where a cell is unused."""
    stages = groups.shape[1]
    rows, width, top = cost.shape
    weights = np.full((rows, width), -1, dtype=np.int64)
    steps = np.arange(top)
    left = reached.copy()
    for stage in range(stages - 1, -1, -1):
        here = groups[:, stage]
        used = np.where((here >= 0)[:, None], cost[:, here], np.inf)
        before = found[stage]
        source = left[:, :, None] - steps
        ways = np.take_along_axis(before, np.maximum(source, 0), axis=2) + used
        if stage == 0:
            ways = np.where(steps == left[:, :, None], used, np.inf)
        ways = np.where(source >= 0, ways, np.inf)
        best = np.argmin(ways, axis=2)
        value = np.take_along_axis(ways, best[:, :, None], axis=2)[:, :, 0]
        skip = np.take_along_axis(before, left[:, :, None], axis=2)[:, :, 0]
        skip = np.where(forced[:, here] & (here >= 0), np.inf, skip)
        taken = (value < skip) & (here >= 0)
        row, group = np.nonzero(taken)
        weights[row, here[group]] = best[row, group]
        left = np.where(taken, left - best, left)
    return weights
