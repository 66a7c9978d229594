"""Events, usage and metric windows."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import Organization, Project
from apps.fleet.models import Region
from workloadplane.words import counted


class Event(models.Model):
    """Something that happened, in one order for the whole installation (``id`` rises).

    Subjects are plain ids, so that an event outlives what it speaks of.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="events")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="events")
    deployment_id = models.UUIDField(null=True)
    cluster_id = models.UUIDField(null=True)
    replica_id = models.UUIDField(null=True)
    severity = models.CharField(max_length=8, default="info")
    reason = models.CharField(max_length=63)
    message = models.TextField(max_length=2047)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warning", "error"]), name="event_severity_known"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment_id", "-id"]),
            models.Index(fields=["organization", "-id"]),
            models.Index(fields=["project", "-id"]),
            models.Index(fields=["cluster_id", "-id"]),
            models.Index(fields=["at"]),
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class UsageRecord(models.Model):
    """One finished request; stored once by (gateway_instance, sequence)."""

    gateway_instance = models.CharField(max_length=36)
    sequence = models.BigIntegerField()
    request_id = models.CharField(max_length=64)
    finished_at = models.DateTimeField()
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="usage")
    api_key_id = models.UUIDField()
    deployment_id = models.UUIDField()
    revision_id = models.UUIDField()
    replica_id = models.UUIDField(null=True)
    pool_id = models.UUIDField(null=True)
    reported_by_cluster_id = models.UUIDField()
    served_cluster_id = models.UUIDField(null=True)
    origin = models.CharField(max_length=63)
    request_class = models.CharField(max_length=16)
    route = models.CharField(max_length=63)
    status = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=16)
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    queue_s = models.FloatField()
    ttft_s = models.FloatField(null=True)
    duration_s = models.FloatField()
    inter_token_latency_s_mean = models.FloatField(null=True)
    inter_token_latency_s_max = models.FloatField(null=True)
    audio_input_s = models.FloatField(default=0.0, db_default=0.0)
    input_characters = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gateway_instance", "sequence"], name="usage_record_stored_once"),
            models.CheckConstraint(
                condition=Q(input_tokens__gte=0, cached_tokens__gte=0, output_tokens__gte=0),
                name="usage_record_tokens_not_negative",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["project", "-finished_at"]),
            models.Index(fields=["deployment_id", "-finished_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.gateway_instance} {self.sequence}"


class UsageQuarantine(models.Model):
    """A usage record that cannot be booked: of an unknown project, or with values that nothing can hold.

    It is acknowledged like any other, so that those behind it are not held up, and kept as it came.
    """

    gateway_instance = models.CharField(max_length=36)
    sequence = models.BigIntegerField()
    reported_by_cluster_id = models.UUIDField()
    reason = models.CharField(max_length=255)
    record = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gateway_instance", "sequence"], name="usage_quarantine_once")
        ]

    def __str__(self) -> str:
        return f"{self.gateway_instance} {self.sequence}: {self.reason}"


class SpoolMark(models.Model):
    """How far the spool of a gateway instance is stored without a gap, by kind: what is acknowledged."""

    cluster_id = models.UUIDField()
    gateway_instance = models.CharField(max_length=36)
    usage_sequence = models.BigIntegerField(default=0)
    window_sequence = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster_id", "gateway_instance"], name="spool_mark_once_per_instance"
            )
        ]

    def __str__(self) -> str:
        return f"{self.gateway_instance} at {self.usage_sequence}, {self.window_sequence}"


class MetricWindow(models.Model):
    """A window of one revision's traffic through one gateway; histograms by the wire's fixed buckets."""

    gateway_instance = models.CharField(max_length=36)
    sequence = models.BigIntegerField()
    cluster_id = models.UUIDField()
    deployment_id = models.UUIDField()
    revision_id = models.UUIDField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    requests = models.PositiveIntegerField()
    errors = models.PositiveIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    in_flight_max = models.PositiveIntegerField()
    waiting_max = models.PositiveIntegerField()
    ttft_counts = ArrayField(models.IntegerField())
    ttft_sum_s = models.FloatField()
    inter_token_latency_counts = ArrayField(models.IntegerField())
    inter_token_latency_sum_s = models.FloatField()
    duration_counts = ArrayField(models.IntegerField())
    duration_sum_s = models.FloatField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gateway_instance", "sequence"], name="metric_window_stored_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment_id", "-started_at"]),
            models.Index(fields=["started_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.gateway_instance} {self.sequence}"


class ScalingDecision(models.Model):
    """How many replicas of a revision a cluster's agent began to want at a moment, and why; until its next decision.

    at_hand: requests in flight and waiting there then; null = nobody could tell
    """

    cluster_id = models.UUIDField()
    deployment_id = models.UUIDField()
    revision_id = models.UUIDField()
    decided_at = models.DateTimeField()
    policy = models.CharField(max_length=16)
    replicas = models.PositiveIntegerField()
    ready = models.PositiveIntegerField()
    at_hand = models.FloatField(null=True)
    reasons = models.JSONField(default=list)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster_id", "revision_id", "decided_at"], name="scaling_decision_once"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment_id", "-decided_at"]),
            models.Index(fields=["decided_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.replicas} of {self.revision_id} from {self.decided_at}"


class TrafficStep(models.Model):
    """What the gateways of one region took for one deployment in one step of time: the sum of their windows."""

    deployment_id = models.UUIDField()
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    requests = models.BigIntegerField()
    output_tokens = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment_id", "region", "at"], name="traffic_step_once")
        ]
        indexes: ClassVar = [models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{counted(self.requests, 'request')} of {self.deployment_id} from {self.at}"
