"""Documents of events, usage and traffic: read only."""

from typing import Any

from rest_framework import serializers

from apps.api.validation import StrictCharField, StrictChoiceField
from apps.telemetry.models import Event

SEVERITIES = ("info", "warning", "error")


class EventSerializer(serializers.Serializer[Event]):
    id = serializers.IntegerField(help_text="rises: the one order of all events")
    at = serializers.DateTimeField()
    severity = serializers.ChoiceField(choices=SEVERITIES)
    reason = serializers.CharField()
    message = serializers.CharField()
    deployment_id = serializers.UUIDField(allow_null=True)
    cluster_id = serializers.UUIDField(allow_null=True)
    replica_id = serializers.UUIDField(allow_null=True)


class DeploymentEventFilters(serializers.Serializer[Any]):
    """Query parameters of a deployment's events."""

    severity = StrictChoiceField(choices=SEVERITIES, required=False)
    reason = StrictCharField(required=False, max_length=63, help_text="Only those with this reason.")


class EventFilters(DeploymentEventFilters):
    """Query parameters of the list."""

    deployment = StrictCharField(required=False, help_text="Only those of this deployment.")
    cluster = StrictCharField(required=False, help_text="Only those of this cluster.")


class SpanFilters(serializers.Serializer[Any]):
    """A stretch of time."""

    def get_fields(self) -> dict[str, Any]:
        """``from`` is no name that Python lets a class attribute have."""
        return {
            "from": serializers.DateTimeField(
                required=False, help_text="ISO 8601; a day before `to` if left out."
            ),
            "to": serializers.DateTimeField(required=False, help_text="ISO 8601; now if left out."),
            **super().get_fields(),
        }


class UsageFilters(SpanFilters):
    deployment = StrictCharField(required=False, help_text="Only this deployment.")


class UsageTotalSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    deployment_id = serializers.UUIDField()
    requests = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment]  # DRF takes fields off the class
        help_text="requests that an engine failed"
    )
    input_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="of the input tokens, those found in a prefix cache")
    output_tokens = serializers.IntegerField()
    audio_input_s = serializers.FloatField(help_text="of speech that was transcribed, where engines tell")
    input_characters = serializers.IntegerField(help_text="of text that was spoken")


class UsageSerializer(serializers.Serializer[Any]):
    """What a project's deployments were used, by when requests finished: from ``from``, before ``to``."""

    def get_fields(self) -> dict[str, Any]:
        return {
            "from": serializers.DateTimeField(source="start"),
            "to": serializers.DateTimeField(source="end"),
            "items": UsageTotalSerializer(many=True),
        }


class MetricsFilters(SpanFilters):
    step_s = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=86_400,
        help_text="Seconds a point, none of which begins after now; a hundredth of the span if left out.",
    )


class PointSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    requests_per_s = serializers.FloatField()
    errors_per_s = serializers.FloatField()
    input_tokens_per_s = serializers.FloatField()
    output_tokens_per_s = serializers.FloatField()
    ttft_s_p50 = serializers.FloatField(allow_null=True)
    ttft_s_p90 = serializers.FloatField(allow_null=True)
    ttft_s_p95 = serializers.FloatField(allow_null=True)
    ttft_s_p99 = serializers.FloatField(allow_null=True)
    inter_token_latency_s_p50 = serializers.FloatField(allow_null=True)
    inter_token_latency_s_p90 = serializers.FloatField(allow_null=True)
    inter_token_latency_s_p95 = serializers.FloatField(allow_null=True)
    inter_token_latency_s_p99 = serializers.FloatField(allow_null=True)


class MetricsSerializer(serializers.Serializer[Any]):
    """A deployment's traffic in equal steps, and what its replicas cost now."""

    step_s = serializers.IntegerField()
    usd_per_h = serializers.CharField(help_text="decimal string of dollars")
    points = PointSerializer(many=True)


class ScalingPointSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    at_hand = serializers.FloatField(
        allow_null=True, help_text="the most requests in flight and waiting; null where no gateway told"
    )
    wanted = serializers.IntegerField(
        allow_null=True, help_text="the most replicas that agents wanted; null before their first decision"
    )
    ready = serializers.IntegerField(help_text="replicas that served at the step's end")


class DecidedSerializer(serializers.Serializer[Any]):
    cluster = serializers.CharField()
    revision = serializers.IntegerField()
    decided_at = serializers.DateTimeField()
    policy = serializers.CharField(allow_blank=True)
    replicas = serializers.IntegerField()
    ready = serializers.IntegerField(help_text="that served then")
    at_hand = serializers.FloatField(allow_null=True, help_text="requests in flight and waiting then")
    reasons = serializers.ListField(child=serializers.CharField())


class ScalingSerializer(serializers.Serializer[Any]):
    """A deployment's replicas against its demand in equal steps, and the last decisions with their reasons."""

    step_s = serializers.IntegerField()
    points = ScalingPointSerializer(many=True)
    decisions = DecidedSerializer(many=True)
