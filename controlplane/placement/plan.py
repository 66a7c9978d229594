"""The answer: what each deployment gets, or why not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from controlplane.placement.supply import CurrentAssignment
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Replicas of one revision on one pool. Its cluster scales between the bounds by itself.

    ``min_replicas`` are kept ready. ``planned_replicas`` is what the demand planned for takes, or what runs already
    beyond the minimum and costs less where it is than to be stopped (0: neither); where a loss must be survived they
    are all kept ready, elsewhere their room is kept. The rooms together stay inside the pool's capacity. A ceiling is
    what this allocation could reach beside all rooms; ceilings of several deployments may share room, and the agent
    never starts replicas past its pool.
    ``micro_usd_per_h`` is the room's price, ``marginal_micro_usd_per_h`` what of it is not paid for already.
    ``standby``: warm, and serves only once it is promoted (posture ``active_passive``).
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
    planned_replicas: int = 0
    standby: bool = False

    @property
    def room_replicas(self) -> int:
        """For so many of them room is kept, and paid."""
        least, planned = self.min_replicas, self.planned_replicas
        return planned if planned > least else least

    def carried_out(self, *, assignment_id: str, deployment_id: str) -> CurrentAssignment:
        """What is in force once this is done."""
        return CurrentAssignment(
            assignment_id=assignment_id,
            deployment_id=deployment_id,
            revision_id=self.revision_id,
            revision=self.revision,
            pool_id=self.pool_id,
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            gpus_per_replica=self.gpus_per_replica,
            planned_replicas=self.planned_replicas,
            standby=self.standby,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShare:
    """Where an origin region's requests go while all is well; the shares of one origin sum to 1."""

    origin_region: str
    cluster_id: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What one deployment gets. With a ``refusal`` the allocations are what it holds already and lawfully keeps.

    ``relaxed`` says which wishes this does not keep, in the order they were given up, and what would keep each.
    """

    deployment_id: str
    generation: int
    allocations: tuple[Allocation, ...]
    traffic: tuple[TrafficShare, ...] = ()
    refusal: Refusal | None = None
    relaxed: tuple[Refusal, ...] = ()

    @property
    def micro_usd_per_h(self) -> int:
        return sum(allocation.micro_usd_per_h for allocation in self.allocations)


@dataclass(frozen=True, kw_only=True)
class PlacementPlan:
    """An entry for every deployment of the problem, in the problem's order.

    ``objective_micro_usd_per_h`` is what the plan costs by ``plan_cost``; ``lower_bound_micro_usd_per_h`` a proven
    bound on that of any plan (in which what sleeps holds no room and, where wishes are given up, nobody gives up more
    than here), from a solver that has one. ``gpu_micro_usd_per_h_by_pool``: what one more GPU of a pool would be worth
    to those who compete for it (its scarcity, beyond its rent); pools of no scarcity are left out.
    """

    deployments: tuple[DeploymentPlan, ...]
    micro_usd_per_h: int
    marginal_micro_usd_per_h: int
    objective_micro_usd_per_h: int | None = None
    lower_bound_micro_usd_per_h: int | None = None
    gpu_micro_usd_per_h_by_pool: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def memo(self) -> dict[str, object]:
        """What others keep with this plan, under their own names; no part of it."""
        return {}

    @cached_property
    def by_deployment(self) -> Mapping[str, DeploymentPlan]:
        return {entry.deployment_id: entry for entry in self.deployments}
