"""One deployment of a plan as the console shows it: what it got and why, pool by pool."""

from dataclasses import dataclass

from controlplane.placement import PlacementPlan, PlacementProblem, PoolReason, explain
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True)
class PlannedDeployment:
    """One deployment's part of a plan. ``taken`` and ``passed_over`` are its pools with their reasons."""

    name: str
    residency: tuple[str, ...]
    min_replicas: int
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
    return PlannedDeployment(
        name=wanted.name,
        residency=tuple(wanted.residency),
        min_replicas=wanted.min_replicas,
        micro_usd_per_h=entry.micro_usd_per_h,
        refusal=entry.refusal,
        relaxed=entry.relaxed,
        taken=tuple(reason for reason in reasons if reason.allocation is not None),
        passed_over=tuple(reason for reason in reasons if reason.allocation is None),
    )
