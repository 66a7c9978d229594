"""What nobody can do better: a lower bound of the replica-hours of any schedule, even one that knows the future.

The problem: choose whole replicas for each bin; a replica costs its time, a launch its cold start besides; at most a
given share of the requests may wait longer than the SLO. The bound is of Lagrange's kind: late requests cost a price
instead of being limited, the schedule that is cheapest then is found by dynamic programming over (queue, replicas),
and what the allowed ones would have cost is taken off. That is below the optimum for every price; the best of some
prices is told.

The queue is kept on a grid and rounded down, what would be queued beyond the grid is forgiven, and of the bins'
requests those are late that ``fluid`` would call so with the bin's replicas: each errs towards a lower bound.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.simulation.serving.series import FloatArray, LoadSeries

IntArray = NDArray[np.int64]

#: Grid of the queue, in shares of what the mean load's replicas do in a bin.
GRID_SHARE = 0.03
#: The queue is followed up to this many bins of the most replicas' work.
MOST_QUEUE_BINS = 1.5
#: Prices that are tried, by golden section over the logarithm.
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """No schedule with so many requests inside the SLO needs fewer replica-hours."""

    replica_hours: float
    price_s: float  # replica-seconds that a late request was priced at


def clairvoyant(
    series: LoadSeries,
    *,
    cold_start_s: float,
    slo_attainment: float,
    tries: int = 8,
    prices_s: tuple[float, float] = (0.1, 1000.0),
) -> Bound:
    """The bound for a wait SLO of one bin (so ``series.bin_s`` is the SLO); the first replicas are free of launches.

    ``prices_s``: between which prices of a late request (in replica-seconds) the best one is looked for.
    """
    allowed = (1.0 - slo_attainment) * float(series.requests.sum())

    def value(log_price: float) -> float:
        price = math.exp(log_price)
        return _cheapest_s(series, cold_start_s, price) - price * allowed

    low, high = math.log(prices_s[0]), math.log(prices_s[1])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    best = max((at_left, left), (at_right, right))
    for _ in range(tries - 2):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = value(left)
            best = max(best, (at_left, left))
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = value(right)
            best = max(best, (at_right, right))
    return Bound(replica_hours=best[0] / 3600.0, price_s=math.exp(best[1]))


def _cheapest_s(series: LoadSeries, cold_start_s: float, price_s: float) -> float:
    """Replica-seconds of the cheapest schedule, late requests at their price."""
    bin_s = series.bin_s
    work, requests = series.work_s, series.requests
    least, most = _range(series)
    counts = np.arange(least, most + 1, dtype=np.float64)
    served = counts * bin_s
    grid_s = max(GRID_SHARE * float(work.mean()), 1e-9)
    size = int(MOST_QUEUE_BINS * served[-1] / grid_s) + 1
    queue = (np.arange(size, dtype=np.float64) * grid_s)[:, None]
    rows = np.arange(size)[:, None]
    cost = np.full((size, counts.size), np.inf)
    cost[0, :] = 0.0
    launch = cold_start_s * counts
    before_s, before_requests = 0.0, 0.0
    for arrives_s, arrive in zip(work.tolist(), requests.tolist(), strict=True):
        # launched or kept on the way to each count: from more for nothing, from fewer for their cold starts
        cost = np.minimum(
            np.minimum.accumulate(cost[:, ::-1], axis=1)[:, ::-1],
            np.minimum.accumulate(cost - launch, axis=1) + launch,
        )
        cost = cost + served
        if before_s > 0:
            cost += price_s * before_requests / before_s * _late_s(queue, before_s, served)
        cost = _moved(cost, rows, np.floor((arrives_s - served) / grid_s).astype(np.int64))
        before_s, before_requests = arrives_s, arrive
    return float(cost.min())


def _range(series: LoadSeries) -> tuple[int, int]:
    """Counts worth looking at: with fewer the queue would grow in every bin, with more nobody would ever wait."""
    short = np.convolve(series.work_s, np.ones(2) / 2.0, mode="valid") / series.bin_s
    return max(0, math.floor(short.min()) - 1), math.ceil(series.work_s.max() / series.bin_s)


def _late_s(queue: FloatArray, before_s: float, served: FloatArray) -> FloatArray:
    """Of the work that arrived in the bin before, what is served more than a bin after it came.

    Work at place x of the queue came at the share 1 - (queue - x) / before of its bin and is served at the share
    x / served of this one: late if the second is later than the first.
    """
    oldest = np.maximum(0.0, queue - before_s)
    gap = before_s - served
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = served * (before_s - queue) / gap
    turn = np.clip(
        np.nan_to_num(turn, nan=0.0, posinf=np.inf, neginf=-np.inf), oldest, np.maximum(queue, oldest)
    )
    rising = np.where(gap > 0, queue - turn, turn - oldest)
    return np.where(gap == 0, np.where(queue > before_s, queue - oldest, 0.0), rising)


def _moved(cost: FloatArray, rows: IntArray, shift: IntArray) -> FloatArray:
    """The cost by the queue at the end of the bin, which is ``shift`` grid steps longer for each count."""
    size = cost.shape[0]
    source = rows - shift
    moved = np.take_along_axis(cost, np.clip(source, 0, size - 1), axis=0)
    moved[source < 0] = np.inf
    moved[source > size - 1] = np.inf
    columns = np.arange(cost.shape[1])
    down = np.clip(-shift, 0, size - 1)
    lowest = np.minimum.accumulate(cost, axis=0)
    moved[0] = np.where(shift <= 0, lowest[down, columns], np.inf)
    up = np.clip(size - 1 - shift, 0, size - 1)
    highest = np.minimum.accumulate(cost[::-1], axis=0)[::-1]
    moved[-1] = np.minimum(moved[-1], np.where(shift >= 0, highest[up, columns], np.inf))
    return moved
