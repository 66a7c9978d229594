"""The control plane of a world: placement gives each cluster its bounds, and moves them.

Runs as in production (``planning``): a plan at the beginning, one whenever demand moved, a region is lost or back, a
pool is being emptied, the budget is another one, or room that was left is free; and every few minutes the search for a
better one. What moves is handed over (``handover``), and agents hear
of it a moment later. While it is away nothing is planned or told: all go on with the bounds that they heard last.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from controlplane.costing import usd_printed
from controlplane.failover import REPLACE_AFTER_S, FoldPolicy
from controlplane.placement import (
    DeploymentPlan,
    FailureDomain,
    Move,
    Occupancy,
    PlacementPlan,
    PlacementProblem,
    Pool,
    Posture,
    plan_diff,
)
from controlplane.placement.questions.drain import Drained
from controlplane.simulation.serving.clock import Actor, Clock
from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.geography import Outage
from controlplane.simulation.serving.handover import Bounds, Handover
from controlplane.simulation.serving.outcome import PlacementOutcome, PlanTold
from controlplane.simulation.serving.placement_problem import (
    DEPLOYMENT_ID,
    Mean,
    budgets_of,
    demands_of,
    pool_id_of,
    problem_of,
    zones_of,
)
from controlplane.simulation.serving.placement_world import Placement
from controlplane.simulation.serving.planning import Now, Planning
from controlplane.simulation.serving.pools import ServingPool
from controlplane.simulation.serving.region_cluster import Command
from controlplane.simulation.serving.replicas import Fleet
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.spot_seen import SpotBeliefs
from controlplane.simulation.serving.usage import HORIZON_S, USAGE_STEP_S, Rates, rates_of, taken_over
from controlplane.simulation.serving.world import ServingWorld, Survey
from workloadplane.autoscaling import AutoscalingPolicy, Lot

#: As ``controlplane.settings`` has its beats: what is behind or handed over is looked at so often, demand so often, and
#: what agents tell of spot so often.
LOOK_S = 5.0
DEMAND_EVERY_S = 60.0
LEARN_EVERY_S = 300.0
#: As ``apps.placements`` has it: a move of no more is none.
MOVED_REQUESTS_PER_S = 0.1
#: What was lost counts as there again once it has been sound for so long.
SOUND_S = FoldPolicy().sound_s
#: So many of the plans are told one by one.
PLANS_TOLD = 100


@dataclass(frozen=True, slots=True)
class _Look:
    """At everything."""


class Governed(Actor, Protocol):
    """A cluster as the control plane knows it: told by ``Command``, and heard unless it ``is_out``."""

    @property
    def is_out(self) -> bool: ...

    @property
    def fleet(self) -> Fleet: ...


class ControlPlane:
    """Single owner: the mode that plays it, by whose clock it looks. ``commands`` before ``begin``."""

    def __init__(
        self,
        world: ServingWorld,
        placement: Placement,
        seen: Survey,
        policy: AutoscalingPolicy,
        outages: tuple[Outage, ...],
        *,
        posture: Posture,
    ) -> None:
        """Asks placement for the beginning. ``policy``: with the deployment's own bounds.

        Raises WorldError where placement can't be asked so.
        """
        self._placement, self._outages, self._away = placement, outages, world.plane_lost
        self._geography, self._mean = world.geography, Mean.of(seen)
        self._gpus_per_replica = world.failures.gpus_per_replica
        self._lanes: list[tuple[str, ServingPool]] = [
            (region.name, pool) for region in world.geography.regions for pool in region.pools
        ]
        self._usage = _usage_of(seen, len(world.geography.origins))
        nothing = np.zeros(len(world.geography.origins))
        self._stated = np.array([placement.stated.get(name, 0.0) for name in world.geography.origins])
        self._used = Rates(nothing, nothing)
        try:
            problem = problem_of(world, placement, policy, self._mean, self._rates(), posture=posture)
            self._planning = Planning(problem)
        except ValueError as error:
            raise WorldError(f"placement: {error}") from None
        self._first: tuple[Pool, ...] = problem.pools
        self._lane_of = {pool_id_of(*lane): number for number, lane in enumerate(self._lanes)}
        self._handover = Handover(1)
        self._handover.grow([Bounds(0, lane, 0, 0, 0) for lane in range(len(self._lanes))])
        self._handover.bound(self._bounds())
        self._lost: frozenset[str] = frozenset()
        self._emptied: frozenset[tuple[str, str]] = frozenset()
        self._demand_s, self._search_s = DEMAND_EVERY_S, placement.search.every_s
        self._learn_s = LEARN_EVERY_S
        self._beliefs = SpotBeliefs(problem.pools, zones_of(problem.clusters))
        self._clusters: Mapping[str, Governed] = {}
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._jobs_hold: Callable[[], Counter[tuple[str, str]]] = Counter
        self._clock = Clock()
        self.outcome = PlacementOutcome()
        self.broken: list[str] = []
        self._order = self._in_order(())
        self._note(0.0, "the beginning", ())
        self._said = {region: self.command(region) for region in self._geography.names}

    def command(self, region: str) -> Command:
        """What its agent and its gateway are to do now."""
        handover, lots = self._handover, []
        for number, (name, pool) in enumerate(self._lanes):
            most = int(handover.most[number])
            if name == region and most:
                least = most if handover.leaves[number] else int(handover.least[number])
                lots.append(Lot(pool.name, least, most, pool.procurement))
        holders = {self._lanes[number][0] for number in np.flatnonzero(handover.most).tolist()}
        return Command(tuple(lots), tuple(name for name in self._geography.names if name in holders))

    def order(self) -> tuple[str, ...]:
        """Clusters that hold the deployment: who is to serve first, which one that is left goes on to do meanwhile."""
        return self._order

    def _in_order(self, before: Sequence[str]) -> tuple[str, ...]:
        rows = sorted(self._entry().allocations, key=lambda row: (row.standby, -row.min_replicas))
        planned = [self._lanes[self._lane_of[row.pool_id]][0] for row in rows]
        leaves = {self._lanes[lane][0] for lane in np.flatnonzero(self._handover.leaves).tolist()}
        goes_on = [name for name in before[:1] if name in leaves and name not in planned]
        return tuple(dict.fromkeys([*goes_on, *planned]))

    def begin(
        self,
        clusters: Mapping[str, Governed],
        jobs_hold: Callable[[], Counter[tuple[str, str]]],
        clock: Clock,
    ) -> None:
        """They have heard the first commands. ``jobs_hold``: places that jobs hold, by region and pool."""
        self._clusters, self._jobs_hold, self._clock = clusters, jobs_hold, clock
        clock.put(LOOK_S, self, _Look())

    def happen(self, event: object, now_s: float) -> None:
        """A look."""
        if not any(away.at_s <= now_s < away.back_s for away in self._away):
            self._look(now_s)
        self._clock.put(now_s + LOOK_S, self, event)

    def _look(self, now_s: float) -> None:
        self._hear()
        why = []
        if self._handover.settle():
            why.append("room is free")
        lost = frozenset(name for name in self._geography.names if self._is_lost(name, now_s))
        why += [f"{name} is lost" for name in sorted(lost - self._lost)]
        why += [f"{name} is back" for name in sorted(self._lost - lost)]
        self._lost = lost
        emptied = {(one.region, one.pool) for one in self._placement.emptied if one.at_s <= now_s}
        why += [f"{region}/{pool} is being emptied" for region, pool in sorted(emptied - self._emptied)]
        self._emptied = frozenset(emptied)
        if now_s >= self._demand_s:
            self._demand_s = (now_s // DEMAND_EVERY_S + 1) * DEMAND_EVERY_S
            if self._take_over(now_s):
                why.append("demand moved")
        if self._spends_otherwise(now_s):
            why.append("another budget")
        why += self._what_jobs_do()
        if now_s >= self._learn_s:
            self._learn_s = (now_s // LEARN_EVERY_S + 1) * LEARN_EVERY_S
            why += [f"{pool} is believed otherwise" for pool in self._learn(now_s)]
        if why:
            self._plan(now_s, ", ".join(why))
        if self._is_to_search(now_s):
            self._search(now_s)
        self._tell(now_s)

    # What it knows

    def _hear(self) -> None:
        """Agents tell of their replicas; of those that are not heard what they told last counts."""
        for number, (region, pool) in enumerate(self._lanes):
            cluster = self._clusters[region]
            if cluster.is_out:
                self._handover.miss(number)
            else:
                self._handover.hear(number, *cluster.fleet.counted(pool))

    def _is_lost(self, region: str, now_s: float) -> bool:
        """As incidents have it: gone for a while, and until it has been sound for a while.

        What was lost while the control plane was away may have been back meanwhile, so it counts from its return on.
        """
        outages = [outage for outage in self._outages if outage.region == region]
        if region in self._lost:
            return any(outage.at_s <= now_s < outage.back_s + SOUND_S for outage in outages)
        looking_s = max((away.back_s for away in self._away if away.back_s <= now_s), default=0.0)
        return any(
            max(outage.at_s, looking_s) + REPLACE_AFTER_S <= now_s < outage.back_s for outage in outages
        )

    def _take_over(self, now_s: float) -> bool:
        """The demand that usage shows, where it has moved; whether it has."""
        steps = int(now_s // USAGE_STEP_S)
        if not steps:
            return False
        before = self._rates()
        since = max(0, steps - round(HORIZON_S / USAGE_STEP_S))
        found = rates_of(self._usage[since:steps])
        self._used = taken_over(self._used, found, least=MOVED_REQUESTS_PER_S)
        if now_s >= HORIZON_S:
            self._stated = np.zeros_like(self._stated)
        return bool((self._rates().p95 != before.p95).any())

    def _rates(self) -> Rates:
        """What is planned for: the greater of usage and of what was stated, until usage is known for a day."""
        return Rates(*(np.maximum(rate, self._stated) for rate in (self._used.p50, self._used.p95)))

    def _spends_otherwise(self, now_s: float) -> bool:
        return budgets_of(self._placement, now_s) != self._planning.problem.budgets

    def _what_jobs_do(self) -> list[str]:
        """What they hold is nobody else's, as if it were not there."""
        before, self._jobs = self._jobs, self._jobs_hold()
        places = sorted(place for place in before | self._jobs if before[place] != self._jobs[place])
        return [f"jobs hold {self._jobs[region, pool]} of {region}/{pool}" for region, pool in places]

    def _learn(self, now_s: float) -> list[str]:
        """Pools of which agents have told something else than is believed."""
        moved = []
        for region, cluster in self._clusters.items():
            seen = cluster.fleet.supply.spot_seen(cluster.fleet.tally, now_s)
            moved += [f"{region}/{pool}" for pool in self._beliefs.look(region, seen, now_s)]
        self.outcome.believed = self._beliefs.told()
        return moved

    # What it decides

    def _plan(self, now_s: float, why: str) -> None:
        before = self._planning.problem, self._planning.plan
        try:
            placed = self._planning.anew(self._now(now_s))
        except ValueError as error:
            raise WorldError(f"placement: {error}") from None
        if placed:
            self._hand_over(now_s, why, *before)

    def _is_to_search(self, now_s: float) -> bool:
        every_s = self._placement.search.every_s
        if not every_s or not (self._planning.has_given_up or now_s >= self._search_s):
            return False
        if now_s >= self._search_s:
            self._search_s = (now_s // every_s + 1) * every_s
        return True

    def _search(self, now_s: float) -> None:
        """The whole search, which takes no time here; what it finds is adopted where that is worth its moves."""
        before = self._planning.problem, self._planning.plan
        found = self._planning.improve(self._now(now_s), self._placement.search.effort)
        self.outcome.searches = self._planning.searches
        if found is not None:
            self.outcome.better += 1
            saved = usd_printed(found.worth.saving_micro_usd_per_h)
            self._hand_over(now_s, f"a full solve saves {saved} USD/h", *before)

    def _hand_over(self, now_s: float, why: str, problem: PlacementProblem, plan: PlacementPlan) -> None:
        """From this plan, which answered this problem, to the one in force now."""
        self._handover.bound(self._bounds())
        diff = plan_diff(problem, plan, self._planning.problem, self._planning.plan)
        self._note(now_s, why, [move for one in diff.deployments for move in one.moves])

    def _now(self, now_s: float) -> Now:
        return Now(
            pools=tuple(map(self._as_it_is, self._first)),
            demands=tuple(demands_of(self._geography.origins, self._rates(), self._mean)),
            occupancies=tuple(
                Occupancy(
                    deployment_id=DEPLOYMENT_ID,
                    pool_id=pool_id_of(*self._lanes[row.place]),
                    gpus_per_replica=self._gpus_per_replica,
                    replicas=row.replicas,
                )
                for row in self._handover.outgoing()
            ),
            drains=tuple(
                Drained(domain=FailureDomain(kind="pool", name=f"{region}/{pool}"))
                for region, pool in sorted(self._emptied)
            ),
            budgets=budgets_of(self._placement, now_s),
        )

    def _as_it_is(self, pool: Pool) -> Pool:
        if pool.cluster_id in self._lost:
            return replace(pool, capacity_instances=0, closed="lost")
        taken = self._jobs[pool.cluster_id, pool.name]
        return replace(self._beliefs.of(pool), capacity_instances=pool.capacity_instances - taken)

    def _entry(self) -> DeploymentPlan:
        return self._planning.plan.by_deployment[DEPLOYMENT_ID]

    def _bounds(self) -> list[Bounds]:
        """By the plan in force."""
        return [
            Bounds(0, self._lane_of[row.pool_id], row.min_replicas, row.max_replicas, row.room_replicas)
            for row in self._entry().allocations
        ]

    def _tell(self, now_s: float) -> None:
        """Agents whose bounds have changed, and gateways."""
        self._order = self._in_order(self._order)
        for region, cluster in self._clusters.items():
            command = self.command(region)
            if command != self._said[region]:
                self._said[region] = command
                self._clock.put(now_s + self._placement.command_s, cluster, command)

    def _note(self, now_s: float, why: str, moves: Sequence[Move]) -> None:
        outcome, entry = self.outcome, self._entry()
        outcome.plans += 1
        self._check_spent(now_s)
        outcome.moved += sum(move.replicas for move in moves if move.from_pool and move.to_pool)
        if len(outcome.told) < PLANS_TOLD:
            refusals = [*entry.relaxed, *([entry.refusal] if entry.refusal is not None else [])]
            outcome.told.append(
                PlanTold(
                    at_s=now_s,
                    why=why,
                    bounds={
                        row.pool_id: f"{row.min_replicas} to {row.max_replicas}"
                        + (", stands by" if row.standby else "")
                        for row in entry.allocations
                    },
                    moves=[str(move) for move in moves],
                    given_up=[str(refusal) for refusal in refusals],
                )
            )

    def _check_spent(self, now_s: float) -> None:
        """Rule 4, reckoned from the world's own prices."""
        price = {pool_id_of(*lane): lane[1].usd_per_replica_h for lane in self._lanes}
        spent = sum(row.room_replicas * price[row.pool_id] for row in self._entry().allocations)
        for budget in budgets_of(self._placement, now_s):
            if spent * 1e6 > budget.micro_usd_per_h + len(price):
                self.broken.append(
                    f"rule 4: room for {spent:g} USD/h of {budget.micro_usd_per_h / 1e6:g} (at {now_s:.0f} s)"
                )


def _usage_of(seen: Survey, origins: int) -> FloatArray:
    """Requests a second, by their work, of each five minutes and origin."""
    parts = max(1, math.ceil(seen.end_s / USAGE_STEP_S))
    begins = (np.arange(parts) * USAGE_STEP_S / seen.step_s).astype(np.int64)
    per_s = 1.0 / max(seen.work_s, 1e-9) / USAGE_STEP_S
    found = [np.add.reduceat(work_s, np.minimum(begins, len(work_s) - 1)) for work_s in seen.work_s_by_origin]
    return np.array(found).reshape(origins, parts).T * per_s
