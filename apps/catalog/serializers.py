"""Documents of the catalog."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from apps.api.validation import (
    PatternField,
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictSerializer,
    StrictUuidField,
)
from apps.catalog.models import (
    DIGEST_PATTERN,
    MODEL_NAME_PATTERN,
    EngineName,
    Modality,
    PerformanceProfile,
    Precision,
)
from apps.catalog.selectors import profile_goals, profile_sizing
from controlplane.sizing import Sizing

_PHASE: dict[str, Any] = {"required": False, "allow_null": True, "default": None}
#: A day: a phase that takes longer is a unit mistake.
_MAX_PHASE_S = 86_400.0


class ModelNameField(PatternField):
    def __init__(self, **kwargs: Any) -> None:
        form = "Lower-case letters, digits and . _ - are wanted, at most 63, a letter or digit at both ends."
        super().__init__(pattern=MODEL_NAME_PATTERN, form=form, **{"max_length": 63, **kwargs})


#: A thousand terabytes: placement refuses to plan for more, and whoever could say so would stop it for all.
MAX_SIZE_BYTES = 10**15


class VersionField(PatternField):
    def __init__(self, **kwargs: Any) -> None:
        form = "Letters, digits and . _ + - are wanted, at most 63, a letter or digit first."
        super().__init__(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$", form=form, **{"max_length": 63, **kwargs}
        )


class DigestField(PatternField):
    def __init__(self, **kwargs: Any) -> None:
        form = "sha256: and 64 lower-case hexadecimal digits are wanted."
        super().__init__(pattern=DIGEST_PATTERN, form=form, **{"max_length": 71, **kwargs})


class ModelCreateSerializer(StrictSerializer):
    name = ModelNameField()


class ModelVersionCreateSerializer(StrictSerializer):
    version = VersionField()
    digest = DigestField(help_text="over the lines '<sha256 of a file>  <its name>\\n' of all files, by name")
    source_uri = StrictCharField(max_length=1023, help_text="file://, s3://, gs://, az:// or hf://")
    format = StrictCharField(
        max_length=32, required=False, default="safetensors", help_text="only safetensors is accepted"
    )
    precision = StrictChoiceField(choices=Precision.choices)
    size_bytes = StrictIntegerField(min_value=1, max_value=MAX_SIZE_BYTES)
    max_context_tokens = StrictIntegerField(min_value=1, max_value=100_000_000)
    gpus_per_replica = StrictIntegerField(min_value=1, max_value=1024, required=False, default=1)
    modalities = serializers.ListField(
        child=StrictChoiceField(choices=Modality.choices),
        required=False,
        default=[Modality.TEXT.value],
        min_length=1,
        max_length=len(Modality),
        help_text="What it can be given; requests that hold something else are refused. Default text.",
    )

    def validate_modalities(self, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValidationError("Names a modality twice: give each once.")
        return value


class ModelVersionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    version = serializers.CharField()
    digest = serializers.CharField()
    source_uri = serializers.CharField()
    format = serializers.CharField()
    precision = serializers.ChoiceField(choices=Precision.choices)
    size_bytes = serializers.IntegerField()
    max_context_tokens = serializers.IntegerField()
    gpus_per_replica = serializers.IntegerField()
    modalities = serializers.ListField(child=serializers.ChoiceField(choices=Modality.choices))
    created_at = serializers.DateTimeField()


class ModelSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    versions = serializers.SerializerMethodField(help_text="names of its versions, newest first")
    created_at = serializers.DateTimeField()

    def get_versions(self, model: Any) -> list[str]:
        newest_first = sorted(model.versions.all(), key=lambda row: (row.created_at, row.pk), reverse=True)
        return [row.version for row in newest_first]


class ModelFilters(serializers.Serializer[Any]):
    name = serializers.CharField(required=False)


class AdapterCreateSerializer(StrictSerializer):
    name = ModelNameField()
    digest = DigestField()
    source_uri = StrictCharField(max_length=1023)
    rank = StrictIntegerField(min_value=1, max_value=512)


class AdapterSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    model = serializers.CharField(source="model_version.model.name")
    version = serializers.CharField(source="model_version.version")
    name = serializers.CharField()
    digest = serializers.CharField()
    source_uri = serializers.CharField()
    rank = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class EngineImageCreateSerializer(StrictSerializer):
    engine = StrictChoiceField(choices=EngineName.choices)
    version = VersionField()
    digest = DigestField()
    arguments = serializers.DictField(
        child=StrictCharField(), required=False, default=dict, help_text="from the engine's allow-list"
    )


class EngineImageSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    engine = serializers.ChoiceField(choices=EngineName.choices)
    version = serializers.CharField()
    digest = serializers.CharField()
    arguments = serializers.DictField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class EngineImageFilters(serializers.Serializer[Any]):
    engine = serializers.ChoiceField(choices=EngineName.choices, required=False)


_RATE: dict[str, Any] = {"min_value": 1e-6, "max_value": 1e6}
_TOKEN_RATE: dict[str, Any] = {"min_value": 1e-6, "max_value": 1e9}
_LATENCY: dict[str, Any] = {"min_value": 0, "max_value": 3600}
_CONCURRENCY: dict[str, Any] = {"min_value": 1, "max_value": 100_000}


class CurvePointSerializer(StrictSerializer):
    """What one replica does with so many requests side by side; latencies in seconds."""

    concurrency = StrictIntegerField(**_CONCURRENCY)
    requests_per_s = StrictFloatField(**_RATE)
    tokens_per_s = StrictFloatField(**_TOKEN_RATE)
    ttft_s_p50 = StrictFloatField(**_LATENCY)
    ttft_s_p95 = StrictFloatField(**_LATENCY)
    inter_token_latency_s_p50 = StrictFloatField(**_LATENCY)
    inter_token_latency_s_p95 = StrictFloatField(**_LATENCY)


class ProfileGoalsSerializer(StrictSerializer):
    """Seconds that 95 % shall not exceed."""

    ttft_s_p95 = StrictFloatField(min_value=0.001, max_value=3600, required=False, allow_null=True)
    inter_token_latency_s_p95 = StrictFloatField(
        min_value=0.0001, max_value=3600, required=False, allow_null=True
    )


class CurveField(serializers.ListField):
    """Each concurrency once, in any order."""

    child = CurvePointSerializer()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=64, **kwargs)

    def run_child_validation(self, data: Any) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = super().run_child_validation(data)
        concurrencies = {point["concurrency"] for point in points}
        if len(concurrencies) < len(points):
            raise ValidationError("Has a concurrency twice: give each once.")
        return points


class CurveSerializer(StrictSerializer):
    """A measured curve, and the goals that a replica is to keep."""

    curve = CurveField()
    slo = ProfileGoalsSerializer(required=False)
    input_tokens_mean = StrictFloatField(min_value=1, max_value=10_000_000)


class SizingSerializer(serializers.Serializer[Any]):
    """How many requests one replica should compute side by side, and what to tell its engine."""

    concurrency = serializers.IntegerField(help_text="for autoscaling.concurrency_target")
    limited_by = serializers.ChoiceField(
        choices=["ttft", "inter_token_latency", "throughput", "measured"],
        help_text="measured: it may take more than was tried",
    )
    requests_per_s = serializers.FloatField()
    tokens_per_s = serializers.FloatField()
    ttft_s_p95 = serializers.FloatField()
    inter_token_latency_s_p95 = serializers.FloatField()
    max_num_seqs = serializers.IntegerField()
    max_num_batched_tokens = serializers.IntegerField()
    reasons = serializers.ListField(child=serializers.CharField())


class ProfileCreateSerializer(StrictSerializer):
    """Give the rates at the SLO, or a curve from which they are read."""

    model = StrictCharField(max_length=127, help_text="name, or name@version")
    instance_type = StrictUuidField()
    tensor_parallel = StrictIntegerField(min_value=1, max_value=1024, required=False, default=1)
    requests_per_s = StrictFloatField(**_RATE, required=False)
    tokens_per_s = StrictFloatField(**_TOKEN_RATE, required=False)
    concurrency = StrictIntegerField(**_CONCURRENCY, required=False)
    curve = CurveField(required=False)
    slo = ProfileGoalsSerializer(required=False)
    input_tokens_mean = StrictFloatField(min_value=1, max_value=10_000_000, required=False)
    gpu_procurement_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    image_pull_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    weight_load_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    engine_start_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        rates = ("requests_per_s", "tokens_per_s", "concurrency")
        wanted = ("input_tokens_mean",) if "curve" in attrs else rates
        said = "Is wanted with a curve." if "curve" in attrs else "Is wanted where no curve is given."
        missing = {name: [said] for name in wanted if name not in attrs}
        if missing:
            raise ValidationError(missing)
        return attrs


class ProfileSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    model = serializers.CharField(source="model_version.model.name")
    version = serializers.CharField(source="model_version.version")
    instance_type = serializers.CharField(source="instance_type.name")
    provider = serializers.CharField(source="instance_type.provider.name")
    tensor_parallel = serializers.IntegerField()
    requests_per_s = serializers.FloatField()
    tokens_per_s = serializers.FloatField()
    concurrency = serializers.IntegerField()
    gpu_procurement_s = serializers.FloatField(allow_null=True)
    image_pull_s = serializers.FloatField(allow_null=True)
    weight_load_s = serializers.FloatField(allow_null=True)
    engine_start_s = serializers.FloatField(allow_null=True)
    curve = CurvePointSerializer(many=True, help_text="empty: not measured")
    slo = serializers.SerializerMethodField(help_text="the goals at which the rates were read")
    input_tokens_mean = serializers.FloatField(allow_null=True, help_text="of the prompts of the curve")
    sizing = serializers.SerializerMethodField(help_text="null without a curve, or where it keeps no goal")
    created_at = serializers.DateTimeField()

    @extend_schema_field(ProfileGoalsSerializer)
    def get_slo(self, profile: PerformanceProfile) -> dict[str, Any]:
        return asdict(profile_goals(profile))

    @extend_schema_field(SizingSerializer(allow_null=True))
    def get_sizing(self, profile: PerformanceProfile) -> dict[str, Any] | None:
        found = profile_sizing(profile)
        return SizingSerializer(found).data if isinstance(found, Sizing) else None


class ProfileFilters(serializers.Serializer[Any]):
    model = serializers.CharField(required=False)
