"""The question, whole: everything that a placement may depend on, as one frozen value.

Ids are opaque strings. Units are in the names; money is integer micro-dollars. Values are checked when they are made:
``ValueError`` names the row and the field, so that no solver ever sees a negative demand or a pool without a cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from controlplane.costing import PoolTariff
from controlplane.placement import checks
from controlplane.placement.supply import (
    Cluster,
    CurrentAssignment,
    Latency,
    NetworkPrice,
    Occupancy,
    PerformanceProfile,
    Pool,
    Reservation,
)
from controlplane.placement.wishes import Budget, Demand, WantedDeployment, Weights

#: The round trip between regions of which nobody measured it: about that to the other side of the earth.
FARTHEST_RTT_S = 0.3


@dataclass(frozen=True, kw_only=True)
class PlacementProblem:
    """Everything at one moment. ``wanted`` is the clock's value that this snapshot has seen.

    ``plan_generation`` is the newest plan that ``current`` already carries out.
    """

    organization_id: str
    wanted: int
    plan_generation: int
    clusters: tuple[Cluster, ...]
    pools: tuple[Pool, ...]
    deployments: tuple[WantedDeployment, ...]
    current: tuple[CurrentAssignment, ...] = ()
    occupancies: tuple[Occupancy, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    demands: tuple[Demand, ...] = ()
    profiles: tuple[PerformanceProfile, ...] = ()
    latencies: tuple[Latency, ...] = ()
    budgets: tuple[Budget, ...] = ()
    network_prices: tuple[NetworkPrice, ...] = ()
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        for kind, keys in (
            ("cluster", (row.cluster_id for row in self.clusters)),
            ("pool", (row.pool_id for row in self.pools)),
            ("deployment", (row.deployment_id for row in self.deployments)),
            ("current", (row.assignment_id for row in self.current)),
            ("demand of", ((row.deployment_id, row.origin_region) for row in self.demands)),
            (
                "profile of",
                ((row.model_version_id, row.instance_type_id, row.tensor_parallel) for row in self.profiles),
            ),
            ("latency", ((row.origin_region, row.target_region) for row in self.latencies)),
            ("network price", ((row.origin_region, row.target_region) for row in self.network_prices)),
            ("budget of project", (row.project_id for row in self.budgets)),
        ):
            checks.unique(kind, keys)
        for pool in self.pools:
            checks.known(
                f"pool {pool.name}", "cluster_id", (pool.cluster_id,), self.cluster_by_id, "clusters"
            )
        for kind, pool_ids in (
            ("current", (row.pool_id for row in self.current)),
            ("occupancies", (row.pool_id for row in self.occupancies)),
            ("reservations", (row.pool_id for row in self.reservations)),
        ):
            checks.known(kind, "pool_id", pool_ids, self.pool_by_id, "pools")

    @cached_property
    def memo(self) -> dict[str, object]:
        """What others keep with this problem alone, under their own names (``needs.index_of``); no part of it."""
        return {}

    @cached_property
    def cluster_by_id(self) -> Mapping[str, Cluster]:
        return {cluster.cluster_id: cluster for cluster in self.clusters}

    @cached_property
    def pool_by_id(self) -> Mapping[str, Pool]:
        return {pool.pool_id: pool for pool in self.pools}

    @cached_property
    def deployment_by_id(self) -> Mapping[str, WantedDeployment]:
        return {deployment.deployment_id: deployment for deployment in self.deployments}

    @cached_property
    def tariff_by_pool(self) -> Mapping[str, PoolTariff]:
        """Prices by pool id; several reservations of a pool count at their mean price, rounded up."""
        reserved: dict[str, tuple[int, int]] = {}
        for reservation in self.reservations:
            instances, money = reserved.get(reservation.pool_id, (0, 0))
            reserved[reservation.pool_id] = (
                instances + reservation.instances,
                money + reservation.instances * reservation.instance_micro_usd_per_h,
            )
        tariffs = {}
        for pool in self.pools:
            instances, money = reserved.get(pool.pool_id, (0, 0))
            tariffs[pool.pool_id] = PoolTariff(
                gpus_per_instance=pool.gpus_per_instance,
                instance_micro_usd_per_h=pool.instance_micro_usd_per_h or 0,
                reserved_instances=instances,
                reserved_instance_micro_usd_per_h=-(-money // instances) if instances else 0,
            )
        return tariffs

    def current_of(self, deployment_id: str) -> tuple[CurrentAssignment, ...]:
        """What is in force for one deployment."""
        return self._current_by_deployment.get(deployment_id, ())

    def demands_of(self, deployment_id: str) -> tuple[Demand, ...]:
        """What each origin region asks of one deployment."""
        return self._demands_by_deployment.get(deployment_id, ())

    def profile_of(self, deployment: WantedDeployment, instance_type_id: str) -> PerformanceProfile | None:
        """What one replica of a deployment was measured to do on an instance type, by its GPUs per replica."""
        return self._profile_by_key.get(
            (deployment.model_version_id, instance_type_id, deployment.gpus_per_replica)
        )

    def rtt_s(self, origin_region: str, target_region: str) -> float:
        """The round trip between two regions, in seconds; one that nobody measured counts as the farthest."""
        known = self.rtt_s_measured(origin_region, target_region)
        return FARTHEST_RTT_S if known is None else known

    def rtt_s_measured(self, origin_region: str, target_region: str) -> float | None:
        """The round trip between two regions, in seconds: nothing within one, None where nobody measured it."""
        within = 0.0 if origin_region == target_region else None
        return self._rtt_s_by_regions.get((origin_region, target_region), within)

    def micro_usd_per_gib(self, origin_region: str, target_region: str) -> int:
        """What a GiB costs on its way out to an origin; nothing where no price is known."""
        return self._micro_usd_per_gib_by_regions.get((origin_region, target_region), 0)

    @cached_property
    def _demands_by_deployment(self) -> Mapping[str, tuple[Demand, ...]]:
        found: dict[str, list[Demand]] = {}
        for row in self.demands:
            found.setdefault(row.deployment_id, []).append(row)
        return {deployment_id: tuple(rows) for deployment_id, rows in found.items()}

    @cached_property
    def _profile_by_key(self) -> Mapping[tuple[str, str, int], PerformanceProfile]:
        return {
            (row.model_version_id, row.instance_type_id, row.tensor_parallel): row for row in self.profiles
        }

    @cached_property
    def _rtt_s_by_regions(self) -> Mapping[tuple[str, str], float]:
        return {(row.origin_region, row.target_region): row.rtt_ms / 1000 for row in self.latencies}

    @cached_property
    def farthest_rtt_s(self) -> float:
        """No two regions are further from each other than this, as far as it is known."""
        return max(FARTHEST_RTT_S, max(self._rtt_s_by_regions.values(), default=0.0))

    @cached_property
    def _micro_usd_per_gib_by_regions(self) -> Mapping[tuple[str, str], int]:
        return {(row.origin_region, row.target_region): row.micro_usd_per_gib for row in self.network_prices}

    @cached_property
    def _current_by_deployment(self) -> Mapping[str, tuple[CurrentAssignment, ...]]:
        found: dict[str, list[CurrentAssignment]] = {}
        for row in self.current:
            found.setdefault(row.deployment_id, []).append(row)
        return {deployment_id: tuple(rows) for deployment_id, rows in found.items()}
