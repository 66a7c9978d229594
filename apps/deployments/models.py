"""Deployments: what is wanted. Revisions: what exactly runs, never changed once written.

A change of what runs (model, engine, arguments) makes a new Revision; a change of policy (autoscaling, posture,
survivability, residency, SLO) changes the Deployment alone. Either raises its ``generation``.
"""

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Now

from apps.accounts.models import NAME_PATTERN, Project, User
from apps.catalog.models import EngineImage, ModelVersion
from workloadplane.words import counted


class Posture(models.TextChoices):
    ACTIVE_ACTIVE = "active_active"
    ACTIVE_PASSIVE = "active_passive"


class Survivability(models.TextChoices):
    NONE = "none"
    ZONE = "zone"
    REGION = "region"
    PROVIDER = "provider"


class ResidencyIngress(models.TextChoices):
    FORWARD = "forward"
    REFUSE = "refuse"


class ScalingPolicy(models.TextChoices):
    """What decides how many replicas are wanted between the bounds."""

    PREDICTIVE = "predictive"
    KPA = "kpa"


class Deployment(models.Model):
    """One endpoint that a project wants served."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="deployments")
    name = models.CharField(max_length=63)
    generation = models.BigIntegerField(default=1)
    current_revision = models.ForeignKey("Revision", on_delete=models.PROTECT, null=True, related_name="+")
    posture = models.CharField(max_length=16, choices=Posture.choices, default=Posture.ACTIVE_ACTIVE)
    survivability = models.CharField(max_length=16, choices=Survivability.choices, default=Survivability.NONE)
    residency = ArrayField(models.CharField(max_length=16), default=list)
    residency_ingress = models.CharField(
        max_length=8, choices=ResidencyIngress.choices, default=ResidencyIngress.FORWARD
    )
    providers_allowed = ArrayField(models.CharField(max_length=63), default=list, db_default=[])
    providers_denied = ArrayField(models.CharField(max_length=63), default=list, db_default=[])
    # What its owner expects, {origin, requests_per_s, output_tokens_per_s} each; origin null = all regions together.
    demand = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    priority = models.SmallIntegerField(default=0)
    resume = models.BooleanField(default=True, db_default=True)
    slo_ttft_s_p95 = models.FloatField(null=True, blank=True)
    slo_inter_token_latency_s_p95 = models.FloatField(null=True, blank=True)
    deletion_requested_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(deleted_at=None),
                name="deployment_name_unique_in_project",
            ),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="deployment_name_is_a_label"),
            models.CheckConstraint(condition=Q(posture__in=Posture.values), name="deployment_posture_known"),
            models.CheckConstraint(
                condition=Q(survivability__in=Survivability.values), name="deployment_survivability_known"
            ),
            models.CheckConstraint(
                condition=Q(residency_ingress__in=ResidencyIngress.values),
                name="deployment_residency_ingress_known",
            ),
            models.CheckConstraint(
                condition=Q(priority__gte=-100, priority__lte=100), name="deployment_priority_bounded"
            ),
            models.CheckConstraint(
                condition=Q(slo_ttft_s_p95=None) | Q(slo_ttft_s_p95__gt=0),
                name="deployment_slo_ttft_positive",
            ),
            models.CheckConstraint(
                condition=Q(slo_inter_token_latency_s_p95=None) | Q(slo_inter_token_latency_s_p95__gt=0),
                name="deployment_slo_inter_token_latency_positive",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(deletion_requested_at__isnull=False),
                name="deployment_deleted_only_on_request",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["project", "created_at", "id"]),
            models.Index(fields=["project", "name"]),
        ]

    def __str__(self) -> str:
        return self.name


class AutoscalingPolicy(models.Model):
    """The five factors, and the policy that reads them."""

    deployment = models.OneToOneField(Deployment, on_delete=models.CASCADE, related_name="autoscaling")
    min_replicas = models.PositiveIntegerField(default=1)
    max_replicas = models.PositiveIntegerField(default=1)
    autoscaling_window_s = models.FloatField(default=60)
    scale_down_delay_s = models.FloatField(default=300)
    concurrency_target = models.FloatField(default=8)
    policy = models.CharField(
        max_length=16,
        choices=ScalingPolicy.choices,
        default=ScalingPolicy.PREDICTIVE,
        db_default=ScalingPolicy.PREDICTIVE,
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(max_replicas__gte=F("min_replicas")), name="autoscaling_min_at_most_max"
            ),
            models.CheckConstraint(
                condition=Q(max_replicas__gte=1, max_replicas__lte=10_000), name="autoscaling_max_bounded"
            ),
            models.CheckConstraint(
                condition=Q(autoscaling_window_s__gte=1, autoscaling_window_s__lte=3600),
                name="autoscaling_window_bounded",
            ),
            models.CheckConstraint(
                condition=Q(scale_down_delay_s__gte=0, scale_down_delay_s__lte=86_400),
                name="autoscaling_scale_down_delay_bounded",
            ),
            models.CheckConstraint(
                condition=Q(concurrency_target__gt=0, concurrency_target__lte=10_000),
                name="autoscaling_concurrency_target_bounded",
            ),
            models.CheckConstraint(
                condition=Q(policy__in=ScalingPolicy.values), name="autoscaling_policy_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.min_replicas} to {counted(self.max_replicas, 'replica')}"


class Revision(models.Model):
    """What exactly runs. Immutable: a trigger refuses updates and deletes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    engine_image = models.ForeignKey(EngineImage, on_delete=models.PROTECT, related_name="+")
    # Pinned by value, {name, digest, source_uri, rank} each, so that the catalog may forget an adapter that still runs.
    adapters = models.JSONField(default=list)
    rolled_back_from = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "number"], name="revision_number_unique"),
            models.CheckConstraint(condition=Q(number__gte=1), name="revision_numbers_from_one"),
        ]

    def __str__(self) -> str:
        return f"revision {self.number}"


class ConditionType(models.TextChoices):
    ACCEPTED = "Accepted"
    PLACED = "Placed"
    PROGRESSING = "Progressing"
    READY = "Ready"
    DEGRADED = "Degraded"


class DeploymentCondition(models.Model):
    """A judgement about a deployment, in the manner of Kubernetes' conditions."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="conditions")
    type = models.CharField(max_length=16, choices=ConditionType.choices)
    status = models.BooleanField()
    reason = models.CharField(max_length=63)
    message = models.TextField(max_length=2047)
    refusals = models.JSONField(default=list)
    observed_generation = models.BigIntegerField()
    last_transition_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "type"], name="condition_once_per_type"),
            models.CheckConstraint(condition=Q(type__in=ConditionType.values), name="condition_type_known"),
        ]

    def __str__(self) -> str:
        return f"{self.type}={self.status} ({self.reason})"
