"""What is answered of deployments, and what may be asked of one that there is."""

from typing import Any, cast

import msgspec
from rest_framework import serializers

from apps.api.money import usd
from apps.api.refusals import RefusalSerializer
from apps.api.validation import (
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from apps.catalog.models import EngineName
from apps.deployments.documents import document_of
from apps.deployments.models import (
    ConditionType,
    Deployment,
    Posture,
    ResidencyIngress,
    Survivability,
)
from apps.deployments.selectors import CONDITION_FIELDS, condition_values, replica_summaries
from apps.deployments.serializers_document import AutoscalingSerializer, SloSerializer, StatedDemandSerializer
from apps.deployments.services.deployment_preview import DryRun
from apps.placements.documents import PlanDiffSerializer, asker_of, diff_document
from controlplane.placement import micro_usd_per_h_at_most


class ConditionSerializer(serializers.Serializer[Any]):
    """A judgement about a deployment, in the manner of Kubernetes' conditions."""

    type = serializers.ChoiceField(choices=ConditionType.choices)
    status = serializers.BooleanField()
    reason = serializers.CharField()
    message = serializers.CharField(allow_blank=True)
    refusals = RefusalSerializer(many=True)
    observed_generation = serializers.IntegerField()
    last_transition_at = serializers.DateTimeField()


class ClusterReplicasSerializer(serializers.Serializer[Any]):
    """A deployment's replicas in one cluster."""

    cluster = serializers.CharField()
    desired = serializers.IntegerField()
    ready = serializers.IntegerField()


class ReplicasSerializer(serializers.Serializer[Any]):
    """How many replicas are wanted now, how many are ready, and where."""

    desired = serializers.IntegerField()
    ready = serializers.IntegerField()
    by_cluster = ClusterReplicasSerializer(many=True)


class _DeploymentListSerializer(serializers.ListSerializer[Any]):
    """Reads conditions and counts replicas of all deployments of a page at once."""

    def to_representation(self, data: Any) -> list[Any]:
        rows = list(data)
        context = cast(dict[str, Any], self.context)
        ids = [row.pk for row in rows]
        context["summaries"] = replica_summaries(deployment_ids=ids)
        context["conditions"] = condition_values(deployment_ids=ids)
        return super().to_representation(rows)


class StatusSerializer(serializers.Serializer[Any]):
    """What became of a deployment."""

    name = serializers.CharField()
    generation = serializers.IntegerField(help_text="Rises with every change; the ETag.")
    revision = serializers.IntegerField(help_text="The number of what runs, or shall.")
    deleting = serializers.BooleanField()
    conditions = ConditionSerializer(many=True)
    replicas = ReplicasSerializer()

    class Meta:
        list_serializer_class = _DeploymentListSerializer

    def to_representation(self, instance: Deployment) -> dict[str, Any]:
        """What the document needs is loaded; of one that is not of a list, its conditions too."""
        listed = cast(dict[str, Any], self.context)
        ids = [instance.pk]
        summaries = listed.get("summaries") or replica_summaries(deployment_ids=ids)
        conditions = listed.get("conditions") or {instance.pk: _conditions(instance)}
        return {
            "name": instance.name,
            "generation": instance.generation,
            "revision": instance.current_revision.number if instance.current_revision else 0,
            "deleting": instance.deletion_requested_at is not None,
            "conditions": conditions[instance.pk],
            "replicas": summaries[instance.pk].as_json(),
        }


def _conditions(instance: Deployment) -> list[dict[str, Any]]:
    """As ``ConditionSerializer`` describes them. Written out: a nested serializer for each row doubles the time."""
    order = list(ConditionType.values)
    rows = sorted(instance.conditions.all(), key=lambda row: order.index(row.type))
    return [{name: getattr(row, name) for name in CONDITION_FIELDS} for row in rows]


class DeploymentSerializer(StatusSerializer):
    """A deployment: its document, and what became of it."""

    id = serializers.UUIDField()
    model = serializers.CharField(help_text="With the version that is pinned.")
    engine = serializers.CharField()
    autoscaling = AutoscalingSerializer()
    posture = serializers.ChoiceField(choices=Posture.choices)
    survivability = serializers.ChoiceField(choices=Survivability.choices)
    residency = serializers.ListField(child=serializers.CharField())
    residency_ingress = serializers.ChoiceField(choices=ResidencyIngress.choices)
    priority = serializers.IntegerField()
    resume = serializers.BooleanField()
    slo = SloSerializer(required=False)
    adapters = serializers.ListField(child=serializers.CharField(), required=False)
    providers_allowed = serializers.ListField(child=serializers.CharField(), required=False)
    providers_denied = serializers.ListField(child=serializers.CharField(), required=False)
    demand = StatedDemandSerializer(many=True, required=False)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def to_representation(self, instance: Deployment) -> dict[str, Any]:
        return {
            "id": str(instance.pk),
            **document_of(instance).as_json(),
            **super().to_representation(instance),
            "created_at": instance.created_at,
            "updated_at": instance.updated_at,
        }


class RevisionSerializer(serializers.Serializer[Any]):
    """What exactly ran or runs."""

    revision = serializers.IntegerField(source="number")
    model = serializers.SerializerMethodField()
    model_digest = serializers.CharField(source="model_version.digest")
    engine = serializers.CharField(source="engine_image.engine")
    engine_version = serializers.CharField(source="engine_image.version")
    engine_digest = serializers.CharField(source="engine_image.digest")
    rolled_back_from = serializers.SerializerMethodField()
    current = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_model(self, row: Any) -> str:
        return str(row.model_version)

    def get_rolled_back_from(self, row: Any) -> int | None:
        return row.rolled_back_from.number if row.rolled_back_from else None

    def get_current(self, row: Any) -> bool:
        return bool(row.deployment.current_revision_id == row.pk)


class RollbackSerializer(StrictSerializer):
    """Which revision to run again."""

    revision = StrictIntegerField(min_value=1, help_text="Its number.")


class AllocationPreviewSerializer(serializers.Serializer[Any]):
    """What a deployment would get of one pool."""

    cluster = serializers.CharField()
    pool = serializers.CharField()
    procurement = serializers.CharField()
    min_replicas = serializers.IntegerField()
    planned_replicas = serializers.IntegerField(
        help_text="What the demand takes, or what stays since a stop costs more; 0: neither."
    )
    max_replicas = serializers.IntegerField()
    standby = serializers.BooleanField(help_text="Warm, and serves only once it is promoted.")
    usd_per_h = serializers.CharField(
        help_text="Of the room that is kept: the larger of minimum and planned."
    )
    reasons = serializers.ListField(child=serializers.CharField())


class PlanPreviewSerializer(serializers.Serializer[Any]):
    """What a dry run says: where replicas would run and at what price, or why nowhere."""

    allocations = AllocationPreviewSerializer(many=True)
    refusals = RefusalSerializer(many=True)
    relaxed = RefusalSerializer(
        many=True, help_text="Wishes that it would not keep, and what would keep each."
    )
    usd_per_h = serializers.CharField(help_text="Of the room that is kept.")
    usd_per_h_marginal = serializers.CharField(help_text="What of it is not paid for already.")
    usd_per_h_max = serializers.CharField(help_text="At the maximum of replicas.")


class DryRunSerializer(serializers.Serializer[Any]):
    """The document as it would be stored, and the plan. ``context``: ``actor``."""

    deployment = serializers.DictField()
    plan = PlanPreviewSerializer()
    diff = PlanDiffSerializer(help_text="Against what is in force, for all deployments of the project.")

    def to_representation(self, instance: DryRun) -> dict[str, Any]:
        problem, entry = instance.preview.problem, instance.preview.entry
        comparison = instance.preview.comparison
        allocations = []
        for row in entry.allocations:
            pool = problem.pool_by_id[row.pool_id]
            allocations.append(
                {
                    "cluster": problem.cluster_by_id[pool.cluster_id].name,
                    "pool": pool.name,
                    "procurement": pool.procurement,
                    "min_replicas": row.min_replicas,
                    "planned_replicas": row.planned_replicas,
                    "max_replicas": row.max_replicas,
                    "standby": row.standby,
                    "usd_per_h": usd(row.micro_usd_per_h),
                    "reasons": list(row.reasons),
                }
            )
        return {
            "deployment": instance.document.as_json(),
            "plan": {
                "allocations": allocations,
                "refusals": [msgspec.to_builtins(entry.refusal)] if entry.refusal else [],
                "relaxed": [msgspec.to_builtins(wish) for wish in entry.relaxed],
                "usd_per_h": usd(entry.micro_usd_per_h),
                "usd_per_h_marginal": usd(sum(row.marginal_micro_usd_per_h for row in entry.allocations)),
                "usd_per_h_max": usd(micro_usd_per_h_at_most(problem, entry)),
            },
            "diff": diff_document(comparison, asker=asker_of(self.context["actor"])),
        }


class DeploymentFilters(serializers.Serializer[Any]):
    """Query parameters of the list."""

    name = StrictCharField(required=False, help_text="Only the one of this name.")
    model = StrictCharField(required=False, help_text="Only those that run this model.")
    engine = serializers.ChoiceField(choices=EngineName.choices, required=False)
    ready = serializers.BooleanField(required=False, help_text="By the Ready condition.")
