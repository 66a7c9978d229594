"""What there is: clusters and their machines, what runs there, what replicas were measured to do, the network between.

Ids are opaque strings. Units are in the names; money is integer micro-dollars. ``ValueError`` names row and field.
"""

from dataclasses import dataclass
from typing import Literal

from controlplane.placement import checks

Procurement = Literal["reserved", "on_demand", "spot"]
DomainKind = Literal["zone", "region", "provider"]
LossKind = Literal["zone", "region", "provider", "spot_group", "cluster", "pool"]


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
    obtainability: of the instances asked for at any moment, the share that is had
    closed:        why it gets nothing new (empty: it is open); what it has, it keeps
    leaving:       it is being emptied: plans count its capacity as gone, but what runs there goes on until others have
                   taken over, and for as long as nobody can
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
    leaving: bool = False

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
        least, planned = self.min_replicas, self.planned_replicas
        return planned if planned > least else least


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
