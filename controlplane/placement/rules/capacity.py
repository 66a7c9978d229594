"""Does it fit? Whole GPUs, and a replica's GPUs inside one instance.

A pool is a row of equal bins. Replicas are put into it largest first, each where it leaves the least over (best fit
decreasing): exact where every size divides the next larger one (1, 2, 4, 8), and for other mixtures it errs on saying
no. Bins with equal room are counted, not listed, so that a pool of 100,000 instances costs no more than one of ten.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import lcm

from controlplane.placement.supply import Pool


def packs(*, instances: int, gpus_per_instance: int, replicas_by_gpus: Mapping[int, int]) -> bool:
    """Whether so many replicas of these sizes fit into so many instances."""
    room = Counter({gpus_per_instance: instances})
    for gpus in sorted(replicas_by_gpus, reverse=True):
        left = replicas_by_gpus[gpus]
        for free in sorted(room):
            if free < gpus or left == 0:
                continue
            each = free // gpus
            filled = min(room[free], left // each)
            _move(room, free, free - each * gpus, filled)
            left -= filled * each
            if left and room[free]:
                part = min(left, each)
                _move(room, free, free - part * gpus, 1)
                left -= part
        if left:
            return False
    return True


def _move(room: Counter[int], free: int, free_after: int, instances: int) -> None:
    room[free] -= instances
    room[free_after] += instances


class Ledger:
    """What is promised of each pool while a plan is being made. Single owner: the solver that made it.

    A replica counts as the share of an instance that it keeps from replicas of its own size: 3 GPUs of 8 as a half.
    That is exact where the sizes in a pool divide one another; for other mixtures the smaller of it and of what packs.
    """

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pools = {pool.pool_id: pool for pool in pools}
        self._promised: dict[str, dict[int, int]] = {pool_id: {} for pool_id in self._pools}
        self._headroom: dict[str, dict[int, int]] = {pool_id: {} for pool_id in self._pools}
        self._weights = {
            gpus: _weights(gpus) for gpus in {pool.gpus_per_instance for pool in self._pools.values()}
        }
        self._always_divide = {gpus for gpus, weights in self._weights.items() if _divide(weights[1:])}
        self._free = {
            pool.pool_id: pool.capacity_instances * self._weights[pool.gpus_per_instance][-1]
            for pool in self._pools.values()
        }

    def used_gpus(self, pool_id: str) -> int:
        """GPUs promised so far."""
        return sum(gpus * replicas for gpus, replicas in self._promised[pool_id].items())

    def add(self, pool_id: str, gpus_per_replica: int, replicas: int) -> None:
        """Promise room; a negative count gives it back."""
        if replicas == 0:
            return
        self._headroom[pool_id].clear()
        promised = self._promised[pool_id]
        promised[gpus_per_replica] = promised.get(gpus_per_replica, 0) + replicas
        if promised[gpus_per_replica] == 0:
            del promised[gpus_per_replica]
        self._free[pool_id] -= replicas * self._weight(self._pools[pool_id], gpus_per_replica)

    def holds(self, pool_id: str) -> bool:
        """Whether all that is promised of a pool fits into it."""
        pool, promised = self._pools[pool_id], self._promised[pool_id]
        if self._free[pool_id] < 0 or max(promised, default=0) > pool.gpus_per_instance:
            return False
        if pool.gpus_per_instance in self._always_divide or _divide(
            self._weight(pool, gpus) for gpus in promised
        ):
            return True
        return packs(
            instances=pool.capacity_instances,
            gpus_per_instance=pool.gpus_per_instance,
            replicas_by_gpus=promised,
        )

    def headroom(self, pool_id: str, gpus_per_replica: int, *, more_instances: int = 0) -> int:
        """How many more replicas of a size fit, if the pool had ``more_instances`` than it has."""
        if more_instances:
            return self._headroom_of(self._pools[pool_id], gpus_per_replica, more_instances)
        known = self._headroom[pool_id]
        found = known.get(gpus_per_replica)
        if found is None:
            found = known[gpus_per_replica] = self._headroom_of(self._pools[pool_id], gpus_per_replica, 0)
        return found

    def _headroom_of(self, pool: Pool, gpus_per_replica: int, more_instances: int) -> int:
        if gpus_per_replica > pool.gpus_per_instance:
            return 0
        weights = self._weights[pool.gpus_per_instance]
        most = (self._free[pool.pool_id] + more_instances * weights[-1]) // weights[gpus_per_replica]
        if most <= 0:
            return 0
        if pool.gpus_per_instance in self._always_divide or _divide(
            self._weight(pool, gpus) for gpus in {gpus_per_replica, *self._promised[pool.pool_id]}
        ):
            return most
        return self._packed(pool, gpus_per_replica, most, more_instances)

    def _weight(self, pool: Pool, gpus_per_replica: int) -> int:
        return self._weights[pool.gpus_per_instance][min(gpus_per_replica, pool.gpus_per_instance)]

    def _packed(self, pool: Pool, gpus_per_replica: int, most: int, more_instances: int) -> int:
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            sizes = Counter(self._promised[pool.pool_id])
            sizes[gpus_per_replica] += middle
            if packs(
                instances=pool.capacity_instances + more_instances,
                gpus_per_instance=pool.gpus_per_instance,
                replicas_by_gpus=sizes,
            ):
                low = middle
            else:
                high = middle - 1
        return low


def _weights(gpus_per_instance: int) -> list[int]:
    """By GPUs per replica, what a replica takes of an instance, in units that divide it by any number of replicas."""
    whole = lcm(*range(1, gpus_per_instance + 1))
    return [0, *(whole // (gpus_per_instance // gpus) for gpus in range(1, gpus_per_instance + 1))]


def _divide(weights: Iterable[int]) -> bool:
    """Whether each divides the next larger one, so that any mixture that is small enough fills instances whole."""
    return all(larger % smaller == 0 for smaller, larger in pairwise(sorted(weights)))
