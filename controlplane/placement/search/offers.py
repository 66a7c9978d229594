"""A problem as arrays: what each pool can take and costs, and what each deployment could do on it.

Only two things tie deployments together: the GPUs of pools (of which reserved ones are used up first, at no rent) and
the budgets of projects. Everything else stands in one deployment's ``Offer``, so that placing it is a small problem of
its own once GPUs and budgets have a price.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import (
    handover_micro_usd_per_h,
    leaving_micro_usd_per_h,
    replica_price,
)
from controlplane.placement.rules.filters import open_to_new
from controlplane.placement.rules.needs import LEVELS, Needs, index_of, kinds_covered
from controlplane.placement.rules.traffic import lateness_micro_usd_per_h, network_micro_usd_per_h, too_far
from controlplane.placement.supply import Pool
from controlplane.placement.wishes import Survivability, WantedDeployment

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pools:
    """What all deployments share, in the problem's order of pools.

    rent_micro_usd_per_gpu_h: of a GPU beyond the reserved ones, with what its interruptions are expected to cost
    room_gpus:                what plans may fill, by ``Offer.room_gpus`` of each replica: outgoing ones hold the rest
    """

    room_gpus: Floats
    reserved_gpus: Floats
    rent_micro_usd_per_gpu_h: Floats
    region: tuple[str, ...]
    region_number: Ints
    cluster: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offer:
    """What one deployment could do: arrays over the K pools that it may use. Money is micro-USD/h.

    far:       whether clusters beyond the latency rule may be used
    pools:     positions in the problem's pools
    share:     part of the demand planned for that a replica serves (1 where nothing but ``replicas`` is planned for)
    survival:  what a replica counts where losses must be survived
    limit:     so many replicas the pool could carry if it were empty, or that may stay where nothing new may go
    held:      replicas that run there now; ``leaving`` is what it costs that one of them goes
    room_gpus: what a replica keeps from others of its size: a share of an instance, as ``Ledger`` counts it
    freed:     so many replicas' room is left by its own outgoing ones, parts of one too
    refused:   what a replica beyond the held ones costs because it may not be had
    budgeted:  what a replica takes at least of its project's budget; ``promised`` at most
    late:      origins x K: lateness and network of an origin's traffic, if that pool's cluster serves it all; in
               ``active_passive`` last the hand-over, where another cluster serves now: an origin without traffic
    load:      what part of the whole demand each origin is
    gone:      what leaves in any case, because its pool may not be used any more
    losses:    name -> the pools that it takes, for each loss that ``level`` promises to survive; none contains another
    penalty:   what the wishes cost that are given up at this level
    missing:   what each replica costs that is missing while nothing is lost; 0: none may be
    """

    number: int
    deployment: WantedDeployment
    needs: Needs
    level: Survivability
    far: bool
    pools: Ints
    share: Floats
    survival: Floats
    limit: Ints
    held: Ints
    leaving: Floats
    room_gpus: Floats
    freed: Floats
    refused: Floats
    budgeted: Floats
    promised: Floats
    late: Floats
    load: Floats
    gone: float
    losses: Mapping[str, Bools]
    penalty: float
    missing: float = 0.0

    @property
    def gpus(self) -> int:
        return self.deployment.gpus_per_replica

    @property
    def fixed(self) -> float:
        """What it costs to have no replica anywhere: wishes given up, and all that leaves."""
        return self.penalty + self.gone + float(np.dot(self.leaving, self.held))

    @property
    def passive(self) -> bool:
        return self.deployment.posture == "active_passive"

    @property
    def short(self) -> bool:
        """Whether replicas may be missing."""
        return self.missing > 0

    @property
    def nothing(self) -> float:
        """What it costs to place no replica at all, where that may be."""
        return self.fixed + self.missing * self.needs.size

    def missing_replicas(self, replicas: Ints) -> int:
        """As ``needs.missing_replicas`` counts them."""
        lacking = math.ceil((1 - float(np.dot(self.share, replicas))) * self.needs.size - 1e-6)
        return max(0, lacking if self.needs.served > 0 else 0, self.needs.replicas - int(replicas.sum()))


class Offers:
    """The arrays of one problem. Owner: the function that made it; nothing in here changes afterwards."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem = problem
        self.index = index_of(problem)
        self.position = {pool.pool_id: number for number, pool in enumerate(problem.pools)}
        self.pools = _pools(problem)
        self.project = {name: number for number, name in enumerate(self._budgets)}
        self.budget = np.array([float(money) for money in self._budgets.values()])
        self._open: dict[object, Bools] = {}
        self._losses: dict[object, Mapping[str, Bools]] = {}
        self._occupied: dict[str, Counter[str]] = {}
        for row in problem.occupancies:
            held = self._occupied.setdefault(row.deployment_id, Counter())
            held[row.pool_id] += row.replicas * row.gpus_per_replica

    @cached_property
    def _budgets(self) -> Mapping[str, int]:
        """The tightest, where a project has several."""
        found: dict[str, int] = {}
        for row in self.problem.budgets:
            found[row.project_id] = min(row.micro_usd_per_h, found.get(row.project_id, row.micro_usd_per_h))
        return found

    def offer(
        self, number: int, level: Survivability | None = None, *, far: bool = False, short: bool = False
    ) -> Offer:
        """One deployment's, at its wishes or at a narrower survivability.

        far:   beyond its latency rule too
        short: with replicas missing too, and so with no loss that is survived
        """
        problem = self.problem
        deployment = problem.deployments[number]
        needs = self.index.needs(deployment)
        level = "none" if short else deployment.survivability if level is None else level
        held: Counter[str] = Counter()
        for row in problem.current_of(deployment.deployment_id):
            held[row.pool_id] += row.room_replicas
        usable = [
            pool
            for pool, is_open in zip(self.index.usable(deployment), self._is_open(deployment), strict=True)
            if self._may_use(deployment, needs, pool, held, is_open=bool(is_open), far=far)
        ]
        keys = [self.position[pool.pool_id] for pool in usable]
        usable_ids = {pool.pool_id for pool in usable}
        outside = [pool_id for pool_id in held if pool_id not in usable_ids]
        gone = sum(held[one] * self._leaving(deployment, problem.pool_by_id[one]) for one in outside)
        occupied = self._occupied.get(deployment.deployment_id, Counter())
        room_gpus = np.array([_room_gpus(pool, deployment.gpus_per_replica) for pool in usable])
        late, load = self._traffic(deployment, usable)
        return Offer(
            number=number,
            deployment=deployment,
            needs=needs,
            level=level,
            far=far,
            pools=np.array(keys, dtype=np.int64),
            share=np.array([self._share(needs, pool) for pool in usable]),
            survival=np.array([self.index.survival_by_pool[pool.pool_id] for pool in usable]),
            limit=np.array(
                [self._limit(deployment, needs, pool, held[pool.pool_id]) for pool in usable], dtype=np.int64
            ),
            held=np.array([held[pool.pool_id] for pool in usable], dtype=np.int64),
            leaving=np.array(
                [self._leaving(deployment, pool) if held[pool.pool_id] else 0.0 for pool in usable]
            ),
            room_gpus=room_gpus,
            freed=np.array([float(occupied[pool.pool_id]) for pool in usable]) / room_gpus,
            refused=np.array([self._refused(deployment, pool) for pool in usable]),
            budgeted=deployment.gpus_per_replica
            * np.array([self.budgeted_per_gpu(key, min) for key in keys]),
            promised=deployment.gpus_per_replica
            * np.array([self.budgeted_per_gpu(key, max) for key in keys]),
            late=late,
            load=load,
            gone=float(gone),
            losses=self._losses_of(level, tuple(keys)),
            penalty=self._penalty(deployment, needs, level, far=far),
            missing=problem.weights.missing_replica_h * self.index.wish_micro_usd_per_h(deployment)
            if short
            else 0.0,
        )

    def _penalty(
        self, deployment: WantedDeployment, needs: Needs, level: Survivability, *, far: bool
    ) -> float:
        weights = self.problem.weights
        hours = (
            LEVELS.index(deployment.survivability) - LEVELS.index(level)
        ) * weights.relaxed_survivability_h
        hours += weights.relaxed_latency_h if far else 0.0
        return hours * needs.size * self.index.wish_micro_usd_per_h(deployment)

    def freed_gpus(self, number: int, pool: int) -> float:
        """What a deployment's own outgoing replicas hold of a pool."""
        deployment_id = self.problem.deployments[number].deployment_id
        return float(self._occupied.get(deployment_id, Counter())[self.problem.pools[pool].pool_id])

    def _is_open(self, deployment: WantedDeployment) -> Bools:
        usable = self.index.usable(deployment)
        found = self._open.get(id(usable))
        if found is None:
            clusters = self.problem.cluster_by_id
            found = self._open[id(usable)] = np.array(
                [not open_to_new(deployment, pool, clusters[pool.cluster_id]) for pool in usable], dtype=bool
            )
        return found

    def _may_use(
        self,
        deployment: WantedDeployment,
        needs: Needs,
        pool: Pool,
        held: Mapping[str, int],
        *,
        is_open: bool,
        far: bool,
    ) -> bool:
        takes_new = is_open and (not needs.share_by_type or needs.share(pool) > 0)
        if not takes_new and not held.get(pool.pool_id):
            return False
        if pool.capacity_instances == 0:
            return False
        return far or not too_far(self.problem, deployment, self.problem.cluster_by_id[pool.cluster_id])

    def _share(self, needs: Needs, pool: Pool) -> float:
        return needs.share(pool) / needs.served if needs.served > 0 else 1.0

    def _limit(self, deployment: WantedDeployment, needs: Needs, pool: Pool, held: int) -> int:
        fitting = pool.capacity_instances * (pool.gpus_per_instance // deployment.gpus_per_replica)
        cluster = self.problem.cluster_by_id[pool.cluster_id]
        new = not open_to_new(deployment, pool, cluster) and (
            not needs.share_by_type or needs.share(pool) > 0
        )
        return min(fitting, deployment.max_replicas) if new else min(held, fitting)

    def _leaving(self, deployment: WantedDeployment, pool: Pool) -> float:
        gpus = {
            row.pool_id: row.gpus_per_replica for row in self.problem.current_of(deployment.deployment_id)
        }
        return float(leaving_micro_usd_per_h(self.problem, deployment, pool, gpus[pool.pool_id]))

    def _refused(self, deployment: WantedDeployment, pool: Pool) -> float:
        """Nothing where a reservation may cover it: errs low."""
        if pool.obtainability == 1 or self.problem.tariff_by_pool[pool.pool_id].reserved_instances:
            return 0.0
        price = replica_price(self.problem, pool, deployment.gpus_per_replica)
        return price * (1 - pool.obtainability) * self.problem.weights.refusal_h

    def budgeted_per_gpu(self, position: int, choose: Callable[[list[float]], float]) -> float:
        """What a GPU of a pool takes of a budget, by its position in the problem: the least or the most.

        Of a pool that is reserved in part, who comes first has the reservation's price.
        """
        pool = self.problem.pools[position]
        tariff = self.problem.tariff_by_pool[pool.pool_id]
        prices = [float(tariff.reserved_instance_micro_usd_per_h)] if tariff.reserved_instances else []
        if tariff.reserved_instances < pool.capacity_instances or not prices:
            prices.append(float(tariff.instance_micro_usd_per_h))
        return choose(prices) / pool.gpus_per_instance

    def _traffic(self, deployment: WantedDeployment, usable: Sequence[Pool]) -> tuple[Floats, Floats]:
        demands = self.problem.demands_of(deployment.deployment_id)
        late = np.zeros((len(demands), len(usable)))
        regions = [self.problem.cluster_by_id[pool.cluster_id].region for pool in usable]
        for origin, row in enumerate(demands):
            known = {
                region: lateness_micro_usd_per_h(self.problem, deployment, row, region)
                + network_micro_usd_per_h(self.problem, row, region)
                for region in set(regions)
            }
            late[origin] = [known[region] for region in regions]
        load = np.array([row.requests_per_s_p95 for row in demands], dtype=float)
        if not load.sum():
            load = np.array([row.tokens_per_s_p95 for row in demands], dtype=float)
        load = load / load.sum() if load.sum() > 0 else load
        served, handover = handover_micro_usd_per_h(self.problem, deployment)
        if not served:
            return late, load
        handed_over = [0.0 if pool.cluster_id in served else float(handover) for pool in usable]
        return np.vstack([late, handed_over]), np.append(load, 0.0)

    def _losses_of(self, level: Survivability, keys: tuple[int, ...]) -> Mapping[str, Bools]:
        """The widest losses first; one that another contains says nothing more.

        A pool that lies in no domain of a kind does not count when that kind is lost.
        """
        found = self._losses.get((level, keys))
        if found is None:
            found = self._losses[level, keys] = self._widest_losses(level, keys)
        return found

    def _widest_losses(self, level: Survivability, keys: tuple[int, ...]) -> Mapping[str, Bools]:
        found: dict[str, Bools] = {}
        of_pools = [self.index.losses_by_pool[self.problem.pools[key].pool_id] for key in keys]
        for kind in reversed(kinds_covered(level)):
            unknown = np.array([not losses[kind] for losses in of_pools], dtype=bool)
            names = {name for losses in of_pools for name in losses[kind]}
            for name in sorted(names, key=lambda name: (not name.startswith(kind), name)):
                taken = unknown | np.array([name in losses[kind] for losses in of_pools], dtype=bool)
                if not any(bool(np.all(taken <= other)) for other in found.values()):
                    found = {one: other for one, other in found.items() if not np.all(other <= taken)}
                    found[name] = taken
        return found


def _room_gpus(pool: Pool, gpus_per_replica: int) -> float:
    return pool.gpus_per_instance / (pool.gpus_per_instance // gpus_per_replica)


def _pools(problem: PlacementProblem) -> Pools:
    clusters = {cluster.cluster_id: number for number, cluster in enumerate(problem.clusters)}
    room, rent, reserved = [], [], []
    for pool in problem.pools:
        tariff = problem.tariff_by_pool[pool.pool_id]
        occupied = sum(
            row.replicas * row.gpus_per_replica for row in problem.occupancies if row.pool_id == pool.pool_id
        )
        gpus = pool.capacity_instances * pool.gpus_per_instance
        room.append(max(0.0, float(gpus - occupied)))
        reserved.append(float(min(tariff.reserved_gpus, gpus)))
        hazard = 1 + pool.hazard_per_h * problem.weights.interruption_h
        rent.append(tariff.instance_micro_usd_per_h / pool.gpus_per_instance * hazard)
    regions = tuple(problem.cluster_by_id[pool.cluster_id].region for pool in problem.pools)
    return Pools(
        room_gpus=np.array(room),
        reserved_gpus=np.array(reserved),
        rent_micro_usd_per_gpu_h=np.array(rent),
        region=regions,
        region_number=np.array([sorted(set(regions)).index(region) for region in regions], dtype=np.int64),
        cluster=np.array([clusters[pool.cluster_id] for pool in problem.pools], dtype=np.int64),
    )
