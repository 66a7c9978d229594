"""Documents of the catalog."""

from typing import Any

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
from apps.catalog.models import DIGEST_PATTERN, MODEL_NAME_PATTERN, EngineName, Modality, Precision

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


class ProfileCreateSerializer(StrictSerializer):
    model = StrictCharField(max_length=127, help_text="name, or name@version")
    instance_type = StrictUuidField()
    tensor_parallel = StrictIntegerField(min_value=1, max_value=1024, required=False, default=1)
    requests_per_s = StrictFloatField(min_value=1e-6, max_value=1e6)
    tokens_per_s = StrictFloatField(min_value=1e-6, max_value=1e9)
    concurrency = StrictIntegerField(min_value=1, max_value=100_000)
    gpu_procurement_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    image_pull_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    weight_load_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)
    engine_start_s = StrictFloatField(min_value=0, max_value=_MAX_PHASE_S, **_PHASE)


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
    created_at = serializers.DateTimeField()


class ProfileFilters(serializers.Serializer[Any]):
    model = serializers.CharField(required=False)
