"""Plans and the assignments they made. One plan covers one organization, whose pools its deployments share."""

import uuid
from typing import Any, ClassVar

import msgspec
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Now
from psycopg.types.json import Jsonb

from apps.accounts.models import Organization
from apps.deployments.models import Deployment, Revision
from apps.fleet.models import GpuPool, Region
from workloadplane.words import counted


class StructuredField(models.JSONField):
    """JSON of a whole structure at once: three megabytes of a thousand deployments in a hundredth of a second."""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return Jsonb(value, dumps=msgspec.json.encode)

    def deconstruct(self) -> Any:
        """To the database it is as any other."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


#: Among a clock's failures, beside the kinds of solves.
ROWS_LEFT_OUT = "rows"


class PlacementClock(models.Model):
    """Per organization: which generation was asked for, and which was solved. The queue of truth for solves.

    gpu_micro_usd_per_h_by_pool, lower_bound_micro_usd_per_h: the scarcity prices and the bound of the last full solve,
        adopted or not
    failures: kind of solve -> why the last one failed; none where it did not
        (``rows``: what none of them can plan with)
    """

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, related_name="placement_clock"
    )
    wanted = models.BigIntegerField(
        default=0, help_text="raised whenever the world that placement sees has changed"
    )
    solved = models.BigIntegerField(default=0, help_text="the wanted value that the newest plan has seen")
    plan_generation = models.BigIntegerField(default=0)
    full_solved_at = models.DateTimeField(null=True, blank=True)
    gpu_micro_usd_per_h_by_pool = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    lower_bound_micro_usd_per_h = models.BigIntegerField(null=True, blank=True)
    failures = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(solved__lte=F("wanted")), name="placement_solved_at_most_wanted"
            )
        ]

    def __str__(self) -> str:
        return f"wanted {self.wanted}, solved {self.solved}"


class PlacementPlan(models.Model):
    """A decision as it was stored, never changed: the problem it saw, what it decided, and why.

    objective_micro_usd_per_h:   what it costs by ``plan_cost``; lower_bound: what any plan costs at least, if proven
    gpu_micro_usd_per_h_by_pool: the scarcity prices that it was made with or by
    certificate_sha256:          of the certificate, which names the problem and the plan by hash; worked out once the
                                 plan is in force (``plan_certify``), so that nobody waits for it
    refused, relaxed:            deployments that got a refusal, and those that had to give up a wish
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="plans")
    plan_generation = models.BigIntegerField()
    problem = StructuredField()
    plan = StructuredField()
    micro_usd_per_h = models.BigIntegerField()
    objective_micro_usd_per_h = models.BigIntegerField(null=True, blank=True)
    lower_bound_micro_usd_per_h = models.BigIntegerField(null=True, blank=True)
    gpu_micro_usd_per_h_by_pool = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    certificate_sha256 = models.CharField(max_length=64, blank=True, default="", db_default="")
    refused = models.PositiveIntegerField(default=0, db_default=0)
    relaxed = models.PositiveIntegerField(default=0, db_default=0)
    solve_s = models.FloatField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "plan_generation"], name="plan_generation_unique")
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "created_at", "id"])]

    def __str__(self) -> str:
        return f"plan {self.plan_generation}"


class Assignment(models.Model):
    """Replicas of one revision on one pool. Ended assignments stay as history.

    leaving:  the plan has moved it to another cluster; it serves on until its successors are ready, then drains
    draining: its replicas finish what they run, then stop; where a successor is in the same cluster, the agent hands
              over replica by replica
    standby:  kept warm for the loss of the cluster that serves (posture ``active_passive``)

    Between ``min_replicas``, which are kept ready, and ``max_replicas`` its cluster scales by itself; for
    ``planned_replicas``, what the demand planned for takes or what stays since a stop costs more, room is kept. While
    it moves, ``handover_replicas`` are kept ready though the bounds say less: where it goes, as many as serve where it
    leaves; where it shrinks, what serves until then.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="assignments")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="assignments")
    pool = models.ForeignKey(GpuPool, on_delete=models.PROTECT, related_name="assignments")
    plan = models.ForeignKey(PlacementPlan, on_delete=models.PROTECT, related_name="assignments")
    min_replicas = models.PositiveIntegerField()
    max_replicas = models.PositiveIntegerField()
    planned_replicas = models.PositiveIntegerField(default=0, db_default=0)
    handover_replicas = models.PositiveIntegerField(default=0, db_default=0)
    gpus_per_replica = models.PositiveIntegerField()
    standby = models.BooleanField(default=False, db_default=False)
    leaving = models.BooleanField(default=False)
    draining = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "pool"],
                condition=Q(ended_at=None),
                name="assignment_once_per_revision_and_pool",
            ),
            models.CheckConstraint(
                condition=Q(max_replicas__gte=F("min_replicas")), name="assignment_min_at_most_max"
            ),
            models.CheckConstraint(condition=Q(gpus_per_replica__gt=0), name="assignment_needs_gpus"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["deployment"], condition=Q(ended_at=None), name="assignment_live_by_deployment"
            ),
            models.Index(fields=["pool"], condition=Q(ended_at=None), name="assignment_live_by_pool"),
        ]

    def __str__(self) -> str:
        return f"{self.min_replicas} to {counted(self.max_replicas, 'replica')} of {self.revision_id} on {self.pool_id}"

    @property
    def room_replicas(self) -> int:
        """For so many of them room is kept."""
        return max(self.min_replicas, self.planned_replicas)

    @property
    def needed_replicas(self) -> int:
        """So many must be ready before what the deployment leaves may go."""
        return max(self.min_replicas, min(self.handover_replicas, self.room_replicas))


class SolveKind(models.TextChoices):
    """What a solve answers: an event, for what that touches; or everything anew, every few minutes."""

    EVENT = "event"
    FULL = "full"


class SolveOutcome(models.TextChoices):
    """adopted; unchanged: nothing to do; kept: what it saved was not worth the moves; overtaken: the world was quicker;
    failed: the last plan stays in force."""

    ADOPTED = "adopted"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    OVERTAKEN = "overtaken"
    FAILED = "failed"


class SolveCount(models.Model):
    """How often solves of one kind came to one outcome, and how long they took together."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=SolveKind.choices)
    outcome = models.CharField(max_length=16, choices=SolveOutcome.choices)
    solves = models.BigIntegerField()
    solve_s_sum = models.FloatField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "kind", "outcome"], name="solve_count_once"),
            models.CheckConstraint(condition=Q(kind__in=SolveKind.values), name="solve_kind_known"),
            models.CheckConstraint(condition=Q(outcome__in=SolveOutcome.values), name="solve_outcome_known"),
        ]

    def __str__(self) -> str:
        return f"{self.solves} of {self.kind} {self.outcome}"


class DeploymentDemand(models.Model):
    """What the clients of one region ask of a deployment, by its usage, as placement plans for it.

    Rates per second. It is left as it is until usage has moved far from it (``demand_notice``), so that plans do not
    follow every ripple. ``known_since``: how far back the deployment's usage goes.
    """

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="demands")
    origin = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="+")
    requests_per_s_p50 = models.FloatField()
    requests_per_s_p95 = models.FloatField()
    tokens_per_s_p50 = models.FloatField()
    tokens_per_s_p95 = models.FloatField()
    known_since = models.DateTimeField()
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "origin"], name="demand_once_per_origin"),
            models.CheckConstraint(
                condition=Q(requests_per_s_p50__gte=0, requests_per_s_p95__gte=F("requests_per_s_p50"))
                & Q(tokens_per_s_p50__gte=0, tokens_per_s_p95__gte=F("tokens_per_s_p50")),
                name="demand_not_negative_and_in_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.requests_per_s_p95} requests/s of {self.deployment_id} from {self.origin_id}"
