"""One deployment of a plan as the console shows it: what it got and why, pool by pool."""

from dataclasses import dataclass

from controlplane.placement import PlacementPlan, PlacementProblem, PoolReason, explain
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True)
class PlannedDeployment:
    """One deployment's part of a plan. ``taken`` and ``passed_over`` are its pools with their reasons.

    requests_per_s, tokens_per_s: the demand planned for (p95, output tokens); 0 where none is known
    """

    name: str
    residency: tuple[str, ...]
    survivability: str
    min_replicas: int
    requests_per_s: float
    tokens_per_s: float
    micro_usd_per_h: int
    refusal: Refusal | None
    relaxed: tuple[Refusal, ...]
    taken: tuple[PoolReason, ...]
    passed_over: tuple[PoolReason, ...]


def planned_one(problem: PlacementProblem, plan: PlacementPlan, deployment_id: str) -> PlannedDeployment:
    """One deployment of the plan."""
    entry = plan.by_deployment[deployment_id]
    wanted = problem.deployment_by_id[deployment_id]
    reasons = explain(problem, plan, deployment_id)
    demands = problem.demands_of(deployment_id)
    return PlannedDeployment(
        name=wanted.name,
        residency=tuple(wanted.residency),
        survivability=wanted.survivability,
        min_replicas=wanted.min_replicas,
        requests_per_s=sum(row.requests_per_s_p95 for row in demands),
        tokens_per_s=sum(row.tokens_per_s_p95 for row in demands),
        micro_usd_per_h=entry.micro_usd_per_h,
        refusal=entry.refusal,
        relaxed=entry.relaxed,
        taken=tuple(reason for reason in reasons if reason.allocation is not None),
        passed_over=tuple(reason for reason in reasons if reason.allocation is None),
    )
