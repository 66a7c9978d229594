"""The run: events in order, a planner asked after each, replicas that start cold and leave once others are ready."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from controlplane.placement import PlacementPlan, PlacementProblem
from controlplane.simulation.incidents import CapacityLost, DemandMoved, Incident
from controlplane.simulation.kernel import Queue
from controlplane.simulation.rules import broken, promises_broken
from controlplane.simulation.world import World

#: Replicas on their way out go after so long, even where their successors are not ready.
DRAIN_S = 900.0
S_PER_H = 3600.0


class Planner(Protocol):
    """Who decides. ``before`` is the plan in force, without entries at first; ``touched``: whom the event concerns."""

    def __call__(
        self, problem: PlacementProblem, before: PlacementPlan, touched: frozenset[str]
    ) -> PlacementPlan: ...


@dataclass(slots=True)
class Outcome:
    """What came of it. ``broken``: rules that did not hold, each as it was seen first, with the time."""

    asked_requests: float = 0.0
    unserved_requests: float = 0.0
    usd: float = 0.0
    plans: int = 0
    started_replicas: int = 0
    lost_replicas: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def unserved_share(self) -> float:
        """Of what was asked for."""
        return self.unserved_requests / self.asked_requests if self.asked_requests else 0.0


@dataclass(frozen=True, slots=True)
class _Back:
    lost: CapacityLost


@dataclass(frozen=True, slots=True)
class _Ready:
    deployment_id: str


@dataclass(frozen=True, slots=True)
class _Drained:
    deployment_id: str


_Event = CapacityLost | DemandMoved | _Back | _Ready | _Drained


def simulate(
    problem: PlacementProblem,
    planner: Planner,
    incidents: Iterable[Incident],
    *,
    end_s: float,
    rng: Random,
) -> Outcome:
    """Play ``incidents`` up to ``end_s``. What the first plan wants is ready at the start.

    ``rng`` chooses which replicas a shrinking pool loses. Deterministic for equal arguments and an rng in equal state.
    """
    run = _Run(World(problem), planner, rng)
    for incident in incidents:
        run.queue.put(incident.at_s, incident)
    run.plan(frozenset(one.deployment_id for one in problem.deployments))
    for by_pool in run.world.replicas.values():
        for ready in by_pool.values():
            ready[:] = [0.0] * len(ready)
    run.outcome.started_replicas = 0
    for deployment in problem.deployments:
        run.account(deployment.deployment_id)
    while (event := run.queue.take(end_s)) is not None:
        run.happen(event)
    run.world.now_s = end_s
    for deployment in problem.deployments:
        run.account(deployment.deployment_id)
    run.pay()
    return run.outcome


class _Run:
    """Single owner: ``simulate``."""

    def __init__(self, world: World, planner: Planner, rng: Random) -> None:
        self.world = world
        self.queue: Queue[_Event] = Queue()
        self.outcome = Outcome()
        self._planner = planner
        self._rng = rng
        self._accounted: dict[str, tuple[float, float, float]] = {}
        self._paid_until_s = 0.0
        self._seen: set[str] = set()

    def happen(self, event: _Event) -> None:
        self.world.now_s = self.queue.now_s
        match event:
            case CapacityLost():
                self._lose(event)
            case _Back():
                for pool_id, instances in event.lost.instances_by_pool.items():
                    self.world.lost[pool_id] -= instances
                self.plan(self._wanting())
            case DemandMoved():
                for deployment_id, factor in event.factor_by_deployment.items():
                    self.world.factors[deployment_id] = factor
                    self.account(deployment_id)
                self.plan(frozenset(event.factor_by_deployment))
            case _Ready():
                self._settle(event.deployment_id)
            case _Drained():
                self._let_go(event.deployment_id)

    def plan(self, touched: frozenset[str]) -> None:
        """Ask the planner, and begin to carry out what it says."""
        self.pay()
        plan = self._planner(self.world.problem(), self.world.plan, touched)
        self.outcome.plans += 1
        self.world.plan = plan
        for entry in plan.deployments:
            wanted: dict[str, int] = {}
            for row in entry.allocations:
                wanted[row.pool_id] = wanted.get(row.pool_id, 0) + row.room_replicas
            self.world.wanted[entry.deployment_id] = wanted
            self.world.standby[entry.deployment_id] = {
                row.pool_id for row in entry.allocations if row.standby
            }
        for entry in plan.deployments:
            self._retire(entry.deployment_id)
        for entry in plan.deployments:
            self._settle(entry.deployment_id)
        self._tell(broken(self.world))

    def account(self, deployment_id: str) -> None:
        """Add up what was asked and not served since the last time, and begin anew from what is so now."""
        now_s = self.world.now_s
        since_s, asked, share = self._accounted.get(deployment_id, (now_s, 0.0, 1.0))
        self.outcome.asked_requests += asked * (now_s - since_s)
        self.outcome.unserved_requests += asked * (1 - share) * (now_s - since_s)
        self._accounted[deployment_id] = (
            now_s,
            self.world.asked_requests_per_s(deployment_id),
            self.world.served_share(deployment_id),
        )

    def pay(self) -> None:
        """The bill since the last time."""
        hours = (self.world.now_s - self._paid_until_s) / S_PER_H
        self.outcome.usd += self.world.plan.marginal_micro_usd_per_h / 1e6 * hours
        self._paid_until_s = self.world.now_s

    def _lose(self, event: CapacityLost) -> None:
        calm = not any(self.world.lost.values()) and self._all_ready()
        before = {
            deployment_id: self.world.served_share(deployment_id) for deployment_id in self.world.replicas
        }
        for pool_id, instances in event.instances_by_pool.items():
            self.world.lost[pool_id] = self.world.lost.get(pool_id, 0) + instances
        touched = self._shrink(event.instances_by_pool)
        for deployment_id in touched:
            self.account(deployment_id)
        if calm:
            kind = event.domain.kind if event.domain is not None else None
            self._tell(promises_broken(self.world, kind, before))
        self.queue.put(event.back_s, _Back(event))
        self.plan(frozenset(touched))

    def _shrink(self, pool_ids: Iterable[str]) -> set[str]:
        """Replicas go until the rest fits; those on their way out first, else by lot. Returns whom it hit."""
        touched: set[str] = set()
        used = self.world.used_gpus()
        for pool_id in pool_ids:
            left = self.world.capacity_gpus(self.world.first.pool_by_id[pool_id])
            for part in (self.world.outgoing, self.world.replicas):
                there = [
                    deployment_id
                    for deployment_id, by_pool in sorted(part.items())
                    for _ in by_pool.get(pool_id, ())
                ]
                self._rng.shuffle(there)
                while used[pool_id] > left and there:
                    deployment_id = there.pop()
                    part[deployment_id][pool_id].pop()
                    used[pool_id] -= self.world.first.deployment_by_id[deployment_id].gpus_per_replica
                    self.outcome.lost_replicas += 1
                    touched.add(deployment_id)
        return touched

    def _all_ready(self) -> bool:
        now_s = self.world.now_s
        return not any(
            ready for by_pool in self.world.outgoing.values() for ready in by_pool.values()
        ) and all(self._is_ready(deployment_id, now_s) for deployment_id in self.world.wanted)

    def _is_ready(self, deployment_id: str, now_s: float) -> bool:
        replicas = self.world.replicas.get(deployment_id, {})
        return all(
            len(replicas.get(pool_id, ())) >= count and (not count or replicas[pool_id][count - 1] <= now_s)
            for pool_id, count in self.world.wanted[deployment_id].items()
        )

    def _wanting(self) -> frozenset[str]:
        """Those whose plan gives less than was wished."""
        return frozenset(
            entry.deployment_id
            for entry in self.world.plan.deployments
            if entry.refusal is not None or entry.relaxed
        )

    def _retire(self, deployment_id: str) -> None:
        """What is more than wanted goes out, those that are ready last of all."""
        wanted = self.world.wanted[deployment_id]
        replicas = self.world.replicas.setdefault(deployment_id, {})
        outgoing = self.world.outgoing.setdefault(deployment_id, {})
        retired = False
        for pool_id, ready in replicas.items():
            while len(ready) > wanted.get(pool_id, 0):
                at_s = ready.pop()
                if at_s <= self.world.now_s:
                    outgoing.setdefault(pool_id, []).append(at_s)
                    retired = True
        for ready in outgoing.values():
            ready.sort()
        if retired:
            self.queue.put(self.world.now_s + DRAIN_S, _Drained(deployment_id))

    def _settle(self, deployment_id: str) -> None:
        """Take back what is on its way out, start what is wanted and has room, let go what is no longer needed."""
        world = self.world
        replicas = world.replicas.setdefault(deployment_id, {})
        outgoing = world.outgoing.setdefault(deployment_id, {})
        gpus = world.first.deployment_by_id[deployment_id].gpus_per_replica
        missing = {
            pool_id: count - len(replicas.get(pool_id, ()))
            for pool_id, count in world.wanted.get(deployment_id, {}).items()
            if count > len(replicas.get(pool_id, ()))
        }
        used = world.used_gpus() if missing else {}
        for pool_id, count in missing.items():
            there = replicas.setdefault(pool_id, [])
            leaving = outgoing.get(pool_id, [])
            back = min(count, len(leaving))
            there += [leaving.pop(0) for _ in range(back)]
            pool = world.first.pool_by_id[pool_id]
            free = (world.capacity_gpus(pool) - used.get(pool_id, 0)) // gpus
            starting = max(0, min(count - back, free))
            ready_s = world.now_s + world.cold_start_s(deployment_id, pool)
            there += [ready_s] * starting
            there.sort()
            self.outcome.started_replicas += starting
            if starting:
                self.queue.put(ready_s, _Ready(deployment_id))
        self.account(deployment_id)
        if any(outgoing.values()) and self._is_ready(deployment_id, world.now_s):
            self._let_go(deployment_id)

    def _let_go(self, deployment_id: str) -> None:
        """What was on its way out is gone; who waited for that room may start."""
        left = [pool_id for pool_id, ready in self.world.outgoing.get(deployment_id, {}).items() if ready]
        self.world.outgoing[deployment_id] = {}
        self.account(deployment_id)
        for other, wanted in self.world.wanted.items():
            replicas = self.world.replicas.get(other, {})
            if any(wanted.get(pool_id, 0) > len(replicas.get(pool_id, ())) for pool_id in left):
                self._settle(other)

    def _tell(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self._seen:
                self._seen.add(text)
                self.outcome.broken.append(f"{self.world.now_s / S_PER_H:.2f} h, {text}")
