"""The public documents of deployments: what may be sent, and what is answered."""

from typing import Any, cast

import msgspec
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from apps.api.money import usd
from apps.api.refusals import RefusalSerializer
from apps.api.validation import (
    NameField,
    PatternField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictSerializer,
)
from apps.catalog.models import MODEL_NAME_PATTERN, EngineName
from apps.deployments.documents import document_of
from apps.deployments.models import (
    ConditionType,
    Deployment,
    Posture,
    ResidencyIngress,
    ScalingPolicy,
    Survivability,
)
from apps.deployments.selectors import CONDITION_FIELDS, condition_values, replica_summaries
from apps.deployments.services.deployment_preview import DryRun
from apps.placements.documents import PlanDiffSerializer, asker_of, diff_document
from controlplane.placement import micro_usd_per_h_at_most

MODEL_REFERENCE_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(@[A-Za-z0-9][A-Za-z0-9._+-]{0,62})?$"
JURISDICTION_PATTERN = r"^[a-z]{2,16}$"


class AutoscalingSerializer(StrictSerializer):
    """The five factors and their policy. Agents scale by themselves inside [min_replicas, max_replicas]."""

    min_replicas = StrictIntegerField(
        max_value=10_000, required=False, help_text="Kept ready; 0 scales to zero when idle. Default 1."
    )
    max_replicas = StrictIntegerField(
        min_value=1, max_value=10_000, required=False, help_text="Default: the larger of 1 and min_replicas."
    )
    autoscaling_window_s = StrictFloatField(
        min_value=1, max_value=3600, required=False, help_text="How far back load is averaged. Default 60."
    )
    scale_down_delay_s = StrictFloatField(
        min_value=0, max_value=86_400, required=False, help_text="How long fewer must suffice. Default 300."
    )
    concurrency_target = StrictFloatField(
        min_value=0.01, max_value=10_000, required=False, help_text="Requests at once a replica. Default 8."
    )
    policy = StrictChoiceField(
        choices=ScalingPolicy.choices,
        required=False,
        help_text="predictive: starts what will be needed once it is ready. kpa: Knative's. Default predictive.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        least, most = attrs.get("min_replicas"), attrs.get("max_replicas")
        if least is not None and most is not None and least > most:
            raise ValidationError(
                {
                    "min_replicas": [
                        f"{least} is more than max_replicas {most}: lower it, or raise max_replicas."
                    ]
                }
            )
        return attrs


class SloSerializer(StrictSerializer):
    """Latency goals, in seconds."""

    ttft_s_p95 = StrictFloatField(min_value=0.001, max_value=3600, required=False, allow_null=True)
    inter_token_latency_s_p95 = StrictFloatField(
        min_value=0.0001, max_value=3600, required=False, allow_null=True
    )


#: More is a mistake of unit, as of what a minute brings for what a second does.
_MOST_REQUESTS_PER_S, _MOST_TOKENS_PER_S = 1_000_000, 1_000_000_000
_LEAST_TOKENS_PER_REQUEST, _MOST_TOKENS_PER_REQUEST = 0.01, 1_000_000


class StatedDemandSerializer(StrictSerializer):
    """What is expected at the busiest: placement plans for it until usage says more."""

    origin = StrictCharField(
        max_length=63,
        required=False,
        allow_null=True,
        help_text="The region whose gateway meets the clients; left out: all regions together, in equal parts.",
    )
    requests_per_s = StrictFloatField(min_value=0, max_value=_MOST_REQUESTS_PER_S, required=False)
    output_tokens_per_s = StrictFloatField(min_value=0, max_value=_MOST_TOKENS_PER_S, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        requests, tokens = attrs.get("requests_per_s", 0.0), attrs.get("output_tokens_per_s", 0.0)
        if requests == 0 and tokens == 0:
            raise ValidationError("Says nothing: give requests_per_s, output_tokens_per_s, or both.")
        most, least = _MOST_TOKENS_PER_REQUEST * requests, _LEAST_TOKENS_PER_REQUEST * requests
        if requests and tokens and not least <= tokens <= most:
            wrong = f"{tokens:g} for {requests:g} requests/s is {tokens / requests:g} tokens an answer"
            raise ValidationError({"output_tokens_per_s": [f"{wrong}: give both per second."]})
        return attrs


class ProviderNamesField(serializers.ListField):
    """Names of providers, each once."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=NameField(), required=False, max_length=32, **kwargs)


class DeploymentDocumentSerializer(StrictSerializer):
    """What a user says of a deployment: the same in the API, the CLI's YAML and the console's form."""

    name = NameField(help_text="Unique in its project; the `model` that clients send.")
    model = PatternField(
        pattern=MODEL_REFERENCE_PATTERN,
        form="The name of a catalog model is wanted, or name@version.",
        max_length=127,
        help_text="A catalog model: `name` (its newest version when created) or `name@version`.",
    )
    engine = StrictChoiceField(
        choices=EngineName.choices, help_text="Its newest image is pinned into the revision."
    )
    autoscaling = AutoscalingSerializer(required=False)
    posture = StrictChoiceField(choices=Posture.choices, required=False, help_text="Default active_active.")
    survivability = StrictChoiceField(
        choices=Survivability.choices,
        required=False,
        help_text="What may be lost without going below min_replicas.",
    )
    residency = serializers.ListField(
        child=PatternField(
            pattern=JURISDICTION_PATTERN,
            form="2 to 16 lower-case letters are wanted, such as eu.",
            max_length=16,
        ),
        required=False,
        max_length=32,
        help_text="Jurisdictions in which it may run and be served; empty = anywhere.",
    )
    residency_ingress = StrictChoiceField(
        choices=ResidencyIngress.choices,
        required=False,
        help_text="What a gateway outside the residency does with a request. Default forward.",
    )
    priority = StrictIntegerField(
        min_value=-100, max_value=100, required=False, help_text="Higher is placed first. Default 0."
    )
    resume = StrictBooleanField(
        required=False,
        help_text="Whether a stream whose replica is lost goes on from another one. Default true.",
    )
    slo = SloSerializer(required=False, allow_null=True)
    adapters = serializers.ListField(
        child=PatternField(
            pattern=MODEL_NAME_PATTERN, form="The name of an adapter in the catalog is wanted.", max_length=63
        ),
        required=False,
        max_length=64,
        help_text="LoRA adapters of the model; clients ask for `name:adapter`. Changing them is a new revision.",
    )

    providers_allowed = ProviderNamesField(help_text="Providers on which it may run; empty = all not denied.")
    providers_denied = ProviderNamesField(help_text="Providers on which it may not run.")
    demand = serializers.ListField(
        child=StatedDemandSerializer(),
        required=False,
        max_length=256,
        help_text="The load that its owner expects, for placement to plan with until usage is known.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        both = sorted(set(attrs.get("providers_allowed", ())) & set(attrs.get("providers_denied", ())))
        if both:
            raise ValidationError(
                {"providers_denied": [f"{both[0]} is allowed and denied: remove it from one of the lists."]}
            )
        return attrs

    def validate_providers_allowed(self, value: list[str]) -> list[str]:
        return _each_once(value, "a provider")

    def validate_providers_denied(self, value: list[str]) -> list[str]:
        return _each_once(value, "a provider")

    def validate_demand(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        origins = [entry.get("origin") for entry in value]
        if None in origins and len(origins) > 1:
            raise ValidationError("Has an entry for all regions beside others: name the origin of each.")
        _each_once([str(origin) for origin in origins], "an origin")
        return value

    def validate_adapters(self, value: list[str]) -> list[str]:
        return _each_once(value, "an adapter")

    def validate_residency(self, value: list[str]) -> list[str]:
        return _each_once(value, "a jurisdiction")


def _each_once(names: list[str], what: str) -> list[str]:
    if len(set(names)) != len(names):
        raise ValidationError(f"Names {what} twice: give each once.")
    return names


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
    max_replicas = serializers.IntegerField()
    usd_per_h = serializers.CharField()
    reasons = serializers.ListField(child=serializers.CharField())


class PlanPreviewSerializer(serializers.Serializer[Any]):
    """What a dry run says: where replicas would run and at what price, or why nowhere."""

    allocations = AllocationPreviewSerializer(many=True)
    refusals = RefusalSerializer(many=True)
    relaxed = RefusalSerializer(
        many=True, help_text="Wishes that it would not keep, and what would keep each."
    )
    usd_per_h = serializers.CharField(help_text="At the minimum of replicas.")
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
                    "max_replicas": row.max_replicas,
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
