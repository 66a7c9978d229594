"""The world: what is there, what runs there, and what of the demand it serves at this moment."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.placement import (
    CurrentAssignment,
    Demand,
    Occupancy,
    PlacementPlan,
    PlacementProblem,
    Pool,
)

#: A cold start of which nothing was measured.
COLD_START_S = 300.0

NOTHING_PLANNED = PlacementPlan(deployments=(), micro_usd_per_h=0, marginal_micro_usd_per_h=0)

#: Pool id -> the times at which replicas there are ready, the earliest first.
Replicas = dict[str, list[float]]


@dataclass(slots=True)
class World:
    """What is there and runs. All that is asked for, all the time, is the peak that is planned for.

    Single owner: the simulation. By deployment id:

    replicas:  what runs or starts
    outgoing:  what serves until its successors are ready
    wanted:    pool id -> how many the plan in force wants
    standby:   pools of which the plan says that they serve only once the first is lost
    factors:   what it asks for, in terms of what it asked for at first
    and by pool id, ``lost``: instances that are gone now.
    """

    first: PlacementProblem
    now_s: float = 0.0
    plan: PlacementPlan = NOTHING_PLANNED
    replicas: dict[str, Replicas] = field(default_factory=dict)
    outgoing: dict[str, Replicas] = field(default_factory=dict)
    wanted: dict[str, dict[str, int]] = field(default_factory=dict)
    standby: dict[str, set[str]] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def capacity_gpus(self, pool: Pool) -> int:
        """What of a pool is there now."""
        gone = self.lost.get(pool.pool_id, 0)
        return max(0, pool.capacity_instances - gone) * pool.gpus_per_instance

    def used_gpus(self) -> dict[str, int]:
        """By pool: what runs, starts or is on its way out."""
        used: dict[str, int] = defaultdict(int)
        for part in (self.replicas, self.outgoing):
            for deployment_id, by_pool in part.items():
                gpus = self.first.deployment_by_id[deployment_id].gpus_per_replica
                for pool_id, ready in by_pool.items():
                    used[pool_id] += len(ready) * gpus
        return used

    def problem(self) -> PlacementProblem:
        """The world as a planner sees it."""
        clusters = {pool.cluster_id for pool in self.first.pools if self.capacity_gpus(pool) > 0}
        return replace(
            self.first,
            clusters=tuple(
                one if one.cluster_id in clusters or one.closed else replace(one, closed="lost")
                for one in self.first.clusters
            ),
            pools=tuple(
                replace(one, capacity_instances=max(0, one.capacity_instances - self.lost[one.pool_id]))
                if self.lost.get(one.pool_id)
                else one
                for one in self.first.pools
            ),
            demands=tuple(self.demand(row) for row in self.first.demands),
            current=tuple(self._current()) if self.plan.deployments else self.first.current,
            occupancies=tuple(
                Occupancy(
                    deployment_id=deployment_id,
                    pool_id=pool_id,
                    gpus_per_replica=self.first.deployment_by_id[deployment_id].gpus_per_replica,
                    replicas=len(ready),
                )
                for deployment_id, by_pool in self.outgoing.items()
                for pool_id, ready in by_pool.items()
                if ready
            ),
        )

    def demand(self, row: Demand) -> Demand:
        """One origin's demand as it is now."""
        factor = self.factors.get(row.deployment_id)
        if factor is None:
            return row
        return replace(
            row,
            requests_per_s_p50=row.requests_per_s_p50 * factor,
            requests_per_s_p95=row.requests_per_s_p95 * factor,
            tokens_per_s_p50=row.tokens_per_s_p50 * factor,
            tokens_per_s_p95=row.tokens_per_s_p95 * factor,
        )

    def _current(self) -> list[CurrentAssignment]:
        pools = self.first.pool_by_id
        return [
            row.carried_out(
                assignment_id=f"{entry.deployment_id}/{row.pool_id}", deployment_id=entry.deployment_id
            )
            for entry in self.plan.deployments
            for row in entry.allocations
            if self.capacity_gpus(pools[row.pool_id]) > 0
        ]

    def asked_requests_per_s(self, deployment_id: str) -> float:
        """What a deployment is asked for now."""
        factor = self.factors.get(deployment_id, 1.0)
        return factor * sum(row.requests_per_s_p95 for row in self.first.demands_of(deployment_id))

    def served_share(self, deployment_id: str) -> float:
        """Of what is asked for, the part that ready replicas can serve; at most 1."""
        return min(1.0, self._share(deployment_id, self.serving(deployment_id)))

    def _share(self, deployment_id: str, ready_by_pool: Mapping[str, int]) -> float:
        demands = self.first.demands_of(deployment_id)
        factor = self.factors.get(deployment_id, 1.0)
        requests_per_s = factor * sum(row.requests_per_s_p95 for row in demands)
        tokens_per_s = factor * sum(row.tokens_per_s_p95 for row in demands)
        share = 0.0
        for pool_id, ready in ready_by_pool.items():
            pool = self.first.pool_by_id[pool_id]
            profile = self.first.profile_of(self.first.deployment_by_id[deployment_id], pool.instance_type_id)
            if profile is not None and requests_per_s > 0:
                share += ready / max(
                    requests_per_s / profile.requests_per_s, tokens_per_s / profile.tokens_per_s
                )
        return share

    def serving(self, deployment_id: str) -> Mapping[str, int]:
        """Pool id -> ready replicas that take requests; in ``active_passive`` those of one cluster."""
        ready: dict[str, int] = defaultdict(int)
        for part in (self.replicas, self.outgoing):
            for pool_id, times_s in part.get(deployment_id, {}).items():
                ready[pool_id] += bisect_right(times_s, self.now_s)
        ready = {pool_id: count for pool_id, count in ready.items() if count}
        if self.first.deployment_by_id[deployment_id].posture == "active_passive":
            return self._one_cluster(deployment_id, ready)
        return ready

    def _one_cluster(self, deployment_id: str, ready: Mapping[str, int]) -> Mapping[str, int]:
        """The one that the plan lets serve while it can serve all; else whichever can serve most: it is promoted."""
        by_cluster: dict[str, dict[str, int]] = defaultdict(dict)
        for pool_id, count in ready.items():
            by_cluster[self.first.pool_by_id[pool_id].cluster_id][pool_id] = count
        standby = self.standby.get(deployment_id, set())

        def preference(cluster_id: str) -> tuple[float, bool, str]:
            there = by_cluster[cluster_id]
            return min(1.0, self._share(deployment_id, there)), not standby & there.keys(), cluster_id

        return by_cluster[max(by_cluster, key=preference)] if by_cluster else {}

    def cold_start_s(self, deployment_id: str, pool: Pool) -> float:
        """How long until a replica that starts now is ready; reserved machines need not be procured."""
        profile = self.first.profile_of(self.first.deployment_by_id[deployment_id], pool.instance_type_id)
        if profile is None:
            return COLD_START_S
        procured_s = (profile.gpu_procurement_s or 0.0) if pool.procurement == "reserved" else 0.0
        return profile.cold_start_s - procured_s
