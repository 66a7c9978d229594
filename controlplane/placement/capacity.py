"""Does it fit? Whole GPUs, and a replica's GPUs inside one instance.

A pool is a row of equal bins. Replicas are put into it largest first, each where it leaves the least over (best fit
decreasing): exact where every size divides the next larger one (1, 2, 4, 8), and for other mixtures it errs on saying
no. Bins with equal room are counted, not listed, so that a pool of 100,000 instances costs no more than one of ten.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from controlplane.placement.problem import Pool


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
    """What is promised of each pool while a plan is being made. Single owner: the solver that made it."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pools = {pool.pool_id: pool for pool in pools}
        self._promised: dict[str, Counter[int]] = {pool_id: Counter() for pool_id in self._pools}
        self._headroom: dict[str, dict[int, int]] = {pool_id: {} for pool_id in self._pools}

    def used_gpus(self, pool_id: str) -> int:
        """GPUs promised so far."""
        return sum(gpus * replicas for gpus, replicas in self._promised[pool_id].items())

    def add(self, pool_id: str, gpus_per_replica: int, replicas: int) -> None:
        """Promise room; a negative count gives it back."""
        if replicas == 0:
            return
        self._promised[pool_id][gpus_per_replica] += replicas
        self._headroom[pool_id].clear()

    def headroom(self, pool_id: str, gpus_per_replica: int, *, more_instances: int = 0) -> int:
        """How many more replicas of a size fit, if the pool had ``more_instances`` than it has."""
        if more_instances:
            return self._compute_headroom(pool_id, gpus_per_replica, more_instances)
        known = self._headroom[pool_id]
        if gpus_per_replica not in known:
            known[gpus_per_replica] = self._compute_headroom(pool_id, gpus_per_replica, 0)
        return known[gpus_per_replica]

    def _compute_headroom(self, pool_id: str, gpus_per_replica: int, more_instances: int) -> int:
        pool = self._pools[pool_id]
        instances = pool.capacity_instances + more_instances
        free_gpus = instances * pool.gpus_per_instance - self.used_gpus(pool_id)
        low, high = 0, max(0, free_gpus // gpus_per_replica)
        while low < high:
            middle = (low + high + 1) // 2
            sizes = Counter(self._promised[pool_id])
            sizes[gpus_per_replica] += middle
            if packs(instances=instances, gpus_per_instance=pool.gpus_per_instance, replicas_by_gpus=sizes):
                low = middle
            else:
                high = middle - 1
        return low
