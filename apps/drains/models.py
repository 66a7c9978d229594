"""Planned moves: a region, cluster, pool or node that is being emptied, now or in a maintenance window."""

import uuid
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Now

from apps.accounts.models import Organization
from apps.fleet.models import GpuPool
from controlplane.failover import DRAIN_STATES, ENDED, IN_FORCE, begins_at


class DrainKind(models.TextChoices):
    REGION = "region"
    CLUSTER = "cluster"
    POOL = "pool"
    NODE = "node"


class Drain(models.Model):
    """An order to empty a part of a fleet: an operator's, a notice's or an incident's.

    States and what follows them: ``controlplane.failover``.

    name:        of the region or cluster, or ``cluster/pool``, or ``cluster/node``
    deadline_at: when its provider takes it back, by a notice that the agent has; None: no notice orders it
    pool:        of which a notice takes back all or one node; nodes are forgotten when they are gone
    lost_at:     since when it is lost, by an incident; None: no incident orders it
    starts_at:   when all shall have moved; None: as soon as possible
    ends_at:     when it is open again by itself; None: when somebody says so
    accept_risk: whether it goes on though a promise breaks; ``accepted_by`` says who decided that
    shortfalls:  what was short when it was last checked, and for whom
    expected_s:  until all has moved, by what was known then; None: not known
    replicas_at_start: how many were there when the move began
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="drains")
    kind = models.CharField(max_length=16, choices=DrainKind.choices)
    name = models.CharField(max_length=127)
    reason = models.CharField(max_length=255, blank=True, default="")
    state = models.CharField(max_length=16, choices=[(state, state) for state in DRAIN_STATES])
    accept_risk = models.BooleanField(default=False)
    accepted_by = models.CharField(max_length=200, blank=True, default="")
    created_by = models.CharField(max_length=200)
    deadline_at = models.DateTimeField(null=True, blank=True)
    pool = models.ForeignKey(GpuPool, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    lost_at = models.DateTimeField(null=True, blank=True)
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    expected_s = models.FloatField(null=True, blank=True)
    shortfalls = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    replicas_at_start = models.PositiveIntegerField(default=0, db_default=0)
    moving_since = models.DateTimeField(null=True, blank=True)
    drained_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=DrainKind.values), name="drain_kind_known"),
            models.CheckConstraint(condition=Q(state__in=DRAIN_STATES), name="drain_state_known"),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(starts_at=None) | Q(ends_at__gt=F("starts_at")),
                name="drain_ends_after_start",
            ),
            models.CheckConstraint(
                condition=Q(state__in=ENDED, ended_at__isnull=False)
                | (~Q(state__in=ENDED) & Q(ended_at=None)),
                name="drain_ended_has_its_moment",
            ),
            models.UniqueConstraint(
                fields=["organization", "kind", "name"],
                condition=Q(state__in=IN_FORCE),
                name="drain_in_force_once",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "created_at", "id"]),
            models.Index(
                fields=["organization"], condition=Q(ended_at=None), name="drain_open_by_organization"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def by_notice(self) -> bool:
        """Whether a notice ordered it: then it lasts as long as that stands."""
        return self.deadline_at is not None

    @property
    def by_incident(self) -> bool:
        """Whether an incident ordered it: then it lasts until that is resolved."""
        return self.lost_at is not None

    @property
    def begins_at(self) -> datetime | None:
        """When the move of a window begins; None where it does not wait for one."""
        return None if self.starts_at is None else begins_at(self.starts_at, self.expected_s)
