"""A deployment's part of a plan, as it is told: bounds, money, traffic, and a reason for every pool."""

from typing import Any

import msgspec
from rest_framework import serializers

from apps.api.money import usd
from apps.api.refusals import RefusalSerializer
from apps.placements.documents.money import CostSerializer, cost_document
from controlplane.placement import (
    DeploymentPlan,
    PlacementPlan,
    PlacementProblem,
    PlanCost,
    PoolReason,
    explain,
)
from controlplane.placement.capacity import Ledger


class PoolReasonSerializer(serializers.Serializer[Any]):
    """A pool's part: bounds and reasons if it was taken, a refusal if not."""

    cluster = serializers.CharField()
    pool = serializers.CharField()
    region = serializers.CharField()
    procurement = serializers.CharField()
    min_replicas = serializers.IntegerField(required=False, help_text="Kept ready.")
    planned_replicas = serializers.IntegerField(
        required=False, help_text="What the demand planned for takes; 0 where no demand is known."
    )
    max_replicas = serializers.IntegerField(required=False)
    standby = serializers.BooleanField(required=False, help_text="Warm; serves only once it is promoted.")
    usd_per_h = serializers.CharField(required=False)
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    refusal = RefusalSerializer(required=False)


class TrafficShareSerializer(serializers.Serializer[Any]):
    """Where an origin region's requests go while all is well."""

    origin_region = serializers.CharField()
    cluster = serializers.CharField()
    region = serializers.CharField()
    share = serializers.FloatField()
    rtt_ms = serializers.FloatField(allow_null=True, help_text="Round trip; null: not known.")


class PlannedDeploymentSerializer(serializers.Serializer[Any]):
    """A deployment's entry of the plan, with a reason for every pool."""

    name = serializers.CharField()
    generation = serializers.IntegerField()
    revision = serializers.IntegerField()
    refusal = RefusalSerializer(allow_null=True)
    relaxed = RefusalSerializer(
        many=True,
        help_text="Wishes that are not kept, in the order they were given up, and what would keep each.",
    )
    usd_per_h = serializers.CharField()
    cost = CostSerializer()
    traffic = TrafficShareSerializer(many=True)
    pools = PoolReasonSerializer(many=True)


def names_of_project(problem: PlacementProblem, plan: PlacementPlan, project_id: str) -> dict[str, str]:
    """Deployment ids by name, of one project's deployments in a plan."""
    wanted = (problem.deployment_by_id[entry.deployment_id] for entry in plan.deployments)
    return {row.name: row.deployment_id for row in wanted if row.project_id == project_id}


def entry_document(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str, *, room: Ledger, cost: PlanCost
) -> dict[str, Any]:
    """One deployment's entry. ``room`` is the plan's ``room_left``, ``cost`` the entry's."""
    entry = plan.by_deployment[deployment_id]
    wanted = problem.deployment_by_id[deployment_id]
    return {
        "name": wanted.name,
        "generation": entry.generation,
        "revision": wanted.revision,
        "refusal": msgspec.to_builtins(entry.refusal) if entry.refusal else None,
        "relaxed": [msgspec.to_builtins(refusal) for refusal in entry.relaxed],
        "usd_per_h": usd(entry.micro_usd_per_h),
        "cost": cost_document((cost,)),
        "traffic": _traffic(problem, entry),
        "pools": [_pool(problem, reason) for reason in explain(problem, plan, deployment_id, room=room)],
    }


def _pool(problem: PlacementProblem, reason: PoolReason) -> dict[str, Any]:
    pool = problem.pool_by_id[reason.pool_id]
    told: dict[str, Any] = {
        "cluster": reason.cluster,
        "pool": reason.pool,
        "region": problem.cluster_by_id[pool.cluster_id].region,
        "procurement": pool.procurement,
    }
    if reason.allocation is not None:
        told |= {
            "min_replicas": reason.allocation.min_replicas,
            "planned_replicas": reason.allocation.planned_replicas,
            "max_replicas": reason.allocation.max_replicas,
            "standby": reason.allocation.standby,
            "usd_per_h": usd(reason.allocation.micro_usd_per_h),
            "reasons": list(reason.allocation.reasons),
        }
    if reason.refusal is not None:
        told["refusal"] = msgspec.to_builtins(reason.refusal)
    return told


def _traffic(problem: PlacementProblem, entry: DeploymentPlan) -> list[dict[str, Any]]:
    told = []
    for share in entry.traffic:
        cluster = problem.cluster_by_id[share.cluster_id]
        rtt_s = problem.rtt_s_measured(share.origin_region, cluster.region)
        told.append(
            {
                "origin_region": share.origin_region,
                "cluster": cluster.name,
                "region": cluster.region,
                "share": round(share.share, 4),
                "rtt_ms": None if rtt_s is None else round(1000 * rtt_s, 3),
            }
        )
    return told
