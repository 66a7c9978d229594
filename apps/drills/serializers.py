"""Documents of drills."""

from typing import Any

from rest_framework import serializers

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
from apps.drills.models import DrillDriver
from controlplane.failover import DRILL_KINDS, DRILL_METHODS, DRILL_STATES, DrillLimits

LONGEST_S = 86_400.0
_LIMITS = DrillLimits()
_OUTCOMES = ("ok", "again", "failed", "broken")


class DrillLimitsSerializer(StrictSerializer):
    """What ends a drill by itself."""

    error_budget_share = StrictFloatField(
        required=False, default=_LIMITS.error_budget_share, min_value=0, max_value=1,
        help_text="of all requests, those that may fail in spite of a second try (three at least)",
    )  # fmt: skip
    ttft_s_max = StrictFloatField(
        required=False, default=_LIMITS.ttft_s_max, min_value=0.001, max_value=LONGEST_S,
        help_text="twenty first tokens in a row later than this end it; so late a P99 differs from the promise",
    )  # fmt: skip
    duration_s_max = StrictFloatField(
        required=False, default=_LIMITS.duration_s_max, min_value=1, max_value=LONGEST_S,
        help_text="from its start to its report",
    )  # fmt: skip


class DrillWhatSerializer(StrictSerializer):
    """What is drilled, and how."""

    kind = StrictChoiceField(choices=[(kind, kind) for kind in DRILL_KINDS])
    target = PatternField(
        pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$",
        form="A region's or provider's name is wanted; none for the control plane.",
        max_length=63,
        required=False,
        default="",
        allow_blank=True,
        help_text="a region, or a provider; none for lose-control-plane",
    )
    deployment = NameField(help_text="whose promise is tested")
    method = StrictChoiceField(
        choices=[(method, method) for method in DRILL_METHODS],
        required=False,
        default="weights",
        help_text="weights: routing tables keep traffic away, as far as others have room;"
        " faults: processes and sockets are broken, only where all runs on one machine",
    )


class DrillCreateSerializer(DrillWhatSerializer):
    driver = StrictChoiceField(
        choices=DrillDriver.choices,
        required=False,
        default=DrillDriver.PLANE,
        help_text="who measures: a client that sends samples and ends the phases, or the control plane by usage",
    )
    fault_s = StrictFloatField(required=False, default=60.0, min_value=1, max_value=3600)
    limits = DrillLimitsSerializer(required=False)
    accept_risk = StrictBooleanField(
        required=False, default=False, help_text="go on though the certificate says that somebody falls short"
    )


class SampleSerializer(StrictSerializer):
    """One request of a client, as the client saw it."""

    at_s = StrictFloatField(min_value=0, max_value=LONGEST_S, help_text="when it began, since the drill did")
    ttft_s = StrictFloatField(min_value=0, max_value=LONGEST_S, allow_null=True, required=False, default=None)
    outcome = StrictChoiceField(
        choices=[(outcome, outcome) for outcome in _OUTCOMES],
        help_text="again: answered at a second try; failed: in spite of it; broken: broke off after it had begun",
    )
    region = StrictCharField(
        required=False, default="", allow_blank=True, max_length=63, help_text="that served it"
    )


class DrillSamplesSerializer(StrictSerializer):
    """A batch; sent again under its number it changes nothing."""

    sequence = StrictIntegerField(min_value=0, max_value=1_000_000)
    elapsed_s = StrictFloatField(min_value=0, max_value=LONGEST_S, help_text="since the drill began")
    samples = serializers.ListField(child=SampleSerializer(), max_length=1000)


class DrillMomentSerializer(StrictSerializer):
    at_s = StrictFloatField(min_value=0, max_value=LONGEST_S, help_text="since the drill began")


class DrillReportMomentSerializer(DrillMomentSerializer):
    detected_at_s = StrictFloatField(
        min_value=0, max_value=LONGEST_S, required=False, allow_null=True, default=None,
        help_text="when another region first gave the lost one nothing new",
    )  # fmt: skip


class TouchedSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    replicas = serializers.IntegerField()
    replicas_there = serializers.IntegerField()
    traffic_share = serializers.FloatField(help_text="of its traffic, what is served there by the plan")
    verdict = serializers.ChoiceField(choices=["survives", "degraded", "lost"])


class BlastSerializer(serializers.Serializer[Any]):
    """What the drill touches."""

    clusters = serializers.IntegerField()
    regions = serializers.ListField(child=serializers.CharField())
    deployments = TouchedSerializer(many=True, help_text="of the own project, the drilled one first")
    others = serializers.IntegerField(help_text="deployments of other projects that may feel it")


class PromiseSerializer(serializers.Serializer[Any]):
    """What is expected of the deployment."""

    basis = serializers.ChoiceField(choices=["certificate", "static_stability"])
    promised = serializers.BooleanField(help_text="its survivability covers this loss")
    served_share = serializers.FloatField()
    margin_share = serializers.FloatField()
    recovery_s = serializers.FloatField(allow_null=True)
    regions = serializers.ListField(
        child=serializers.CharField(), help_text="it may be served in; none: anywhere"
    )


class DrillPreviewSerializer(serializers.Serializer[Any]):
    """Stated first; nothing of it is stored."""

    plan_generation = serializers.IntegerField()
    blast = BlastSerializer()
    promise = PromiseSerializer()
    refusals = RefusalSerializer(many=True, help_text="why it would be refused without accept_risk")


class ShareSerializer(serializers.Serializer[Any]):
    region = serializers.CharField()
    share = serializers.FloatField()


class PhaseSerializer(serializers.Serializer[Any]):
    phase = serializers.ChoiceField(choices=["before", "during", "after"])
    requests = serializers.IntegerField()
    failed_first = serializers.IntegerField(help_text="failed at the first try")
    failed = serializers.IntegerField(help_text="failed in spite of a second one")
    broken = serializers.IntegerField()
    ttft_s_p50 = serializers.FloatField(allow_null=True)
    ttft_s_p99 = serializers.FloatField(allow_null=True)
    regions = serializers.SerializerMethodField(help_text="who served, the most first")

    def get_regions(self, row: Any) -> list[dict[str, Any]]:
        shares = [{"region": name, "share": share} for name, share in row["regions"]]
        return list(ShareSerializer(shares, many=True).data)


class DifferenceSerializer(serializers.Serializer[Any]):
    rule = serializers.ChoiceField(choices=["served_share", "recovery", "moved", "residency", "ttft"])
    promised = serializers.CharField()
    measured = serializers.CharField()


class ReportSerializer(serializers.Serializer[Any]):
    """What was measured; seconds count from the fault."""

    phases = PhaseSerializer(many=True)
    detected_s = serializers.FloatField(allow_null=True)
    moved_s = serializers.FloatField(
        allow_null=True, help_text="when the last request began that was still served there; null: none was"
    )
    last_failed_s = serializers.FloatField(help_text="when the last new request began that failed at first")
    served_share = serializers.FloatField()
    fault_s = serializers.FloatField()
    cost_usd = serializers.SerializerMethodField(help_text="rent of what stood idle")
    differences = DifferenceSerializer(many=True)

    def get_cost_usd(self, row: Any) -> str:
        return usd(row["cost_micro_usd"])


class DrillSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=DRILL_KINDS)
    target = serializers.CharField()
    deployment = serializers.CharField()
    method = serializers.ChoiceField(choices=DRILL_METHODS)
    driver = serializers.ChoiceField(choices=DrillDriver.choices)
    state = serializers.ChoiceField(choices=DRILL_STATES)
    because = serializers.CharField(help_text="why it was aborted")
    accept_risk = serializers.BooleanField()
    plan_generation = serializers.IntegerField()
    certificate_sha256 = serializers.CharField()
    blast = BlastSerializer()
    promise = PromiseSerializer()
    limits = DrillLimitsSerializer()
    fault_s = serializers.FloatField()
    report = ReportSerializer(allow_null=True)
    created_by = serializers.CharField()
    started_at = serializers.DateTimeField()
    deadline_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class DrillScheduleCreateSerializer(StrictSerializer):
    kind = StrictChoiceField(choices=[(kind, kind) for kind in DRILL_KINDS])
    target = NameField(help_text="a region, or a provider")
    deployment = NameField()
    every_days = StrictIntegerField(min_value=1, max_value=366)
    starts_at_utc = PatternField(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$", form="A time of day like 03:30 is wanted.", max_length=5
    )
    window_minutes = StrictIntegerField(required=False, default=60, min_value=1, max_value=1440)
    fault_s = StrictFloatField(required=False, default=60.0, min_value=1, max_value=3600)
    limits = DrillLimitsSerializer(required=False)


class DrillScheduleSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=DRILL_KINDS)
    target = serializers.CharField()
    deployment = serializers.CharField()
    every_days = serializers.IntegerField()
    starts_at_utc = serializers.CharField()
    window_minutes = serializers.IntegerField()
    fault_s = serializers.FloatField()
    limits = DrillLimitsSerializer()
    next_at = serializers.DateTimeField()
    last_drill_id = serializers.UUIDField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class DrillFilters(serializers.Serializer[Any]):
    deployment = serializers.CharField(required=False)
    kind = serializers.ChoiceField(choices=DRILL_KINDS, required=False)
    state = serializers.ChoiceField(choices=DRILL_STATES, required=False)


def limits_read(document: dict[str, Any]) -> DrillLimits:
    """Taken out of a document."""
    return DrillLimits(**document.pop("limits", {}))
