"""A fleet's lanes, as arrays: a deployment in a cluster each, with its bounds, its replicas and its load."""

from dataclasses import replace

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.fleet_world import FleetWorld
from controlplane.simulation.serving.handover import BoolArray, Bounds, Handover
from controlplane.simulation.serving.series import FloatArray
from workloadplane.autoscaling import AutoscalingPolicy, ScalingState, first_state

_REAL = ("queue_s", "told_demand", "arrived_s", "late_s")


class Lanes(Handover):
    """Single owner: the mode that plays. See ``Handover``; here replicas are as they are, not as they are told.

    changed: whose agent is to be asked; ``told_*``: when it was, and of what demand
    """

    gpus: IntArray
    queue_s: FloatArray
    told_demand: FloatArray
    arrived_s: FloatArray
    late_s: FloatArray

    def __init__(self, world: FleetWorld, kind: str) -> None:
        super().__init__(len(world.residency))
        self.gpus = np.zeros(0, dtype=np.int64)
        for name in _REAL:
            setattr(self, name, np.zeros(0))
        self.told_at_s: FloatArray = np.zeros(0)
        self.changed: BoolArray = np.zeros(0, dtype=bool)
        self.states: list[ScalingState] = []
        self.policies: list[AutoscalingPolicy] = []
        self._launched: list[list[list[int]]] = []
        self._world = world
        self._policy = AutoscalingPolicy(
            kind="kpa" if kind == "kpa" else "predictive",
            min_replicas=0,
            max_replicas=1,
            autoscaling_window_s=60.0,
            scale_down_delay_s=300.0,
            concurrency_target=1.0,
            target_utilisation=0.95,
        )

    @property
    def cluster(self) -> IntArray:
        """Where each is."""
        return self.place

    def tell(self, lanes: IntArray) -> None:
        """Their agents know the bounds in force."""
        for lane in lanes.tolist():
            self.policies[lane] = replace(
                self._policy, min_replicas=int(self.least[lane]), max_replicas=max(1, int(self.most[lane]))
            )
        self.changed[lanes] = True

    def empty(self, lanes: IntArray) -> None:
        """They end."""
        for lane in lanes.tolist():
            self.end(lane, int(self.ready[lane] + self.starting[lane]))

    def begin(self) -> None:
        """What is ready now is where every agent begins."""
        self.states = [first_state(replicas=count, now=0.0) for count in self.ready.tolist()]

    def told(self, lanes: IntArray, now_s: float, demand: FloatArray) -> None:
        """Their agents have been asked; counts begin anew."""
        self.told_at_s[lanes] = now_s
        self.told_demand[lanes] = demand[lanes]
        self.arrived_s[lanes] = 0.0
        self.late_s[lanes] = 0.0
        self.changed[:] = False

    def launch(self, lane: int, ready_at: int, count: int) -> None:
        """So many are ready at that step."""
        self.starting[lane] += count
        self._launched[lane].append([ready_at, count])

    def become_ready(self, lane: int, step: int) -> None:
        """Whoever was launched for this step or before."""
        launched = self._launched[lane]
        while launched and launched[0][0] <= step:
            _, count = launched.pop(0)
            self.starting[lane] -= count
            self.ready[lane] += count
            self.changed[lane] = True

    def end(self, lane: int, count: int) -> None:
        """So many: those that start first, the newest before the others."""
        cancelled = min(count, int(self.starting[lane]))
        self.starting[lane] -= cancelled
        self.ready[lane] -= min(count - cancelled, int(self.ready[lane]))
        launched = self._launched[lane]
        while cancelled:
            gone = min(cancelled, launched[-1][1])
            launched[-1][1] -= gone
            cancelled -= gone
            if not launched[-1][1]:
                launched.pop()

    def lose(self, gone: BoolArray) -> int:
        """All replicas of these lanes, and what waited there; how many they were."""
        count = super().lose(gone)
        self.queue_s[gone] = 0.0
        for lane in np.flatnonzero(gone).tolist():
            self._launched[lane].clear()
        return count

    def grow(self, fresh: list[Bounds]) -> None:
        """Lanes for these too, empty."""
        count = len(fresh)
        super().grow(fresh)
        gpus = self._world.gpus_per_replica[[row.deployment for row in fresh]]
        self.gpus = np.concatenate((self.gpus, gpus))
        for name in _REAL:
            setattr(self, name, np.concatenate((getattr(self, name), np.zeros(count))))
        self.told_at_s = np.concatenate((self.told_at_s, np.full(count, -1e9)))
        self.changed = np.concatenate((self.changed, np.ones(count, dtype=bool)))
        self.states += [first_state(replicas=0, now=0.0)] * count
        self.policies += [self._policy] * count
        self._launched += [[] for _ in range(count)]
