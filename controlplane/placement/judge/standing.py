"""What of a plan counts, and for how much: the arithmetic under the certificate and under what-if-lost.

Own arithmetic, nothing of a solver, so that a judge who uses it does not repeat a solver's mistake. A deployment's
*share* is what its replicas serve of the demand planned for: 1 is all of it, more is head-room.

Planned for by demand (its profile says what a replica serves), or, where no demand or no profile is known, by
``min_replicas`` alone: then one replica's share is 1 / min_replicas (1 where that is 0: a place to start in).
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.supply import Cluster, DomainKind, FailureDomain, PerformanceProfile, Pool
from controlplane.placement.wishes import (
    ENGINE_VENDORS,
    WEIGHTS_MEMORY_SHARE,
    Demand,
    Survivability,
    WantedDeployment,
)
from workloadplane.words import counted

PlannedBy = Literal["demand", "min_replicas"]

#: A millionth less than the demand is the demand: sums of shares are floats.
TOLERANCE = 1e-6

GIB = 1024**3

#: Kinds of failure domain that are recorded of clusters.
RECORDED: tuple[DomainKind, ...] = ("zone", "region", "provider")

#: The name of a domain that nobody recorded: any of its kind, for all that is known.
NOT_RECORDED = "not recorded"

#: Surviving the wider loss includes the narrower ones.
COVERS: Mapping[Survivability, tuple[DomainKind, ...]] = {
    "none": (),
    "zone": ("zone",),
    "region": ("zone", "region"),
    "provider": ("zone", "region", "provider"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An allocation as it is counted.

    replicas:   those that count: kept ready where a loss must be survived, all that have room elsewhere and of those
                that scale to zero
    chance:     of one of them to be there when it is needed (below 1 for spot where a loss must be survived)
    share_each: of the demand planned for, what one of them serves
    domains:    everything whose loss takes it
    """

    allocation: Allocation
    pool: Pool
    cluster: Cluster
    replicas: int
    chance: float
    share_each: float
    domains: frozenset[FailureDomain]
    cold_start_s: float | None

    @property
    def share(self) -> float:
        return self.replicas * self.chance * self.share_each


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a deployment: capacity as a share of the demand planned for, replicas as expected, and whether
    both are enough."""

    share: float
    replicas: float
    enough: bool


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One deployment, what it needs and what it has. ``surroundings``: of each recorded domain, all that its clusters
    are in."""

    deployment: WantedDeployment
    entry: DeploymentPlan
    requests_per_s: float
    tokens_per_s: float
    planned_by: PlannedBy
    parts: tuple[Part, ...]
    surroundings: Mapping[FailureDomain, frozenset[FailureDomain]]

    @property
    def replicas_needed(self) -> int:
        return max(1, self.deployment.min_replicas)

    def promised(self, domain: FailureDomain) -> bool:
        """Whether the deployment's survivability covers the loss of ``domain``."""
        if domain.kind == "spot_group":
            return self.deployment.survivability != "none"
        return domain.kind in COVERS[self.deployment.survivability]

    def left(self, lost: Collection[FailureDomain]) -> Left:
        """What stands when all of ``lost`` is gone."""
        return self._sum(self.serving(lost))

    def serving(self, lost: Collection[FailureDomain]) -> tuple[Part, ...]:
        """The parts that serve when all of ``lost`` is gone. Of an ``active_passive`` deployment one cluster serves:
        while nothing is lost the one that does now, after a loss the better of those left."""
        outside = [part for part in self.parts if _stands(part, lost, self.surroundings)]
        if self.deployment.posture == "active_active":
            return tuple(part for part in outside if not part.allocation.standby)
        if not lost:
            outside = [part for part in outside if not part.allocation.standby]
        by_cluster: dict[str, list[Part]] = defaultdict(list)
        for part in outside:
            by_cluster[part.cluster.cluster_id].append(part)
        return tuple(max(by_cluster.values(), key=lambda parts: _better(self._sum(parts)), default=()))

    def _sum(self, parts: Iterable[Part]) -> Left:
        share = replicas = 0.0
        for part in parts:
            share += part.share
            replicas += part.replicas * part.chance
        enough = share >= 1 - TOLERANCE and replicas >= self.replicas_needed - TOLERANCE
        return Left(share, replicas, enough)


def _better(left: Left) -> tuple[bool, float, float]:
    return left.enough, left.share, left.replicas


class Standings:
    """Makes standings of one problem's deployments; what they share is worked out once."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem = problem
        self._demand: dict[str, tuple[float, float]] = {}
        self._demand_rows: dict[str, list[Demand]] = defaultdict(list)
        self._rtt_s = {(row.origin_region, row.target_region): row.rtt_ms / 1000 for row in problem.latencies}
        for row in problem.demands:
            self._demand_rows[row.deployment_id].append(row)
            requests, tokens = self._demand.get(row.deployment_id, (0.0, 0.0))
            self._demand[row.deployment_id] = (
                requests + row.requests_per_s_p95,
                tokens + row.tokens_per_s_p95,
            )
        self._profiles = {
            (row.model_version_id, row.instance_type_id, row.tensor_parallel): row for row in problem.profiles
        }
        self._cold_starts_by_shape: dict[object, Sequence[tuple[float, str]]] = {}
        self._models_profiled = {row.model_version_id for row in problem.profiles}

    def of(self, plan: PlacementPlan, deployment_id: str) -> Standing:
        """Raises KeyError where problem or plan has no such deployment."""
        return self.of_entry(plan.by_deployment[deployment_id])

    def of_entry(self, entry: DeploymentPlan) -> Standing:
        """Raises KeyError where the problem has no such deployment or pool."""
        deployment = self.problem.deployment_by_id[entry.deployment_id]
        requests_per_s, tokens_per_s = self._demand.get(entry.deployment_id, (0.0, 0.0))
        planned_by = self.planned_by(deployment)
        return Standing(
            deployment=deployment,
            entry=entry,
            requests_per_s=requests_per_s,
            tokens_per_s=tokens_per_s,
            planned_by=planned_by,
            parts=tuple(self._part(deployment, row, planned_by) for row in entry.allocations),
            surroundings=self._surroundings,
        )

    def planned_by(self, deployment: WantedDeployment) -> PlannedBy:
        """By demand where there is some and any pool that the deployment could use has a profile."""
        if not any(self._demand.get(deployment.deployment_id, ())):
            return "min_replicas"
        if deployment.model_version_id not in self._models_profiled:
            return "min_replicas"
        measured = any(self.could_use(deployment, pool) for pool in self.problem.pools)
        return "demand" if measured else "min_replicas"

    def could_use(self, deployment: WantedDeployment, pool: Pool) -> bool:
        """Whether law and hardware allow the deployment there, and it was measured there."""
        if self.profile(deployment, pool, deployment.gpus_per_replica) is None:
            return False
        cluster = self.problem.cluster_by_id[pool.cluster_id]
        if unlawful(deployment, cluster) or next(unsuitable(deployment, pool), None) is not None:
            return False
        kind = deployment.survivability
        return kind == "none" or bool(cluster.domains(kind))

    def cold_start_elsewhere_s(
        self, deployment: WantedDeployment, lost: Collection[FailureDomain]
    ) -> float | None:
        """The shortest measured cold start on open pools that the deployment could use, outside ``lost``."""
        for cold_start_s, pool_id in self._cold_starts(deployment):
            if self.domains_by_pool[pool_id].isdisjoint(lost):
                return cold_start_s
        return None

    def _cold_starts(self, deployment: WantedDeployment) -> Sequence[tuple[float, str]]:
        """(cold start, pool id) on open pools, the shortest first; one list for all who could use the same."""
        key = (
            *(deployment.model_version_id, deployment.gpus_per_replica, deployment.weights_bytes),
            *(deployment.engine, deployment.precision, deployment.survivability),
            *(deployment.residency, deployment.providers_allowed, deployment.providers_denied),
        )
        if key not in self._cold_starts_by_shape:
            found = []
            for pool in self.problem.pools:
                closed = pool.closed or self.problem.cluster_by_id[pool.cluster_id].closed
                profile = self.profile(deployment, pool, deployment.gpus_per_replica)
                cold_start_s = measured_cold_start_s(profile)
                if closed or not pool.capacity_instances or cold_start_s is None:
                    continue
                if self.could_use(deployment, pool):
                    found.append((cold_start_s, pool.pool_id))
            self._cold_starts_by_shape[key] = sorted(found)
        return self._cold_starts_by_shape[key]

    def origins(self, deployment_id: str) -> tuple[Demand, ...]:
        """What each origin region asks of a deployment; those that ask nothing are left out."""
        rows = self._demand_rows.get(deployment_id, ())
        return tuple(row for row in rows if row.requests_per_s_p95 > 0 or row.tokens_per_s_p95 > 0)

    def rtt_s(self, origin: str, target: str) -> float | None:
        """None: not known. A region is no distance from itself unless that was measured."""
        return self._rtt_s.get((origin, target), 0.0 if origin == target else None)

    def profile(
        self, deployment: WantedDeployment, pool: Pool, gpus_per_replica: int
    ) -> PerformanceProfile | None:
        """What was measured for replicas of this size there."""
        return self._profiles.get((deployment.model_version_id, pool.instance_type_id, gpus_per_replica))

    def share_each(self, deployment: WantedDeployment, pool: Pool, gpus_per_replica: int) -> float:
        """What one replica serves of the demand planned for; 0 where demand counts and nothing was measured."""
        if self.planned_by(deployment) == "min_replicas":
            return 1 / max(1, deployment.min_replicas)
        return self._share_of_demand(deployment, self.profile(deployment, pool, gpus_per_replica))

    def _share_of_demand(self, deployment: WantedDeployment, profile: PerformanceProfile | None) -> float:
        if profile is None:
            return 0.0
        requests_per_s, tokens_per_s = self._demand[deployment.deployment_id]
        return 1 / max(requests_per_s / profile.requests_per_s, tokens_per_s / profile.tokens_per_s)

    def _part(self, deployment: WantedDeployment, row: Allocation, planned_by: PlannedBy) -> Part:
        pool = self.problem.pool_by_id[row.pool_id]
        profile = self.profile(deployment, pool, row.gpus_per_replica)
        by_demand = planned_by == "demand"
        return Part(
            allocation=row,
            pool=pool,
            cluster=self.problem.cluster_by_id[pool.cluster_id],
            replicas=_counted(deployment, row, by_demand=by_demand),
            chance=chance(self.problem, deployment, pool),
            share_each=(
                self._share_of_demand(deployment, profile)
                if by_demand
                else 1 / max(1, deployment.min_replicas)
            ),
            domains=self.domains_by_pool[row.pool_id],
            cold_start_s=measured_cold_start_s(profile),
        )

    @cached_property
    def domains_by_pool(self) -> Mapping[str, frozenset[FailureDomain]]:
        """Everything whose loss takes a pool, by pool id."""
        return {
            pool.pool_id: frozenset(domains_of(pool, self.problem.cluster_by_id[pool.cluster_id]))
            for pool in self.problem.pools
        }

    @cached_property
    def _surroundings(self) -> Mapping[FailureDomain, frozenset[FailureDomain]]:
        found: dict[FailureDomain, set[FailureDomain]] = defaultdict(set)
        for cluster in self.problem.clusters:
            for domain in cluster.failure_domains:
                found[domain].update(cluster.failure_domains)
        return {domain: frozenset(around) for domain, around in found.items()}


def _stands(
    part: Part,
    lost: Collection[FailureDomain],
    surroundings: Mapping[FailureDomain, frozenset[FailureDomain]],
) -> bool:
    """Where nobody recorded a cluster's zone, it may be in the one that is lost, unless that one is in another region
    or with another provider; likewise for regions."""
    if not part.domains.isdisjoint(lost):
        return False
    own = part.cluster.failure_domains
    for domain in lost:
        if domain.kind not in RECORDED or any(one.kind == domain.kind for one in own):
            continue
        around = surroundings.get(domain, frozenset())
        wider = RECORDED[RECORDED.index(domain.kind) + 1 :]
        if not any(_apart(kind, own, around) for kind in wider):
            return False
    return True


def _apart(kind: DomainKind, some: Iterable[FailureDomain], others: Iterable[FailureDomain]) -> bool:
    """Whether both have domains of this kind, and none in common."""
    here = {domain.name for domain in some if domain.kind == kind}
    there = {domain.name for domain in others if domain.kind == kind}
    return bool(here and there) and here.isdisjoint(there)


def _counted(deployment: WantedDeployment, row: Allocation, *, by_demand: bool) -> int:
    """Ready ones where a loss must be survived, else those that have room. Of one that scales to zero nothing need be
    ready: its rooms count, and where it has no demand a place to start in."""
    if deployment.min_replicas > 0:
        return row.min_replicas if deployment.survivability != "none" else row.room_replicas
    if row.room_replicas == 0 and not by_demand:
        return row.max_replicas
    return row.room_replicas


def chance(problem: PlacementProblem, deployment: WantedDeployment, pool: Pool) -> float:
    """A spot replica's chance to live through ``spot_horizon_h``, a Poisson process of ``hazard_per_h``; counted where
    a loss must be survived, 1 elsewhere."""
    if pool.procurement != "spot" or deployment.survivability == "none":
        return 1.0
    return math.exp(-pool.hazard_per_h * problem.weights.spot_horizon_h)


def domains_of(pool: Pool, cluster: Cluster) -> tuple[FailureDomain, ...]:
    """Everything whose loss takes this pool, from what was recorded to the pool itself."""
    groups: tuple[FailureDomain, ...] = ()
    if pool.procurement == "spot":
        zones = cluster.domains("zone") or (cluster.name,)
        groups = tuple(
            FailureDomain(kind="spot_group", name=f"{pool.instance_type}@{zone}") for zone in zones
        )
    recorded = {domain.kind for domain in cluster.failure_domains}
    return (
        *cluster.failure_domains,
        *(FailureDomain(kind=kind, name=NOT_RECORDED) for kind in RECORDED if kind not in recorded),
        *groups,
        FailureDomain(kind="cluster", name=cluster.name),
        FailureDomain(kind="pool", name=f"{cluster.name}/{pool.name}"),
    )


def measured_cold_start_s(profile: PerformanceProfile | None) -> float | None:
    """All measured phases; None, never 0, where none was."""
    return (profile.cold_start_s or None) if profile is not None else None


def unlawful(deployment: WantedDeployment, cluster: Cluster) -> str:
    """The rule by which a deployment may never be in a cluster: ``residency``, ``provider``, or empty."""
    if deployment.residency and cluster.jurisdiction not in deployment.residency:
        return "residency"
    if deployment.residency and not cluster.jurisdiction:
        return "residency"
    denied = cluster.provider in deployment.providers_denied
    if denied or (deployment.providers_allowed and cluster.provider not in deployment.providers_allowed):
        return "provider"
    return ""


def unsuitable(deployment: WantedDeployment, pool: Pool) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong) for replicas of the wanted revision on a pool's hardware."""
    gpus = deployment.gpus_per_replica
    if gpus > pool.gpus_per_instance:
        yield (
            "gpus_per_instance",
            f"{counted(gpus, 'GPU')} a replica in instances of {pool.gpus_per_instance}",
        )
    if deployment.precision not in pool.precisions:
        yield "precision", f"{pool.gpu_type} has no {deployment.precision}"
    vendors = ENGINE_VENDORS.get(deployment.engine)
    if vendors is not None and pool.gpu_vendor.lower() not in vendors:
        yield "engine", f"{deployment.engine} does not run on {pool.gpu_vendor}"
    if deployment.weights_bytes > int(gpus * pool.gpu_memory_gib * GIB * WEIGHTS_MEMORY_SHARE):
        yield (
            "gpu_memory",
            f"weights of {deployment.weights_bytes / GIB:.1f} GiB on {gpus} x {pool.gpu_memory_gib} GiB",
        )
