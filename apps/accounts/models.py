"""Organizations, projects, people and API keys."""

import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Length, Now

models.CharField.register_lookup(Length)
models.BinaryField.register_lookup(Length)

#: A DNS label: what names of projects, deployments, clusters ... must look like.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class User(AbstractUser):
    """A person who logs in to the console."""


class Organization(models.Model):
    """A team: it owns clusters and pools, and its projects share them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="organization_name_is_a_label")
        ]

    def __str__(self) -> str:
        return self.name


class RateLimited(models.Model):
    """Limits that each gateway process holds; null = none."""

    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        abstract = True
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(Q(requests_per_minute=None) | Q(requests_per_minute__gt=0))
                & (Q(tokens_per_minute=None) | Q(tokens_per_minute__gt=0))
                & (Q(concurrent_requests=None) | Q(concurrent_requests__gt=0)),
                name="%(class)s_limits_above_zero",
            )
        ]


class Project(RateLimited):
    """The border of tenancy: models, deployments, keys and usage belong to exactly one project.

    budget_micro_usd_per_h: what its deployments may cost per hour, by their plans; null = no bound
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="projects")
    name = models.CharField(max_length=63)
    budget_micro_usd_per_h = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta(RateLimited.Meta):
        constraints: ClassVar = [
            *RateLimited.Meta.constraints,
            models.CheckConstraint(
                condition=Q(budget_micro_usd_per_h=None) | Q(budget_micro_usd_per_h__gte=0),
                name="project_budget_not_negative",
            ),
            models.UniqueConstraint(
                fields=["organization", "name"], name="project_name_unique_in_organization"
            ),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="project_name_is_a_label"),
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Membership(models.Model):
    """What a person may do in an organization: owner > operator > viewer."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once_per_organization"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class Scope(models.TextChoices):
    """What an API key may do. ``operate`` (fleet, images, keys) includes ``deploy``, which includes ``read``."""

    INFERENCE = "inference"
    READ = "read"
    DEPLOY = "deploy"
    OPERATE = "operate"


class Priority(models.TextChoices):
    """Classes of requests, as gateways queue them."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class ApiKey(RateLimited):
    """A key of one project. Only its SHA-256 is stored (the key has 256 random bits); the prefix tells keys apart."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=63)
    prefix = models.CharField(max_length=16)
    sha256 = models.BinaryField(max_length=32, unique=True)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices))
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    max_priority = models.CharField(max_length=8, choices=Priority.choices, default=Priority.NORMAL)

    class Meta(RateLimited.Meta):
        constraints: ClassVar = [
            *RateLimited.Meta.constraints,
            models.CheckConstraint(
                condition=Q(max_priority__in=Priority.values), name="api_key_max_priority_known"
            ),
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(revoked_at=None),
                name="api_key_name_unique_in_project",
            ),
            models.CheckConstraint(
                condition=Q(scopes__contained_by=Scope.values), name="api_key_scopes_known"
            ),
            models.CheckConstraint(condition=Q(scopes__len__gt=0), name="api_key_has_a_scope"),
        ]
        indexes: ClassVar = [models.Index(fields=["project", "created_at", "id"])]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
