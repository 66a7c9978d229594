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
    SmallestChange,
    explain,
    smallest_change,
)
from controlplane.placement.rules.capacity import Ledger


class PoolReasonSerializer(serializers.Serializer[Any]):
    """A pool's part: bounds and reasons if it was taken, a refusal if not."""

    cluster = serializers.CharField()
    pool = serializers.CharField()
    region = serializers.CharField()
    procurement = serializers.CharField()
    min_replicas = serializers.IntegerField(required=False, help_text="Kept ready.")
    planned_replicas = serializers.IntegerField(
        required=False,
        help_text="What the demand planned for takes, or what stays since a stop costs more; 0: neither.",
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


class GrowthSerializer(serializers.Serializer[Any]):
    """Instances to be added to a pool."""

    pool = serializers.CharField(help_text="cluster/pool")
    region = serializers.CharField()
    instance_type = serializers.CharField()
    instances = serializers.IntegerField()
    gpus = serializers.IntegerField()
    is_new = serializers.BooleanField(help_text="The pool is not there yet.")


class SmallestChangeSerializer(serializers.Serializer[Any]):
    """What would give a deployment all that it wishes, beside all else as it is. Tried before it is said."""

    said = serializers.CharField()
    survivability = serializers.CharField(help_text="What it would survive then.")
    growths = GrowthSerializer(many=True)
    max_replicas = serializers.IntegerField(
        allow_null=True, help_text="To what it must rise; null: it is enough."
    )
    budget_usd_per_h = serializers.CharField(allow_null=True, help_text="Likewise, the project's.")
    usd_per_h = serializers.CharField(help_text="What the added instances cost.")


class DemandPlannedSerializer(serializers.Serializer[Any]):
    """The p95 of what one origin region asks, by usage or as its owner states it."""

    origin_region = serializers.CharField()
    requests_per_s = serializers.FloatField()
    tokens_per_s = serializers.FloatField(help_text="Output tokens.")


class PlannedDeploymentSerializer(serializers.Serializer[Any]):
    """A deployment's entry of the plan, with a reason for every pool."""

    name = serializers.CharField()
    generation = serializers.IntegerField()
    revision = serializers.IntegerField()
    min_replicas = serializers.IntegerField(help_text="Wanted in all, as max_replicas and survivability are.")
    max_replicas = serializers.IntegerField()
    survivability = serializers.CharField()
    demand = DemandPlannedSerializer(many=True, help_text="What was planned for; empty: the minimum alone.")
    refusal = RefusalSerializer(allow_null=True)
    relaxed = RefusalSerializer(
        many=True,
        help_text="Wishes that are not kept, in the order they were given up, and what would keep each.",
    )
    usd_per_h = serializers.CharField()
    cost = CostSerializer()
    traffic = TrafficShareSerializer(many=True)
    pools = PoolReasonSerializer(many=True)
    smallest_change = SmallestChangeSerializer(
        allow_null=True,
        required=False,
        help_text="Only where one deployment is asked for; null: it has all that it wishes, or nothing would give it.",
    )


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
        "min_replicas": wanted.min_replicas,
        "max_replicas": wanted.max_replicas,
        "survivability": wanted.survivability,
        "demand": [
            {
                "origin_region": row.origin_region,
                "requests_per_s": row.requests_per_s_p95,
                "tokens_per_s": row.tokens_per_s_p95,
            }
            for row in problem.demands_of(deployment_id)
        ],
        "refusal": msgspec.to_builtins(entry.refusal) if entry.refusal else None,
        "relaxed": [msgspec.to_builtins(refusal) for refusal in entry.relaxed],
        "usd_per_h": usd(entry.micro_usd_per_h),
        "cost": cost_document((cost,)),
        "traffic": _traffic(problem, entry),
        "pools": [_pool(problem, reason) for reason in explain(problem, plan, deployment_id, room=room)],
    }


def smallest_change_document(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str
) -> dict[str, Any] | None:
    """None where a deployment has all that it wishes, and where no growth of a known kind would give it."""
    found = smallest_change_wanted(problem, plan, deployment_id)
    if found is None:
        return None
    budget = found.budget_micro_usd_per_h
    return {
        "said": found.said,
        "survivability": found.survivability,
        "growths": [
            {
                "pool": growth.pool,
                "region": growth.region,
                "instance_type": growth.instance_type,
                "instances": growth.instances,
                "gpus": growth.gpus,
                "is_new": growth.is_new,
            }
            for growth in found.growths
        ],
        "max_replicas": found.max_replicas,
        "budget_usd_per_h": None if budget is None else usd(budget),
        "usd_per_h": usd(found.micro_usd_per_h),
    }


def smallest_change_wanted(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str
) -> SmallestChange | None:
    """Looked for where something is not kept: that takes tens of milliseconds."""
    entry = plan.by_deployment[deployment_id]
    if entry.refusal is None and not entry.relaxed:
        return None
    return smallest_change(problem, plan, deployment_id)


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
