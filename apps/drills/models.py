"""Drills, what their clients saw, and when the next ones are due."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import Organization, Project
from controlplane.failover import DRILL_KINDS, DRILL_METHODS, DRILL_OPEN, DRILL_STATES
from workloadplane.words import counted


class DrillDriver(models.TextChoices):
    """Who measures and says when a phase ends: a client with requests of its own, or the control plane by usage."""

    CLIENT = "client"
    PLANE = "plane"


class Drill(models.Model):
    """One drill. States and what follows them: ``controlplane.failover``.

    target:          of a region or provider; empty for the control plane
    blast:           what it touches, as it was stated before it began
    promise:         what the certificate of ``plan_generation`` (``certificate_sha256``) promised then
    lost_cluster_ids, lost_regions: where it takes place
    limits:          what ends it by itself
    fault_s:         how long the fault is to last
    injected_at_s, repaired_at_s, ended_at_s, detected_at_s: since ``started_at``, by the driver's clock
    because:         why it was aborted
    report:          what was measured, and how it differs from the promise; stored once, never changed
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="drills")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="drills")
    deployment_id = models.UUIDField()
    deployment = models.CharField(max_length=63)
    kind = models.CharField(max_length=24, choices=[(kind, kind) for kind in DRILL_KINDS])
    target = models.CharField(max_length=63, blank=True, default="")
    method = models.CharField(max_length=8, choices=[(method, method) for method in DRILL_METHODS])
    driver = models.CharField(max_length=8, choices=DrillDriver.choices)
    state = models.CharField(max_length=8, choices=[(state, state) for state in DRILL_STATES])
    accept_risk = models.BooleanField(default=False)
    created_by = models.CharField(max_length=200)
    plan_generation = models.BigIntegerField()
    certificate_sha256 = models.CharField(max_length=64, blank=True, default="")
    blast = models.JSONField()
    promise = models.JSONField()
    lost_cluster_ids = models.JSONField(default=list)
    lost_regions = models.JSONField(default=list)
    idle_micro_usd_per_h = models.BigIntegerField(default=0)
    limits = models.JSONField()
    fault_s = models.FloatField()
    started_at = models.DateTimeField()
    deadline_at = models.DateTimeField()
    injected_at_s = models.FloatField(null=True, blank=True)
    detected_at_s = models.FloatField(null=True, blank=True)
    repaired_at_s = models.FloatField(null=True, blank=True)
    ended_at_s = models.FloatField(null=True, blank=True)
    because = models.CharField(max_length=500, blank=True, default="")
    report = models.JSONField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=DRILL_KINDS), name="drill_kind_known"),
            models.CheckConstraint(condition=Q(method__in=DRILL_METHODS), name="drill_method_known"),
            models.CheckConstraint(condition=Q(state__in=DRILL_STATES), name="drill_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=sorted(DRILL_OPEN), ended_at=None)
                | (~Q(state__in=sorted(DRILL_OPEN)) & Q(ended_at__isnull=False)),
                name="drill_ended_has_its_moment",
            ),
            models.UniqueConstraint(
                fields=["organization"], condition=Q(state__in=sorted(DRILL_OPEN)), name="drill_one_at_a_time"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["project", "created_at", "id"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()


class DrillSamples(models.Model):
    """A batch of what a drill's clients saw, in their order; stored once by (drill, sequence)."""

    drill = models.ForeignKey(Drill, on_delete=models.CASCADE, related_name="batches")
    sequence = models.PositiveIntegerField()
    samples = models.JSONField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["drill", "sequence"], name="drill_samples_once")
        ]

    def __str__(self) -> str:
        return f"{self.drill_id} {self.sequence}"


class DrillSchedule(models.Model):
    """A drill every so many days, begun within a window of the day. By weights: nobody need watch.

    starts_at_utc:  the window's beginning, ``HH:MM``
    next_at:        the next window's beginning
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="drill_schedules")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="drill_schedules")
    deployment = models.CharField(max_length=63)
    kind = models.CharField(max_length=24, choices=[(kind, kind) for kind in DRILL_KINDS])
    target = models.CharField(max_length=63)
    every_days = models.PositiveIntegerField()
    starts_at_utc = models.CharField(max_length=5)
    window_minutes = models.PositiveIntegerField()
    limits = models.JSONField()
    fault_s = models.FloatField()
    next_at = models.DateTimeField()
    last_drill = models.ForeignKey(Drill, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "deployment", "kind", "target"], name="drill_schedule_once"
            ),
            models.CheckConstraint(
                condition=Q(every_days__gte=1, window_minutes__gte=1), name="drill_schedule_has_a_window"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_at"]),
            models.Index(fields=["project", "created_at", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target} every {counted(self.every_days, 'day')}"
