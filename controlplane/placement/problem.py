"""The question, whole: everything that a placement may depend on, as one frozen value.

Ids are opaque strings. Units are in the names; money is integer micro-dollars. Values are checked when they are made:
``ValueError`` names the row and the field, so that no solver ever sees a negative demand or a pool without a cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from controlplane.costing import PoolTariff
from controlplane.placement import checks

Procurement = Literal["reserved", "on_demand", "spot"]
Posture = Literal["active_active", "active_passive"]
Survivability = Literal["none", "zone", "region", "provider"]
DomainKind = Literal["zone", "region", "provider"]
LossKind = Literal["zone", "region", "provider", "spot_group", "cluster", "pool"]

#: GPU vendors on which an engine runs; an engine that is not here runs on any.
ENGINE_VENDORS: Mapping[str, tuple[str, ...]] = {"tensorrt_llm": ("nvidia",), "nim": ("nvidia",)}

#: Share of a GPU's memory that weights may take; the rest is for the KV cache and the engine itself.
WEIGHTS_MEMORY_SHARE = 0.9

#: The round trip between regions of which nobody measured it: about that to the other side of the earth.
FARTHEST_RTT_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDomain:
    """What fails together.

    Zones, regions and providers are recorded of clusters. A ``spot_group`` is all spot capacity of one instance type in
    one zone, named ``<instance type>@<zone>`` (``@<cluster>`` where the cluster's zone is not recorded); a ``cluster``
    is named by its name, a ``pool`` ``<cluster>/<pool>``.
    """

    kind: LossKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One workload plane. ``closed`` says why it gets nothing new (empty: it is open); what it has, it keeps."""

    cluster_id: str
    name: str
    generation: int
    region: str
    provider: str
    jurisdiction: str
    failure_domains: tuple[FailureDomain, ...]
    closed: str = ""

    def domains(self, kind: DomainKind) -> tuple[str, ...]:
        """The names of this cluster's failure domains of one kind."""
        return tuple(domain.name for domain in self.failure_domains if domain.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A cluster's machines of one type, procured one way, with their price now (None: not known).

    hazard_per_h:  expected losses of an instance per hour (spot's)
    obtainability: of the instances that were asked for, the share that was had
    closed:        why it gets nothing new (empty: it is open); what it has, it keeps
    """

    pool_id: str
    name: str
    generation: int
    cluster_id: str
    instance_type_id: str
    instance_type: str
    gpu_type: str
    gpu_vendor: str
    gpu_memory_gib: int
    precisions: tuple[str, ...]
    procurement: Procurement
    gpus_per_instance: int
    capacity_instances: int
    instance_micro_usd_per_h: int | None
    hazard_per_h: float = 0.0
    obtainability: float = 1.0
    closed: str = ""

    def __post_init__(self) -> None:
        checks.within(self, checks.POOL, lambda pool: f"pool {pool.name}")

    @property
    def gpu_micro_usd_per_h(self) -> float | None:
        """What one GPU costs, as a part of its instance."""
        price = self.instance_micro_usd_per_h
        return None if price is None else price / self.gpus_per_instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Instances of a pool that are paid for whether used or not, in force now."""

    pool_id: str
    instances: int
    instance_micro_usd_per_h: int

    def __post_init__(self) -> None:
        checks.within(self, checks.RESERVATION, lambda row: f"reservation of pool {row.pool_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What the owner asks of latency, in seconds at the 95th percentile; None = nothing."""

    ttft_s_p95: float | None = None
    inter_token_latency_s_p95: float | None = None

    def __post_init__(self) -> None:
        checks.within(self, checks.SLO, lambda _: "slo")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDeployment:
    """A deployment as it is wanted now.

    residency:         jurisdictions in which it may run; empty = anywhere
    providers_allowed: providers on which it may run; empty = all but ``providers_denied``
    priority:          higher is served first where capacity is short
    created_at_s:      seconds since 1970; within a priority the older is served first
    """

    deployment_id: str
    name: str
    project_id: str
    generation: int
    revision_id: str
    revision: int
    model_version_id: str
    engine: str
    precision: str
    weights_bytes: int
    gpus_per_replica: int
    min_replicas: int
    max_replicas: int
    concurrency_target: float
    posture: Posture
    survivability: Survivability
    residency: tuple[str, ...]
    priority: int
    created_at_s: float
    slo: Slo = Slo()
    providers_allowed: tuple[str, ...] = ()
    providers_denied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        row = f"deployment {self.name}"
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"{row}: min_replicas {self.min_replicas}, max_replicas {self.max_replicas};"
                " give 0 <= min <= max and max >= 1"
            )
        checks.within(self, checks.DEPLOYMENT, lambda _: row)
        both = sorted(set(self.providers_allowed) & set(self.providers_denied))
        if both:
            raise ValueError(
                f"{row}: providers_denied names {both[0]}, which providers_allowed names too;"
                " take it out of one of them"
            )
        if "" in self.residency:
            raise ValueError(
                f"{row}: residency names an empty jurisdiction; name it, or leave residency empty"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one origin region asks of one deployment, over the planning horizon. Planned for is the p95.

    Tokens are output tokens, as in a profile.
    """

    deployment_id: str
    origin_region: str
    requests_per_s_p50: float
    requests_per_s_p95: float
    tokens_per_s_p50: float
    tokens_per_s_p95: float

    def __post_init__(self) -> None:
        checks.within(self, checks.DEMAND, _demand_named)
        if self.requests_per_s_p95 > 0 and self.tokens_per_s_p95 > 0:
            checks.within(self, (checks.TOKENS_PER_REQUEST,), _demand_named)

    @property
    def tokens_per_request(self) -> float:
        """Of the p95 rates."""
        return self.tokens_per_s_p95 / self.requests_per_s_p95


def _demand_named(row: Demand) -> str:
    return f"demand of {row.deployment_id} from {row.origin_region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceProfile:
    """What one replica was measured to do at its SLO; cold-start phases in seconds, None = not passed."""

    model_version_id: str
    instance_type_id: str
    tensor_parallel: int
    requests_per_s: float
    tokens_per_s: float
    concurrency: int
    gpu_procurement_s: float | None = None
    image_pull_s: float | None = None
    weight_load_s: float | None = None
    engine_start_s: float | None = None

    def __post_init__(self) -> None:
        checks.within(
            self, checks.PROFILE, lambda row: f"profile of {row.model_version_id} on {row.instance_type_id}"
        )

    @property
    def cold_start_s(self) -> float:
        """All phases that were measured."""
        phases = (self.gpu_procurement_s, self.image_pull_s, self.weight_load_s, self.engine_start_s)
        return sum(phase_s for phase_s in phases if phase_s is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Round trip between two regions, in milliseconds."""

    origin_region: str
    target_region: str
    rtt_ms: float

    def __post_init__(self) -> None:
        checks.within(self, checks.LATENCY, lambda row: f"latency {row.origin_region} to {row.target_region}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPrice:
    """What a GiB costs that leaves ``target_region`` for clients in ``origin_region``."""

    origin_region: str
    target_region: str
    micro_usd_per_gib: int

    def __post_init__(self) -> None:
        checks.within(
            self,
            checks.NETWORK_PRICE,
            lambda row: f"network price {row.origin_region} to {row.target_region}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a project may spend per hour, reserved capacity at its reservation's price."""

    project_id: str
    micro_usd_per_h: int

    def __post_init__(self) -> None:
        checks.within(self, checks.BUDGET, lambda row: f"budget of project {row.project_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentAssignment:
    """Replicas that are in force now: not draining, not on their way to another place."""

    assignment_id: str
    deployment_id: str
    revision_id: str
    revision: int
    pool_id: str
    min_replicas: int
    max_replicas: int
    gpus_per_replica: int
    planned_replicas: int = 0
    standby: bool = False

    def __post_init__(self) -> None:
        checks.within(self, checks.CURRENT, lambda row: f"current {row.assignment_id}")

    @property
    def room_replicas(self) -> int:
        """For so many of them room is kept."""
        return max(self.min_replicas, self.planned_replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Replicas on their way out that still hold their GPUs. Their own deployment may count on that room."""

    deployment_id: str
    pool_id: str
    gpus_per_replica: int
    replicas: int

    def __post_init__(self) -> None:
        checks.within(
            self, checks.OCCUPANCY, lambda row: f"occupancy of {row.deployment_id} in pool {row.pool_id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Policy: what else than the rent counts, and how much. All of it becomes USD/h (see ``plan_cost``).

    interruption_h:        an expected loss of a replica (``hazard_per_h``) costs so many hours of its price
    refusal_h:             a replica asked for and not had (1 - ``obtainability``) costs so many hours of its price
    spot_horizon_h:        a spot replica counts, where a loss must be survived, with its chance to live so long
    cache_h:               a replica that moves loses a warm cache worth so many hours of its price, and the time of
                           its cold start besides
    amortise_h:            moves are paid back over so many hours
    hysteresis:            a plan that moves what runs is adopted where it saves this many times what its moves cost
    network_ttft_share:    of a TTFT target, the share that the network may take at no cost
    network_free_s:        what the network may take at no cost where there is no target
    late_micro_usd_per_request_s: what a second beyond that costs, for one request
    wire_bytes_per_token:  what an output token weighs on its way to the client, as an event of a stream
    relaxed_survivability_h, relaxed_latency_h, missing_replica_h: what it costs to break a wish, as hours of the
                           dearest price of a replica that the deployment could get; the order of these three is the
                           order in which wishes are relaxed
    """

    interruption_h: float = 1.0
    refusal_h: float = 0.25
    spot_horizon_h: float = 1.0
    cache_h: float = 0.1
    amortise_h: float = 6.0
    hysteresis: float = 1.5
    network_ttft_share: float = 0.2
    network_free_s: float = 0.1
    late_micro_usd_per_request_s: int = 200
    wire_bytes_per_token: int = 200
    relaxed_survivability_h: float = 100.0
    relaxed_latency_h: float = 300.0
    missing_replica_h: float = 1000.0

    def __post_init__(self) -> None:
        checks.within(self, checks.WEIGHTS, lambda _: "weights")


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
        """What others have worked out of this problem alone, under their own names (``needs.index_of``)."""
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
