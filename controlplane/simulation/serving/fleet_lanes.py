"""A fleet's lanes, as arrays: a deployment in a cluster each, with its bounds, its replicas and its load."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.fleet_plan import Bounds, Outgoing
from controlplane.simulation.serving.fleet_world import FleetWorld
from controlplane.simulation.serving.series import FloatArray
from workloadplane.autoscaling import AutoscalingPolicy, ScalingState, first_state

BoolArray = NDArray[np.bool_]

_WHOLE = (
    "deployment",
    "cluster",
    "gpus",
    "least",
    "most",
    "_to_least",
    "_to_most",
    "_room",
    "_needed",
    "ready",
    "starting",
    "_lost",
)
_REAL = ("queue_s", "told_demand", "arrived_s", "late_s")


class Lanes:
    """Single owner: the mode that plays. New lanes come at the end; none ever goes, but some have no replicas.

    least, most: the bounds in force, while a deployment is handed over those of that
    leaves:      what the plan names no more, and still serves
    changed:     whose agent is to be asked; ``told_*``: when it was, and of what demand
    """

    def __init__(self, world: FleetWorld, kind: str) -> None:
        for name in _WHOLE:
            setattr(self, name, np.zeros(0, dtype=np.int64))
        for name in _REAL:
            setattr(self, name, np.zeros(0))
        self.told_at_s: FloatArray = np.zeros(0)
        self.leaves: BoolArray = np.zeros(0, dtype=bool)
        self.changed: BoolArray = np.zeros(0, dtype=bool)
        self._handed_over: BoolArray = np.zeros(len(world.residency), dtype=bool)
        self.states: list[ScalingState] = []
        self.policies: list[AutoscalingPolicy] = []
        self._launched: list[list[list[int]]] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._world = world
        self._policy = AutoscalingPolicy(
            kind="kpa" if kind == "kpa" else "predictive",
            min_replicas=0,
            max_replicas=1,
            autoscaling_window_s=60.0,
            scale_down_delay_s=300.0,
            concurrency_target=1.0,
        )

    deployment: IntArray
    cluster: IntArray
    gpus: IntArray
    least: IntArray
    most: IntArray
    _to_least: IntArray
    _to_most: IntArray
    _room: IntArray
    _needed: IntArray
    ready: IntArray
    starting: IntArray
    _lost: IntArray
    queue_s: FloatArray
    told_demand: FloatArray
    arrived_s: FloatArray
    late_s: FloatArray

    def number(self, deployment: int, cluster: int) -> int:
        """Which lane that is, bounded before. Raises KeyError."""
        return self._numbers[deployment, cluster]

    def bound(self, bounds: Iterable[Bounds]) -> None:
        """These are what is planned. What serves beyond them serves on until what the plan adds is ready.

        So the control plane hands a deployment over (``handover_replicas`` of an assignment), also from a cluster that
        was lost: its replicas count as they were told last.
        """
        rows = list(bounds)
        self._grow([row for row in rows if (row.deployment, row.cluster) not in self._numbers])
        least, most, room = (np.zeros_like(self.least) for _ in range(3))
        for row in rows:
            lane = self._numbers[row.deployment, row.cluster]
            least[lane], most[lane], room[lane] = row.min_replicas, row.max_replicas, row.room_replicas
        moved = (least != self._to_least) | (most != self._to_most) | (room != self._room)
        grows = self._of_deployment((room > self._room) | ((most > 0) & (self._to_most == 0)))
        touched = self._of_deployment(moved)
        told = self.ready + self._lost
        serves = np.where(told > most, told, np.minimum(told, self.least))
        leaves = touched & (most == 0) & (told > 0)
        shrinks = touched & (most > 0) & (serves > np.maximum(least, room))
        beyond = np.where(leaves, told, np.where(shrinks, serves - room, 0))
        gone = np.bincount(self.deployment, weights=beyond)[self.deployment].astype(np.int64)
        handed = np.where(shrinks, serves, np.minimum(np.minimum(room, most), gone))
        handed = np.where(grows & (most > 0), handed, 0)
        self._lost[moved] = 0
        self._to_least, self._to_most, self._room = least, most, room
        self._needed = np.where(touched, np.maximum(least, np.minimum(handed, room)), self._needed)
        self.least = np.where(touched, np.maximum(least, handed), self.least)
        self.most = np.where(touched, np.where(leaves, self.ready, np.maximum(most, handed)), self.most)
        self.leaves = (self._to_most == 0) & (self.most > 0)
        self._handed_over[self.deployment[touched]] = True
        self._tell(np.flatnonzero(touched))

    def settle(self) -> bool:
        """What a deployment leaves goes when all that stands has ready what it must; whether any did."""
        lacks = np.bincount(self.deployment, weights=(self._to_most > 0) & (self.ready < self._needed))
        made = (self._handed_over & (lacks == 0))[self.deployment]
        if not made.any():
            return False
        self._handed_over[self.deployment[made]] = False
        changed = made & ((self.least != self._to_least) | (self.most != self._to_most))
        self.least = np.where(made, self._to_least, self.least)
        self.most = np.where(made, self._to_most, self.most)
        self.leaves = (self._to_most == 0) & (self.most > 0)
        for lane in np.flatnonzero(made & (self.most == 0) & (self.ready + self.starting > 0)).tolist():
            self.end(lane, int(self.ready[lane] + self.starting[lane]))
        self._tell(np.flatnonzero(changed))
        return bool(changed.any())

    def outgoing(self) -> Iterator[Outgoing]:
        """What is on its way out, and what serves beyond the room that is planned for it."""
        held = np.where(
            self.leaves, self.ready + self.starting, np.where(self.least > self._room, self.least, 0)
        )
        for lane in np.flatnonzero(held).tolist():
            yield Outgoing(int(self.deployment[lane]), int(self.cluster[lane]), int(held[lane]))

    def _of_deployment(self, lanes: BoolArray) -> BoolArray:
        """All lanes of deployments that one of these is of."""
        return np.bincount(self.deployment, weights=lanes)[self.deployment] > 0

    def _tell(self, lanes: IntArray) -> None:
        """Their agents know the bounds in force."""
        for lane in lanes.tolist():
            self.policies[lane] = replace(
                self._policy, min_replicas=int(self.least[lane]), max_replicas=max(1, int(self.most[lane]))
            )
        self.changed[lanes] = True

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
        count = int(self.ready[gone].sum() + self.starting[gone].sum())
        self._lost[gone] = self.ready[gone]
        self.ready[gone] = 0
        self.starting[gone] = 0
        self.queue_s[gone] = 0.0
        for lane in np.flatnonzero(gone).tolist():
            self._launched[lane].clear()
        return count

    def _grow(self, fresh: list[Bounds]) -> None:
        count = len(fresh)
        for row in fresh:
            self._numbers[row.deployment, row.cluster] = len(self._numbers)
        for name in (*_WHOLE, *_REAL):
            before = getattr(self, name)
            setattr(self, name, np.concatenate((before, np.zeros(count, dtype=before.dtype))))
        if count:
            self.deployment[-count:] = [row.deployment for row in fresh]
            self.cluster[-count:] = [row.cluster for row in fresh]
            self.gpus[-count:] = self._world.gpus_per_replica[[row.deployment for row in fresh]]
        self.told_at_s = np.concatenate((self.told_at_s, np.full(count, -1e9)))
        self.changed = np.concatenate((self.changed, np.ones(count, dtype=bool)))
        self.states += [first_state(replicas=0, now=0.0)] * count
        self.policies += [self._policy] * count
        self._launched += [[] for _ in range(count)]
