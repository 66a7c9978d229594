"""Pools between the bounds that placement gave each, filled as an agent deals its replicas."""

from collections.abc import Sequence

from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.renting import Turn
from controlplane.simulation.serving.replicas import Fleet, SimulatedReplica
from workloadplane.agent.backoff import CrashRecord, after_end, start_not_before
from workloadplane.autoscaling import Lot, dealt


class Placed:
    """Single owner. A launch that a pool has nothing for is tried again there, with an agent's pauses: nowhere else."""

    def __init__(self, fleet: Fleet, launches: LaunchTimes, lots: Sequence[Lot]) -> None:
        """``lots``: the bounds of the beginning, by pool."""
        self._fleet, self._launches, self._lots = fleet, launches, lots
        self._refused: dict[str, CrashRecord] = {}

    @property
    def reasons(self) -> list[str]:
        """Those of the plans are told with them."""
        return []

    @property
    def spare(self) -> int:
        """None."""
        return 0

    def bound(self, lots: Sequence[Lot]) -> None:
        """From now on these."""
        self._lots = lots

    def begin(self, count: int) -> Sequence[tuple[SimulatedReplica, float]]:
        return self.turn_to(count, 0.0).launched

    def turn_to(self, wanted: int, now_s: float) -> Turn:
        goal = dealt(wanted, self._lots)
        launched: list[tuple[SimulatedReplica, float]] = []
        stopped: list[SimulatedReplica] = []
        for pool in self._fleet.supply.pools:
            lacking = goal.get(pool.name, 0) - sum(self._fleet.counted(pool))
            refused = self._refused.get(pool.name, CrashRecord())
            may_try = now_s >= start_not_before(refused) and not self._fleet.supply.is_full(pool)
            while lacking > 0 and may_try:
                replica = self._fleet.launch(pool, now_s)
                if replica is None:
                    self._refused[pool.name] = after_end(refused, now=now_s, ready_for_s=None)
                    break
                self._refused.pop(pool.name, None)
                may_try = not self._fleet.supply.is_full(pool)
                launched.append((replica, now_s + self._launches.next().ready_s))
                lacking -= 1
            stopped += self._fleet.to_stop(-lacking, (pool,))
        return Turn(launched, stopped)
