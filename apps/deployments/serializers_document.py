"""The document of a deployment as it may be sent, field by field."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

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
from apps.deployments.models import Posture, ResidencyIngress, ScalingPolicy, Survivability
from workloadplane.words import counted

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
            wrong = f"{tokens:g} for {requests:g} requests/s is {counted(tokens / requests, 'token', 'g')} an answer"
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
