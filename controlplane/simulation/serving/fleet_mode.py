"""A fleet's day: every lane's agent decides as in production, load goes elsewhere when a place is lost.

Runs as in production: one ``PolicyScaler`` for each deployment in each cluster. A model: load flows as in the fluid
mode, in steps; gateways divide what a lost lane cannot take among the deployment's other lanes, by their replicas; a
launch takes the cold start if the cluster has free GPUs, and fails else. A lane is asked when something has changed
for it (its load by a tenth, its queue, its replicas), and every two minutes in any case. Not run: placement,
procurement, pickers, health: bounds stay where the day began.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.fleet_world import FleetWorld, Outage
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams
from workloadplane.autoscaling import AutoscalingPolicy, PolicyScaler, Seen, SloSeen, WorkSeen

STEP_S = 10.0
ASKED_AT_LEAST_EVERY_S = 120.0
CHANGED_SHARE = 0.1
#: After a loss, so long counts as during it; what comes back late is outside again.
DURING_S = 900.0
SWING = 0.35
DAY_S = 86_400.0


@dataclass(slots=True)
class FleetOutcome:
    """Work in replica-seconds stands for requests: a request is as good as its work. ``broken``: see ``rules``."""

    work_s: float = 0.0
    late_s: float = 0.0
    during_work_s: float = 0.0
    during_late_s: float = 0.0
    gpu_hours: float = 0.0
    launches: int = 0
    failed_launches: int = 0
    lost_replicas: int = 0
    decisions: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def within_slo_outside(self) -> float:
        """While no place was lost lately."""
        return 1 - (self.late_s - self.during_late_s) / max(1e-9, self.work_s - self.during_work_s)

    @property
    def within_slo_during(self) -> float:
        """From the loss of a region or cluster on, for ``DURING_S``, in the whole fleet."""
        return 1 - self.during_late_s / max(1e-9, self.during_work_s)


class FleetMode:
    """Single owner."""

    def __init__(
        self,
        world: FleetWorld,
        *,
        cold_start_s: float = 180.0,
        wait_slo_s: float = 5.0,
        kind: str = "predictive",
    ) -> None:
        """``kind``: of every lane's policy."""
        self.outcome = FleetOutcome()
        self._world, self._cold_start_s, self._wait_slo_s = world, cold_start_s, wait_slo_s
        lanes = len(world.deployment)
        self._ready = np.ceil(self._local_demand(0.0) * 1.1).astype(np.int64)
        self._ready = np.minimum(np.maximum(self._ready, 1), world.max_replicas)
        self._fit_at_first()
        self._starting = np.zeros(lanes, dtype=np.int64)
        self._queue_s = np.zeros(lanes)
        self._up = np.ones(len(world.gpus), dtype=bool)
        self._due: dict[int, list[int]] = defaultdict(list)
        self._launched: list[list[list[int]]] = [[] for _ in range(lanes)]
        self._told_at_s = np.full(lanes, -1e9)
        self._told_demand = np.zeros(lanes)
        self._arrived_s, self._late_s = np.zeros(lanes), np.zeros(lanes)
        self._changed = np.ones(lanes, dtype=bool)
        self._noise = np.ones(lanes)
        self._rng = Streams(world.seed).of("load")
        self._scalers = [self._scaler(lane, kind) for lane in range(lanes)]
        self._during_until_s = -1.0

    def play(self, progress: Callable[[float], None] = lambda share: None) -> FleetOutcome:
        """The whole day. ``progress`` hears the share that is done."""
        world = self._world
        outages, backs = list(world.outages), sorted(world.outages, key=lambda outage: outage.back_s)
        failures = list(world.gpus_lost)
        for step in range(int(world.end_s / STEP_S)):
            now_s = step * STEP_S
            while backs and backs[0].back_s <= now_s:
                self._up[backs.pop(0).clusters] = True
            while outages and outages[0].at_s <= now_s:
                self._lose(outages.pop(0), now_s)
            while failures and failures[0].at_s <= now_s:
                one = failures.pop(0)
                self._lose_gpu(one.cluster, one.draw)
            self._become_ready(step)
            self._flow(now_s)
            self._decide(step, now_s)
            if step % 60 == 0:
                self._check(now_s)
                progress(now_s / world.end_s)
        progress(1.0)
        return self.outcome

    # Load

    def _local_demand(self, now_s: float) -> FloatArray:
        world = self._world
        wave = 1 + SWING * np.cos(2 * np.pi * (now_s - world.peak_s[world.cluster]) / DAY_S)
        return np.asarray(world.mean_demand * wave, dtype=np.float64)

    def _demand(self, now_s: float) -> FloatArray:
        """What comes to each lane: its own users', and those of lanes that are not there."""
        world, lanes = self._world, len(self._ready)
        pull = 1 - STEP_S / 300.0
        self._noise = pull * self._noise + (1 - pull) * self._rng.lognormal(0.0, 0.5, lanes)
        own = self._local_demand(now_s) * self._noise
        there = self._up[world.cluster] & (self._ready > 0)
        if there.all():
            return own
        count = len(world.residency)
        homeless = np.bincount(world.deployment, weights=np.where(there, 0.0, own), minlength=count)
        room = np.where(there, self._ready, 0).astype(np.float64)
        all_room = np.bincount(world.deployment, weights=room, minlength=count)
        share = room / np.maximum(all_room, 1e-9)[world.deployment]
        stranded = np.where(all_room[world.deployment] > 0, 0.0, np.where(there, 0.0, own))
        return np.where(there, own, 0.0) + share * homeless[world.deployment] + stranded

    def _flow(self, now_s: float) -> None:
        demand = self._demand(now_s)
        work_s = demand * STEP_S
        served_s = np.minimum(self._queue_s + work_s, self._ready * STEP_S)
        before_s = self._queue_s
        self._queue_s = before_s + work_s - served_s
        late = (before_s + self._queue_s) / 2 > self._ready * self._wait_slo_s
        late_s = np.where(late, work_s, 0.0)
        # Who waits longer than a gateway holds it has been refused.
        self._queue_s = np.minimum(self._queue_s, np.maximum(self._ready, 1) * 180.0)
        self._arrived_s += work_s
        self._late_s += late_s
        outcome, total_s, total_late_s = self.outcome, float(work_s.sum()), float(late_s.sum())
        outcome.work_s += total_s
        outcome.late_s += total_late_s
        if now_s < self._during_until_s:
            outcome.during_work_s += total_s
            outcome.during_late_s += total_late_s
        alive = (self._ready + self._starting) * self._world.gpus_per_replica
        outcome.gpu_hours += float(alive.sum()) * STEP_S / 3600.0
        moved = np.abs(demand - self._told_demand) > CHANGED_SHARE * (self._told_demand + 0.5)
        self._changed |= moved | (self._queue_s > 0)
        self._last_demand = demand

    # Replicas

    def _decide(self, step: int, now_s: float) -> None:
        world, outcome = self._world, self.outcome
        is_due = self._changed | (now_s - self._told_at_s >= ASKED_AT_LEAST_EVERY_S)
        lanes = np.flatnonzero(is_due & self._up[world.cluster])
        free = world.gpus - self._used()
        for lane in lanes.tolist():
            over_s = min(now_s + STEP_S - float(self._told_at_s[lane]), ASKED_AT_LEAST_EVERY_S + STEP_S)
            late_s, arrived_s = float(self._late_s[lane]), float(self._arrived_s[lane])
            ready, starting = int(self._ready[lane]), int(self._starting[lane])
            seen = Seen(
                now=now_s + STEP_S,
                ready=ready,
                starting=starting,
                work=WorkSeen(arrived_s=arrived_s, over_s=over_s, waiting_s=float(self._queue_s[lane])),
                slo=SloSeen(inside=arrived_s - late_s, outside=late_s),
                cold_start_s=self._cold_start_s,
            )
            wanted = self._scalers[lane].step(seen).replicas
            if wanted != ready + starting:
                free[world.cluster[lane]] -= self._turn_to(lane, wanted, step, int(free[world.cluster[lane]]))
        outcome.decisions += len(lanes)
        self._told_at_s[lanes] = now_s + STEP_S
        self._told_demand[lanes] = self._last_demand[lanes]
        self._arrived_s[lanes] = 0.0
        self._late_s[lanes] = 0.0
        self._changed[:] = False

    def _turn_to(self, lane: int, wanted: int, step: int, free_gpus: int) -> int:
        """Launch or end; the GPUs that it took (negative: gave back)."""
        each = int(self._world.gpus_per_replica[lane])
        lacking = wanted - int(self._ready[lane]) - int(self._starting[lane])
        if lacking > 0:
            launched = min(lacking, max(0, free_gpus) // each)
            self.outcome.launches += launched
            self.outcome.failed_launches += launched < lacking
            if launched:
                self._starting[lane] += launched
                ready_at = step + max(1, round(self._cold_start_s / STEP_S))
                self._due[ready_at].append(lane)
                self._launched[lane].append([ready_at, launched])
            return launched * each
        cancelled = min(-lacking, int(self._starting[lane]))
        self._starting[lane] -= cancelled
        self._cancel(lane, cancelled)
        ended = min(-lacking - cancelled, int(self._ready[lane]))
        self._ready[lane] -= ended
        return -(cancelled + ended) * each

    def _cancel(self, lane: int, count: int) -> None:
        """The newest first."""
        launched = self._launched[lane]
        while count:
            last = launched[-1]
            gone = min(count, last[1])
            last[1] -= gone
            count -= gone
            if not last[1]:
                launched.pop()

    def _become_ready(self, step: int) -> None:
        """Those whose cold start is over."""
        for lane in self._due.pop(step, ()):
            launched = self._launched[lane]
            while launched and launched[0][0] <= step:
                _, count = launched.pop(0)
                self._starting[lane] -= count
                self._ready[lane] += count
                self._changed[lane] = True

    def _lose(self, outage: Outage, now_s: float) -> None:
        gone = np.isin(self._world.cluster, outage.clusters)
        self.outcome.lost_replicas += int(self._ready[gone].sum() + self._starting[gone].sum())
        for array in (self._ready, self._starting):
            array[gone] = 0
        for lane in np.flatnonzero(gone).tolist():
            self._launched[lane].clear()
        self._queue_s[gone] = 0.0
        self._up[outage.clusters] = False
        self._changed[np.isin(self._world.deployment, self._world.deployment[gone])] = True
        self._during_until_s = max(self._during_until_s, now_s + DURING_S)

    def _lose_gpu(self, cluster: int, draw: float) -> None:
        """Whoever has it loses the replica; an idle GPU's failure is nobody's."""
        lanes = np.flatnonzero(self._world.cluster == cluster)
        used = np.cumsum(self._ready[lanes] * self._world.gpus_per_replica[lanes])
        hit = int(np.searchsorted(used, draw * float(self._world.gpus[cluster]), side="right"))
        if hit < len(lanes):
            self._ready[lanes[hit]] -= 1
            self._changed[lanes[hit]] = True
            self.outcome.lost_replicas += 1

    # Rules, and the beginning

    def _used(self) -> IntArray:
        gpus = (self._ready + self._starting) * self._world.gpus_per_replica
        return np.bincount(self._world.cluster, weights=gpus, minlength=len(self._world.gpus)).astype(
            np.int64
        )

    def _check(self, now_s: float) -> None:
        """Rules 2 and 4, looked at in what runs."""
        world = self._world
        if (self._used() > world.gpus).any():
            self._break("rule 4: more GPUs in a cluster than it has", now_s)
        if (self._ready + self._starting > world.max_replicas).any():
            self._break("rule 4: more replicas than the bounds allow", now_s)
        wanted = world.residency[world.deployment]
        outside = (wanted >= 0) & (world.jurisdiction[world.cluster] != wanted) & (self._ready > 0)
        if outside.any():
            self._break("rule 2: replicas outside their residency", now_s)

    def _break(self, what: str, now_s: float) -> None:
        if not any(each.startswith(what) for each in self.outcome.broken):
            self.outcome.broken.append(f"{what} (at {now_s:.0f} s)")

    def _fit_at_first(self) -> None:
        """Where lanes together want more than a cluster has, the last ones get less."""
        world = self._world
        left = world.gpus.copy()
        for lane, cluster in enumerate(world.cluster.tolist()):
            each = int(world.gpus_per_replica[lane])
            self._ready[lane] = min(int(self._ready[lane]), int(left[cluster]) // each)
            left[cluster] -= self._ready[lane] * each

    def _scaler(self, lane: int, kind: str) -> PolicyScaler:
        policy = AutoscalingPolicy(
            kind="kpa" if kind == "kpa" else "predictive",
            min_replicas=1,
            max_replicas=int(self._world.max_replicas[lane]),
            autoscaling_window_s=60.0,
            scale_down_delay_s=300.0,
            concurrency_target=1.0,
        )
        return PolicyScaler(policy, replicas=int(self._ready[lane]), now=0.0)
