"""Incidents with all that is told of them, and the webhooks by which a pager hears of them."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from apps.accounts.models import Organization, Project
from apps.drills.models import Drill
from apps.incidents.record import detected_after_s
from controlplane.failover import CAUSES, INCIDENT_STATES, PLACE_KINDS, Place


class IncidentWatch(models.Model):
    """What is remembered of an organization from one look to the next.

    deaf_until: nobody was listened to for a while; who is not heard before this is not blamed for it
    event_id:   of the newest event that was looked at
    suspected:  ``[kind, name, since]`` of all places that fail, also of those that are no incident yet
    """

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    looked_at = models.DateTimeField(null=True, blank=True)
    deaf_until = models.DateTimeField(null=True, blank=True)
    event_id = models.BigIntegerField(default=0)
    suspected = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"looked at {self.looked_at}"


class Incident(models.Model):
    """One cause, from its first failure until all is sound again. States and folding: ``controlplane.failover``.

    kind, name:    the place that failed; of a replica's it is ``cluster/pool/deployment id``
    parent:        the incident that it is folded under
    drill:         the one that has brought it about
    members:       ``[kind, name]`` of all places that failed in it
    evidence:      what observers say now; what they said when it was opened is in its first entry
    last_heard_at: when the place last gave a sign of life before it failed; None where it gives none
    evidence_at:   when what observers saw was enough
    opened_at:     when the control plane had it; since: of this state
    plan_generation_before: the plan in force before it; plan_generation: the last one whose moves were noted
    members_touched: how many members it had when the deployments that it touches were last looked for
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="incidents")
    kind = models.CharField(max_length=16, choices=[(kind, kind) for kind in PLACE_KINDS])
    name = models.CharField(max_length=255)
    state = models.CharField(max_length=16, choices=[(state, state) for state in INCIDENT_STATES])
    severity = models.CharField(max_length=8, choices=[("warning", "warning"), ("error", "error")])
    cause = models.CharField(max_length=16, choices=[(cause, cause) for cause in CAUSES])
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="folded"
    )
    drill = models.ForeignKey(Drill, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    members = models.JSONField(default=list)
    evidence = models.TextField(blank=True, default="")
    last_heard_at = models.DateTimeField(null=True, blank=True)
    evidence_at = models.DateTimeField()
    opened_at = models.DateTimeField()
    since = models.DateTimeField()
    sound_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    plan_generation_before = models.BigIntegerField(default=0)
    plan_generation = models.BigIntegerField(default=0)
    members_touched = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=PLACE_KINDS), name="incident_kind_known"),
            models.CheckConstraint(condition=Q(state__in=INCIDENT_STATES), name="incident_state_known"),
            models.CheckConstraint(condition=Q(cause__in=CAUSES), name="incident_cause_known"),
            models.CheckConstraint(
                condition=Q(severity__in=["warning", "error"]), name="incident_severity_known"
            ),
            models.CheckConstraint(
                condition=Q(state="resolved", resolved_at__isnull=False)
                | (~Q(state="resolved") & Q(resolved_at=None)),
                name="incident_resolved_has_its_moment",
            ),
            models.UniqueConstraint(
                fields=["organization", "kind", "name"],
                condition=Q(resolved_at=None),
                name="incident_once_while_open",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "opened_at", "id"])]

    def __str__(self) -> str:
        return str(Place(self.kind, self.name))  # type: ignore[arg-type]

    @property
    def detected_after_s(self) -> float | None:
        """From the last sign of life until what observers saw was enough; None where there is no such sign."""
        return detected_after_s(self.last_heard_at, self.evidence_at)


class IncidentEntry(models.Model):
    """One event of an incident's time line, kept with it: events are forgotten, incidents are not.

    project: whose event it is; None where all projects may read it
    """

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="entries")
    event_id = models.BigIntegerField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="+")
    at = models.DateTimeField()
    severity = models.CharField(max_length=8)
    reason = models.CharField(max_length=63)
    message = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["incident", "event_id"], name="incident_entry_once")
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class IncidentDeployment(models.Model):
    """A deployment that an incident touched: it had replicas there by the plan before it.

    deployment: its name, kept though the deployment may go
    micro_usd_per_h_before, micro_usd_per_h: what it adds to the bill by the plan before, and by the one in force since
        ``counted_since``
    extra_micro_usd: what it has cost more until then, and when the incident was resolved in all
    """

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="deployments")
    deployment_id = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    deployment = models.CharField(max_length=63)
    micro_usd_per_h_before = models.BigIntegerField(default=0)
    micro_usd_per_h = models.BigIntegerField(default=0)
    counted_since = models.DateTimeField()
    extra_micro_usd = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["incident", "deployment_id"], name="incident_deployment_once")
        ]
        indexes: ClassVar = [models.Index(fields=["project", "incident"])]

    def __str__(self) -> str:
        return self.deployment


class IncidentMove(models.Model):
    """Replicas of a touched deployment that a plan moved meanwhile; empty pools: they start, or stop."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="moves")
    at = models.DateTimeField()
    plan_generation = models.BigIntegerField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    deployment = models.CharField(max_length=63)
    from_pool = models.CharField(max_length=127, blank=True, default="")
    to_pool = models.CharField(max_length=127, blank=True, default="")
    replicas = models.PositiveIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["incident", "plan_generation", "project", "deployment", "from_pool", "to_pool"],
                name="incident_move_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.replicas} of {self.deployment} from {self.from_pool} to {self.to_pool}"


class IncidentRecord(models.Model):
    """What is written of an incident once it is resolved: for operators, and for each project that it touched."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="records")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="+")
    markdown = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["incident", "project"], nulls_distinct=False, name="incident_record_once_per_reader"
            )
        ]

    def __str__(self) -> str:
        return f"record of {self.incident_id}"


class Webhook(models.Model):
    """Where a pager hears of incidents. Its secret is made from ``salt`` and the installation's key, stored nowhere.

    secret_sha256: of that secret, so that another key of the installation is noticed
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    salt = models.BinaryField(max_length=32)
    secret_sha256 = models.BinaryField(max_length=32)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "url"], name="webhook_url_once_in_organization")
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "created_at", "id"])]

    def __str__(self) -> str:
        return self.url


class DeliveryState(models.TextChoices):
    """waiting: its next attempt is to come; delivered: answered with 2xx; abandoned: no attempt is left."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    ABANDONED = "abandoned"


class WebhookDelivery(models.Model):
    """A message to one webhook: the queue, and the log. Its id is the message's; the same at each attempt.

    next_at:   of the next attempt; while one is on its way, when another may be made for it
    answer:    what came of the last attempt: a status, or what went wrong
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    type = models.CharField(max_length=32)
    body = models.TextField()
    state = models.CharField(max_length=16, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    next_at = models.DateTimeField()
    answer = models.CharField(max_length=255, blank=True, default="", db_default=Value(""))
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(
                condition=Q(state="waiting", ended_at=None)
                | (~Q(state="waiting") & Q(ended_at__isnull=False)),
                name="delivery_ended_has_its_moment",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["webhook", "created_at", "id"]),
            models.Index(fields=["next_at"], condition=Q(state="waiting"), name="delivery_waiting_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.type} to {self.webhook_id}"
