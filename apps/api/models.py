"""Idempotent answers and the audit trail."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.accounts.models import Organization, Project


class IdempotentAnswer(models.Model):
    """What a POST with an ``Idempotency-Key`` was answered, without any secret that was in it."""

    owner = models.CharField(max_length=80, help_text="who sent it: key:<id> or user:<id>")
    key = models.CharField(max_length=255)
    path = models.CharField(max_length=512)
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(
        null=True, help_text="null while the first request is under way"
    )
    body = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_unique")
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"])]

    def __str__(self) -> str:
        return f"{self.owner} {self.key}"


class AuditEvent(models.Model):
    """Who changed what: append-only, enforced by a trigger. ``before`` and ``after`` never hold secrets."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="audit_events"
    )
    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, related_name="audit_events")
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=63)
    subject_type = models.CharField(max_length=63)
    subject_id = models.CharField(max_length=64)
    subject_name = models.CharField(max_length=255)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"]),
            models.Index(fields=["project", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject_type} {self.subject_name}"
