"""What is left of a plan if something is lost, as it is told."""

from collections.abc import Collection
from typing import Any

from rest_framework import serializers

from controlplane.placement import DeploymentSurvival, PlacementProblem, Survival
from controlplane.placement.judge.standing import COVERS

#: So many deployments are told one by one, the worst served first; the rest is counted.
DEPLOYMENTS_TOLD = 200


class OriginSurvivalSerializer(serializers.Serializer[Any]):
    """What one origin region asks, and the share of it that would be served."""

    origin_region = serializers.CharField()
    requests_per_s = serializers.FloatField()
    tokens_per_s = serializers.FloatField()
    served_share = serializers.FloatField()


class StartSerializer(serializers.Serializer[Any]):
    """Replicas that would start to serve the demand again."""

    pool = serializers.CharField(help_text="cluster/pool")
    replicas = serializers.IntegerField()
    cold_start_s = serializers.FloatField(allow_null=True, help_text="null: not measured")


class DeploymentSurvivalSerializer(serializers.Serializer[Any]):
    """What the loss does to one deployment that has a part in what is lost."""

    name = serializers.CharField()
    verdict = serializers.ChoiceField(choices=["survives", "degraded", "lost"])
    promised = serializers.BooleanField(help_text="Its survivability covers this loss, a single one.")
    share_now = serializers.FloatField(help_text="Capacity as a share of the demand planned for.")
    share_left = serializers.FloatField()
    replicas_lost = serializers.IntegerField()
    replicas_left = serializers.FloatField(help_text="Spot replicas count with their chance to live.")
    replicas_needed = serializers.IntegerField()
    promoted = serializers.CharField(help_text="The cluster whose standby takes over; empty: none does.")
    origins = OriginSurvivalSerializer(many=True)
    starts = StartSerializer(many=True)
    share_restored = serializers.FloatField(help_text="When all of that has started.")
    recovery_s = serializers.FloatField(
        allow_null=True,
        help_text="Until the demand is served again; null: not measured, or not without a new plan.",
    )


class SurvivalSerializer(serializers.Serializer[Any]):
    """What the project's deployments would go through, with the rest of the plan as it is."""

    plan_generation = serializers.IntegerField()
    lost = serializers.ListField(child=serializers.CharField())
    survives = serializers.BooleanField(help_text="Every deployment would still be served whole.")
    keeps_promises = serializers.BooleanField(help_text="Every one that was promised to survive it would.")
    served_share = serializers.FloatField(help_text="Of all demand of the project.")
    served_share_now = serializers.FloatField()
    recovery_s = serializers.FloatField(allow_null=True)
    deployments = DeploymentSurvivalSerializer(
        many=True, help_text=f"Those that are touched, the worst served first; at most {DEPLOYMENTS_TOLD}."
    )
    deployments_touched = serializers.IntegerField()
    deployments_untouched = serializers.IntegerField()


def survival_document(
    problem: PlacementProblem, survival: Survival, *, plan_generation: int
) -> dict[str, Any]:
    """A survival, told of the deployments that it was asked for."""
    promised = {row.deployment_id for row in survival.deployments if _promised(problem, survival, row)}
    return {
        "plan_generation": plan_generation,
        "lost": [f"{domain.kind}:{domain.name}" for domain in survival.lost],
        "survives": all(row.verdict == "survives" for row in survival.deployments),
        "keeps_promises": all(
            row.verdict == "survives" for row in survival.deployments if row.deployment_id in promised
        ),
        "served_share": survival.served_share,
        "served_share_now": survival.served_share_now,
        "recovery_s": survival.recovery_s,
        "deployments": [_deployment(row, promised) for row in survival.deployments[:DEPLOYMENTS_TOLD]],
        "deployments_touched": len(survival.deployments),
        "deployments_untouched": survival.untouched,
    }


def _promised(problem: PlacementProblem, survival: Survival, row: DeploymentSurvival) -> bool:
    """Nobody is promised to survive two losses at once."""
    survivability = problem.deployment_by_id[row.deployment_id].survivability
    if len(survival.lost) != 1:
        return False
    (lost,) = survival.lost
    return lost.kind in COVERS[survivability] or (lost.kind == "spot_group" and survivability != "none")


def _deployment(row: DeploymentSurvival, promised: Collection[str]) -> dict[str, Any]:
    return {
        "name": row.deployment,
        "verdict": row.verdict,
        "promised": row.deployment_id in promised,
        "share_now": row.share_now,
        "share_left": row.share_left,
        "replicas_lost": row.replicas_lost,
        "replicas_left": row.replicas_left,
        "replicas_needed": row.replicas_needed,
        "promoted": row.promoted,
        "origins": [
            {
                "origin_region": origin.origin_region,
                "requests_per_s": origin.requests_per_s,
                "tokens_per_s": origin.tokens_per_s,
                "served_share": origin.served_share,
            }
            for origin in row.origins
        ],
        "starts": [
            {"pool": start.pool, "replicas": start.replicas, "cold_start_s": start.cold_start_s}
            for start in row.starts
        ],
        "share_restored": row.share_restored,
        "recovery_s": row.recovery_s,
    }
