"""Plans as they are answered: money, reasons and certificate."""

from typing import Any

import msgspec
from rest_framework import serializers

from apps.api.money import usd
from apps.api.refusals import RefusalSerializer
from apps.placements.models import PlacementPlan
from controlplane.placement import PlacementPlan as Plan
from controlplane.placement import (
    PlacementProblem,
    certify,
    explain,
    plan_decode,
    problem_decode,
    problem_sha256,
    room_left,
)
from controlplane.placement.capacity import Ledger


class PlanSerializer(serializers.Serializer[Any]):
    """A plan in the list."""

    plan_generation = serializers.IntegerField()
    usd_per_h = serializers.SerializerMethodField(help_text="At the minimum of replicas.")
    solve_s = serializers.FloatField()
    created_at = serializers.DateTimeField()

    def get_usd_per_h(self, row: PlacementPlan) -> str:
        return usd(row.micro_usd_per_h)


class PoolReasonSerializer(serializers.Serializer[Any]):
    """A pool's part: bounds and reasons if it was taken, a refusal if not."""

    cluster = serializers.CharField()
    pool = serializers.CharField()
    min_replicas = serializers.IntegerField(required=False)
    max_replicas = serializers.IntegerField(required=False)
    usd_per_h = serializers.CharField(required=False)
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    refusal = RefusalSerializer(required=False)


class PlannedDeploymentSerializer(serializers.Serializer[Any]):
    """A deployment's entry of the plan, with a reason for every pool."""

    name = serializers.CharField()
    generation = serializers.IntegerField()
    revision = serializers.IntegerField()
    refusal = RefusalSerializer(allow_null=True)
    usd_per_h = serializers.CharField()
    pools = PoolReasonSerializer(many=True)


class LossSerializer(serializers.Serializer[Any]):
    """What the loss of one failure domain does to one deployment."""

    deployment = serializers.CharField()
    domain_kind = serializers.CharField()
    domain = serializers.CharField()
    replicas_needed = serializers.IntegerField()
    replicas_left = serializers.IntegerField()
    margin = serializers.IntegerField()
    recovery_s = serializers.FloatField(
        allow_null=True, help_text="Longest known cold start; null: not measured."
    )
    promised = serializers.BooleanField()
    verdict = serializers.ChoiceField(choices=["survives", "degraded", "lost"])


class CertificateSerializer(serializers.Serializer[Any]):
    """What the plan survives, by a judge that shares nothing with the solver."""

    holds = serializers.BooleanField()
    broken_promises = serializers.ListField(child=serializers.CharField())
    losses = LossSerializer(many=True)


class PlanDetailSerializer(PlanSerializer):
    """A plan, explained and certified."""

    problem_sha256 = serializers.CharField(help_text="Of the inputs that it answers.")
    usd_per_h_marginal = serializers.CharField(help_text="What of it is not paid for already.")
    deployments = PlannedDeploymentSerializer(many=True)
    certificate = CertificateSerializer()

    def to_representation(self, instance: PlacementPlan) -> dict[str, Any]:
        """Only what the actor's project may see: other projects' deployments are counted in the money alone."""
        problem, plan = problem_decode(instance.problem), plan_decode(instance.plan)
        project_id = str(self.context["actor"].project_id)
        own = tuple(
            entry
            for entry in plan.deployments
            if problem.deployment_by_id[entry.deployment_id].project_id == project_id
        )
        room = room_left(problem, plan)
        shown = Plan(
            deployments=own,
            micro_usd_per_h=plan.micro_usd_per_h,
            marginal_micro_usd_per_h=plan.marginal_micro_usd_per_h,
        )
        return {
            "plan_generation": instance.plan_generation,
            "usd_per_h": usd(instance.micro_usd_per_h),
            "solve_s": instance.solve_s,
            "created_at": instance.created_at,
            "problem_sha256": problem_sha256(problem),
            "usd_per_h_marginal": usd(plan.marginal_micro_usd_per_h),
            "deployments": [_entry(problem, plan, entry.deployment_id, room) for entry in own],
            "certificate": _certificate(problem, shown),
        }


def _entry(problem: PlacementProblem, plan: Plan, deployment_id: str, room: Ledger) -> dict[str, Any]:
    entry = plan.by_deployment[deployment_id]
    wanted = problem.deployment_by_id[deployment_id]
    pools = []
    for reason in explain(problem, plan, deployment_id, room=room):
        pool: dict[str, Any] = {"cluster": reason.cluster, "pool": reason.pool}
        if reason.allocation is not None:
            pool |= {
                "min_replicas": reason.allocation.min_replicas,
                "max_replicas": reason.allocation.max_replicas,
                "usd_per_h": usd(reason.allocation.micro_usd_per_h),
                "reasons": list(reason.allocation.reasons),
            }
        if reason.refusal is not None:
            pool["refusal"] = msgspec.to_builtins(reason.refusal)
        pools.append(pool)
    return {
        "name": wanted.name,
        "generation": entry.generation,
        "revision": wanted.revision,
        "refusal": msgspec.to_builtins(entry.refusal) if entry.refusal else None,
        "usd_per_h": usd(entry.micro_usd_per_h),
        "pools": pools,
    }


def _certificate(problem: PlacementProblem, plan: Plan) -> dict[str, Any]:
    certificate = certify(problem, plan)
    return {
        "holds": certificate.holds,
        "broken_promises": list(certificate.broken_promises),
        "losses": [
            {
                "deployment": loss.deployment,
                "domain_kind": loss.domain.kind,
                "domain": loss.domain.name,
                "replicas_needed": loss.replicas_needed,
                "replicas_left": loss.replicas_left,
                "margin": loss.margin,
                "recovery_s": loss.recovery_s,
                "promised": loss.promised,
                "verdict": loss.verdict,
            }
            for loss in certificate.losses
        ],
    }
