"""The answer: what each deployment gets, or why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Replicas of one revision on one pool. Its cluster scales between the bounds by itself.

    Minima together stay inside the pool's capacity. A ceiling is what this allocation could reach beside all minima;
    ceilings of several deployments may share room, and the agent never starts replicas past its pool.
    ``micro_usd_per_h`` is the minimum's price, ``marginal_micro_usd_per_h`` what of it is not paid for already.
    """

    revision_id: str
    revision: int
    pool_id: str
    min_replicas: int
    max_replicas: int
    gpus_per_replica: int
    micro_usd_per_h: int
    marginal_micro_usd_per_h: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShare:
    """Where an origin region's requests go while all is well; the shares of one origin sum to 1."""

    origin_region: str
    cluster_id: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What one deployment gets. With a ``refusal`` the allocations are what it holds already and lawfully keeps."""

    deployment_id: str
    generation: int
    allocations: tuple[Allocation, ...]
    traffic: tuple[TrafficShare, ...] = ()
    refusal: Refusal | None = None

    @property
    def micro_usd_per_h(self) -> int:
        return sum(allocation.micro_usd_per_h for allocation in self.allocations)


@dataclass(frozen=True, kw_only=True)
class PlacementPlan:
    """An entry for every deployment of the problem, in the problem's order.

    ``lower_bound_micro_usd_per_h`` is a proven bound on the marginal cost of any plan, from a solver that has one.
    """

    deployments: tuple[DeploymentPlan, ...]
    micro_usd_per_h: int
    marginal_micro_usd_per_h: int
    lower_bound_micro_usd_per_h: int | None = None

    @cached_property
    def by_deployment(self) -> Mapping[str, DeploymentPlan]:
        return {entry.deployment_id: entry for entry in self.deployments}
