"""Models, their pinned versions, adapters, engine images, and what they were measured to do."""

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.fleet.models import InstanceType
from workloadplane.protocol import modalities

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
MODEL_NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


class EngineName(models.TextChoices):
    VLLM = "vllm"
    SGLANG = "sglang"
    TENSORRT_LLM = "tensorrt_llm"
    NIM = "nim"
    SIMULATOR = "simulator"


class Precision(models.TextChoices):
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class Modality(models.TextChoices):
    """What a model can be given."""

    TEXT = modalities.TEXT
    IMAGE = modalities.IMAGE
    AUDIO = modalities.AUDIO
    VIDEO = modalities.VIDEO


def text_alone() -> list[str]:
    return [Modality.TEXT]


class WeightFormat(models.TextChoices):
    SAFETENSORS = "safetensors"


class Model(models.Model):
    """A model that a project may deploy."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="models")
    name = models.CharField(max_length=63)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "name"], name="model_name_unique_in_project"),
            models.CheckConstraint(condition=Q(name__regex=MODEL_NAME_PATTERN), name="model_name_form"),
        ]
        indexes: ClassVar = [models.Index(fields=["project", "created_at", "id"])]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """Weights, pinned by digest. Only safetensors: unpickling weights runs whatever code they carry."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions")
    version = models.CharField(max_length=63)
    digest = models.CharField(max_length=71)
    source_uri = models.CharField(max_length=1023)
    format = models.CharField(max_length=16, choices=WeightFormat.choices, default=WeightFormat.SAFETENSORS)
    precision = models.CharField(max_length=8, choices=Precision.choices)
    size_bytes = models.BigIntegerField()
    max_context_tokens = models.PositiveIntegerField()
    gpus_per_replica = models.PositiveIntegerField(default=1)
    modalities = ArrayField(models.CharField(max_length=8, choices=Modality.choices), default=text_alone)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "version"], name="model_version_unique"),
            models.CheckConstraint(
                condition=Q(digest__regex=DIGEST_PATTERN), name="model_version_digest_form"
            ),
            models.CheckConstraint(
                condition=Q(format=WeightFormat.SAFETENSORS), name="model_version_safetensors_only"
            ),
            models.CheckConstraint(
                condition=Q(precision__in=Precision.values), name="model_version_precision_known"
            ),
            models.CheckConstraint(condition=Q(size_bytes__gt=0), name="model_version_has_bytes"),
            models.CheckConstraint(condition=Q(max_context_tokens__gt=0), name="model_version_has_context"),
            models.CheckConstraint(condition=Q(gpus_per_replica__gt=0), name="model_version_needs_gpus"),
            models.CheckConstraint(
                condition=Q(modalities__len__gt=0) & Q(modalities__contained_by=Modality.values),
                name="model_version_modalities_known",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["model", "created_at", "id"])]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.version}"


class Adapter(models.Model):
    """A LoRA adapter for one model version."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="adapters")
    name = models.CharField(max_length=63)
    digest = models.CharField(max_length=71)
    source_uri = models.CharField(max_length=1023)
    rank = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model_version", "name"], name="adapter_name_unique"),
            models.CheckConstraint(condition=Q(name__regex=MODEL_NAME_PATTERN), name="adapter_name_form"),
            models.CheckConstraint(condition=Q(digest__regex=DIGEST_PATTERN), name="adapter_digest_form"),
            models.CheckConstraint(condition=Q(rank__gte=1, rank__lte=512), name="adapter_rank_bounded"),
        ]
        indexes: ClassVar = [models.Index(fields=["model_version", "created_at", "id"])]

    def __str__(self) -> str:
        return self.name


class EngineImage(models.Model):
    """An engine, pinned by digest, with arguments from its allow-list. Only operators of the installation write it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    engine = models.CharField(max_length=16, choices=EngineName.choices)
    version = models.CharField(max_length=63)
    digest = models.CharField(max_length=71, unique=True)
    arguments = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(engine__in=EngineName.values), name="engine_image_engine_known"
            ),
            models.CheckConstraint(
                condition=Q(digest__regex=DIGEST_PATTERN), name="engine_image_digest_form"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["engine", "created_at", "id"])]

    def __str__(self) -> str:
        return f"{self.engine} {self.version}"


class PerformanceProfile(models.Model):
    """What one replica of a model version was measured to do on an instance type, at its SLO.

    curve:             what it does at rising concurrencies, {concurrency, requests_per_s, …} each; empty = not measured
    input_tokens_mean: of the prompts with which the curve was measured
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="profiles")
    instance_type = models.ForeignKey(InstanceType, on_delete=models.PROTECT, related_name="profiles")
    tensor_parallel = models.PositiveIntegerField(default=1)
    requests_per_s = models.FloatField()
    tokens_per_s = models.FloatField()
    concurrency = models.PositiveIntegerField()
    gpu_procurement_s = models.FloatField(null=True, blank=True)
    image_pull_s = models.FloatField(null=True, blank=True)
    weight_load_s = models.FloatField(null=True, blank=True)
    engine_start_s = models.FloatField(null=True, blank=True)
    curve = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    input_tokens_mean = models.FloatField(null=True, blank=True)
    slo_ttft_s_p95 = models.FloatField(null=True, blank=True)
    slo_inter_token_latency_s_p95 = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model_version", "instance_type", "tensor_parallel"], name="profile_once_per_shape"
            ),
            models.CheckConstraint(
                condition=Q(
                    requests_per_s__gt=0, tokens_per_s__gt=0, concurrency__gt=0, tensor_parallel__gt=0
                ),
                name="profile_rates_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_version} on {self.instance_type}"
