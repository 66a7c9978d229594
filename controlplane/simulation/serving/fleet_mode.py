"""A fleet's day: placement moves bounds, every lane's agent decides inside them, load goes elsewhere where it must.

A *lane* is a deployment in a cluster. Runs as in production: placement (``fleet_plan``) at the beginning, at each loss
and return and where demand moved, and one autoscaler for each lane. A model: load flows as in the fluid mode, in steps,
to where the plan sends it; what a lane cannot take, and what waits there, goes to the deployment's other lanes by what
is free there, as gateways choose among peers; a launch takes the cold start if the cluster has free GPUs, and fails
else. A lane is asked when something has changed for it (its load by a tenth, its queue, its replicas, its bounds), and
every two minutes in any case. Not run: procurement, pickers, health.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controlplane.simulation.serving.batch import IntArray
from controlplane.simulation.serving.fleet_lanes import Lanes
from controlplane.simulation.serving.fleet_load import STEP_S, FleetLoad
from controlplane.simulation.serving.fleet_plan import FleetPlanner
from controlplane.simulation.serving.fleet_world import FleetWorld, Outage
from controlplane.simulation.serving.series import FloatArray
from workloadplane.autoscaling import LoadHistory, SloSeen, WorkSeen, decide

ASKED_AT_LEAST_EVERY_S = 120.0
CHANGED_SHARE = 0.1
#: After a loss, so long counts as during it; what comes back late is outside again.
DURING_S = 900.0
#: A loss or a return is known after so long, and demand is looked at so often.
NOTICED_S = 30.0
DEMAND_EVERY_S = 600.0
#: A gateway holds nobody longer.
HELD_S = 180.0
_NO_HISTORY = LoadHistory(window_s=60.0)


@dataclass(slots=True)
class FleetOutcome:
    """Work in replica-seconds stands for requests: a request is as good as its work. ``broken``: see ``rules``.

    hit_*:       of the deployments that ran where something was lost, in the time after it
    promised_*:  of those of them that were to survive the loss of a region
    solves:      how often placement was asked; ``placed_anew``: deployments that it placed again, each time
    refused, relaxed: deployments that do not get what they must have, or lack a wish, at the end
    """

    work_s: float = 0.0
    late_s: float = 0.0
    during_work_s: float = 0.0
    during_late_s: float = 0.0
    hit_work_s: float = 0.0
    hit_late_s: float = 0.0
    promised_work_s: float = 0.0
    promised_late_s: float = 0.0
    gpu_hours: float = 0.0
    launches: int = 0
    failed_launches: int = 0
    lost_replicas: int = 0
    decisions: int = 0
    solves: int = 0
    placed_anew: int = 0
    refused: int = 0
    relaxed: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def within_slo_outside(self) -> float:
        """While no place was lost lately."""
        return 1 - (self.late_s - self.during_late_s) / max(1e-9, self.work_s - self.during_work_s)

    @property
    def within_slo_during(self) -> float:
        """From the loss of a region or cluster on, for ``DURING_S``, in the whole fleet."""
        return 1 - self.during_late_s / max(1e-9, self.during_work_s)

    @property
    def within_slo_hit(self) -> float:
        """The same, of the deployments that had something there alone."""
        return 1 - self.hit_late_s / max(1e-9, self.hit_work_s)

    @property
    def within_slo_promised(self) -> float:
        """And of those, whoever was to survive it."""
        return 1 - self.promised_late_s / max(1e-9, self.promised_work_s)


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
        """``kind``: of every lane's policy. Asks placement for the beginning."""
        self.outcome = FleetOutcome()
        self._world, self._cold_start_s, self._wait_slo_s = world, cold_start_s, wait_slo_s
        self._load = FleetLoad(world)
        self._planner = FleetPlanner(world, self._load.rates())
        self.lanes = Lanes(world, kind)
        self._up = np.ones(len(world.gpus), dtype=bool)
        self._due: dict[int, list[int]] = defaultdict(list)
        self._hit_until_s = np.full(len(world.residency), -1.0)
        self._during_until_s = -1.0
        self._plan_at_s = DEMAND_EVERY_S
        self._last_demand = np.zeros(0)
        self._adopt()
        self._start()

    def play(self, progress: Callable[[float], None] = lambda share: None) -> FleetOutcome:
        """The whole day. ``progress`` hears the share that is done."""
        world, outcome, planner = self._world, self.outcome, self._planner
        outages, backs = list(world.outages), sorted(world.outages, key=lambda outage: outage.back_s)
        failures = list(world.gpus_lost)
        for step in range(int(world.end_s / STEP_S)):
            now_s = step * STEP_S
            while backs and backs[0].back_s <= now_s:
                self._up[backs.pop(0).clusters] = True
                self._plan_at_s = min(self._plan_at_s, now_s + NOTICED_S)
            while outages and outages[0].at_s <= now_s:
                self._lose(outages.pop(0), now_s)
            while failures and failures[0].at_s <= now_s:
                one = failures.pop(0)
                self._lose_gpu(one.cluster, one.draw)
            if now_s >= self._plan_at_s:
                self._plan_anew(now_s)
            self._become_ready(step)
            if self.lanes.settle():
                self._plan_at_s = min(self._plan_at_s, now_s + NOTICED_S)
            self._flow(now_s)
            self._decide(step, now_s)
            if step % 60 == 0:
                self._check(now_s)
                progress(now_s / world.end_s)
        outcome.solves, outcome.placed_anew = planner.solves, planner.placed_anew
        outcome.refused, outcome.relaxed = planner.refused, planner.relaxed
        progress(1.0)
        return outcome

    # Placement

    def _plan_anew(self, now_s: float) -> None:
        self._plan_at_s = (now_s // DEMAND_EVERY_S + 1) * DEMAND_EVERY_S
        if self._planner.anew(self._load.rates(), self._up, self.lanes.outgoing()):
            self._adopt()

    def _adopt(self) -> None:
        """Agents are told their bounds, gateways who serves whom."""
        self.lanes.bound(self._planner.bounds())
        shares = list(self._planner.shares())
        of_origin = self._world.origin_deployment
        self._origin = np.array([share.origin for share in shares], dtype=np.int64)
        self._share = np.array([share.share for share in shares])
        self._lane = np.array(
            [self.lanes.number(int(of_origin[share.origin]), share.cluster) for share in shares],
            dtype=np.int64,
        )

    def _start(self) -> None:
        """What is planned, and what the load of the beginning asks for, is ready."""
        lanes, free = self.lanes, self._world.gpus.copy()
        wanted = np.ceil(self._sent(self._world.demand(0.0)) * 1.1).astype(np.int64)
        for ready in (lanes.least, np.clip(wanted, lanes.least, lanes.most)):
            for lane, cluster in enumerate(lanes.cluster.tolist()):
                each = int(lanes.gpus[lane])
                more = min(int(ready[lane] - lanes.ready[lane]), int(free[cluster]) // each)
                lanes.ready[lane] += more
                free[cluster] -= more * each
        lanes.begin()

    # Load

    def _sent(self, own: FloatArray) -> FloatArray:
        """To each lane, as the plan divides it."""
        to_each = own[self._origin] * self._share
        return np.bincount(self._lane, weights=to_each, minlength=len(self.lanes.ready)).astype(np.float64)

    def _demand(self, now_s: float) -> FloatArray:
        """What comes to each lane: its share, and what others of the deployment have no room for."""
        lanes, count = self.lanes, len(self._world.residency)
        sent = self._sent(self._load.next(now_s))
        ready = np.where(self._up[lanes.cluster], lanes.ready, 0).astype(np.float64)
        kept = np.minimum(sent, ready)
        free = np.where(lanes.queue_s > 0, 0.0, ready - kept)
        away = np.bincount(lanes.deployment, weights=sent - kept, minlength=count)
        room = np.bincount(lanes.deployment, weights=free, minlength=count)
        moved = np.minimum(away, room)
        by_free = free * (moved / np.maximum(room, 1e-9))[lanes.deployment]
        # What fits nowhere waits where there are replicas, or where it was sent if there are none.
        rest = (away - moved)[lanes.deployment]
        all_ready = np.bincount(lanes.deployment, weights=ready, minlength=count)[lanes.deployment]
        stays = np.where(all_ready > 0, rest * ready / np.maximum(all_ready, 1e-9), sent - kept)
        return np.asarray(kept + by_free + stays, dtype=np.float64)

    def _flow(self, now_s: float) -> None:
        lanes, outcome = self.lanes, self.outcome
        demand = self._demand(now_s)
        work_s = demand * STEP_S
        before_s = lanes.queue_s
        lanes.queue_s = self._spill(before_s + work_s)
        late = (before_s + lanes.queue_s) / 2 > lanes.ready * self._wait_slo_s
        late_s = np.where(late, work_s, 0.0)
        # Who waits longer than a gateway holds it has been refused.
        lanes.queue_s = np.minimum(lanes.queue_s, np.maximum(lanes.ready, 1) * HELD_S)
        lanes.arrived_s += work_s
        lanes.late_s += late_s
        total_s, total_late_s = float(work_s.sum()), float(late_s.sum())
        outcome.work_s += total_s
        outcome.late_s += total_late_s
        if now_s < self._during_until_s:
            outcome.during_work_s += total_s
            outcome.during_late_s += total_late_s
            hit = now_s < self._hit_until_s[lanes.deployment]
            outcome.hit_work_s += float(work_s[hit].sum())
            outcome.hit_late_s += float(late_s[hit].sum())
            hit &= self._world.survives[lanes.deployment]
            outcome.promised_work_s += float(work_s[hit].sum())
            outcome.promised_late_s += float(late_s[hit].sum())
        outcome.gpu_hours += float(((lanes.ready + lanes.starting) * lanes.gpus).sum()) * STEP_S / 3600.0
        moved = np.abs(demand - lanes.told_demand) > CHANGED_SHARE * (lanes.told_demand + 0.5)
        lanes.changed |= moved | (lanes.queue_s > 0)
        self._last_demand = demand

    def _spill(self, offered_s: FloatArray) -> FloatArray:
        """What waits after a step: the ends of lines go where a seat is free, as gateways send them to peers."""
        lanes, count = self.lanes, len(self._world.residency)
        could_s = np.where(self._up[lanes.cluster], lanes.ready, 0) * STEP_S
        left_s, free_s = np.maximum(0.0, offered_s - could_s), np.maximum(0.0, could_s - offered_s)
        waits_s = np.bincount(lanes.deployment, weights=left_s, minlength=count)
        room_s = np.bincount(lanes.deployment, weights=free_s, minlength=count)
        stays = 1 - np.minimum(waits_s, room_s) / np.maximum(waits_s, 1e-9)
        return np.asarray(left_s * stays[lanes.deployment], dtype=np.float64)

    # Replicas

    def _decide(self, step: int, now_s: float) -> None:
        lanes, outcome = self.lanes, self.outcome
        is_due = lanes.changed | (now_s - lanes.told_at_s >= ASKED_AT_LEAST_EVERY_S)
        asked = np.flatnonzero(is_due & self._up[lanes.cluster] & (lanes.most > 0) & ~lanes.leaves)
        free = self._world.gpus - self._used()
        for lane in asked.tolist():
            over_s = min(now_s + STEP_S - float(lanes.told_at_s[lane]), ASKED_AT_LEAST_EVERY_S + STEP_S)
            late_s, arrived_s = float(lanes.late_s[lane]), float(lanes.arrived_s[lane])
            ready, starting = int(lanes.ready[lane]), int(lanes.starting[lane])
            plan = decide(
                _NO_HISTORY,
                lanes.states[lane],
                lanes.policies[lane],
                now=now_s + STEP_S,
                ready_replicas=ready,
                starting_replicas=starting,
                work=WorkSeen(arrived_s=arrived_s, over_s=over_s, waiting_s=float(lanes.queue_s[lane])),
                slo=SloSeen(inside=arrived_s - late_s, outside=late_s),
                cold_start_s=self._cold_start_s,
            )
            lanes.states[lane] = plan.state
            if plan.replicas != ready + starting:
                cluster = lanes.cluster[lane]
                free[cluster] -= self._turn_to(lane, plan.replicas, step, int(free[cluster]))
        outcome.decisions += len(asked)
        lanes.told(asked, now_s + STEP_S, self._last_demand)

    def _turn_to(self, lane: int, wanted: int, step: int, free_gpus: int) -> int:
        """Launch or end; the GPUs that it took (negative: gave back)."""
        lanes = self.lanes
        each = int(lanes.gpus[lane])
        lacking = wanted - int(lanes.ready[lane]) - int(lanes.starting[lane])
        if lacking > 0:
            launched = min(lacking, max(0, free_gpus) // each)
            self.outcome.launches += launched
            self.outcome.failed_launches += launched < lacking
            if launched:
                ready_at = step + max(1, round(self._cold_start_s / STEP_S))
                self._due[ready_at].append(lane)
                lanes.launch(lane, ready_at, launched)
            return launched * each
        lanes.end(lane, -lacking)
        return lacking * each

    def _become_ready(self, step: int) -> None:
        """Those whose cold start is over."""
        for lane in self._due.pop(step, ()):
            self.lanes.become_ready(lane, step)

    def _lose(self, outage: Outage, now_s: float) -> None:
        lanes = self.lanes
        gone = np.isin(lanes.cluster, outage.clusters)
        hit = np.unique(lanes.deployment[gone & (lanes.ready > 0)])
        self.outcome.lost_replicas += lanes.lose(gone)
        self._up[outage.clusters] = False
        lanes.changed[np.isin(lanes.deployment, hit)] = True
        self._hit_until_s[hit] = now_s + DURING_S
        self._during_until_s = max(self._during_until_s, now_s + DURING_S)
        self._plan_at_s = min(self._plan_at_s, now_s + NOTICED_S)

    def _lose_gpu(self, cluster: int, draw: float) -> None:
        """Whoever has it loses the replica; an idle GPU's failure is nobody's."""
        found = np.flatnonzero(self.lanes.cluster == cluster)
        used = np.cumsum(self.lanes.ready[found] * self.lanes.gpus[found])
        hit = int(np.searchsorted(used, draw * float(self._world.gpus[cluster]), side="right"))
        if hit < len(found):
            self.lanes.ready[found[hit]] -= 1
            self.lanes.changed[found[hit]] = True
            self.outcome.lost_replicas += 1

    # Rules

    def _used(self) -> IntArray:
        lanes = self.lanes
        gpus = (lanes.ready + lanes.starting) * lanes.gpus
        return np.bincount(lanes.cluster, weights=gpus, minlength=len(self._world.gpus)).astype(np.int64)

    def _check(self, now_s: float) -> None:
        """Rules 2 and 4, looked at in what runs."""
        world, lanes = self._world, self.lanes
        if (self._used() > world.gpus).any():
            self._break("rule 4: more GPUs in a cluster than it has", now_s)
        if (~lanes.leaves & (lanes.ready + lanes.starting > lanes.most)).any():
            self._break("rule 4: more replicas than the bounds allow", now_s)
        wanted = world.residency[lanes.deployment]
        place = world.jurisdiction[world.region[lanes.cluster]]
        if ((wanted >= 0) & (place != wanted) & (lanes.ready > 0)).any():
            self._break("rule 2: replicas outside their residency", now_s)

    def _break(self, what: str, now_s: float) -> None:
        if not any(each.startswith(what) for each in self.outcome.broken):
            self.outcome.broken.append(f"{what} (at {now_s:.0f} s)")
