"""Enrolment, the tables compiled for each cluster, and the replicas that agents report."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.deployments.models import Deployment, Revision
from apps.fleet.models import Cluster, GpuPool


class PlaneState(models.Model):
    """The one row that says in which epoch this control plane speaks.

    database_identity: of the database as it was last met; another one means that it was restored or taken over
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    plane_epoch = models.BigIntegerField(default=1)
    database_identity = models.CharField(max_length=128, blank=True, default="", db_default="")

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="plane_state_is_one_row")]

    def __str__(self) -> str:
        return f"plane epoch {self.plane_epoch}"


class SigningKey(models.Model):
    """A public key with which tables are or were signed; the private half is outside the database."""

    key_id = models.CharField(max_length=32, primary_key=True)
    public_key = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    retired_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.key_id


class EnrolmentToken(models.Model):
    """Lets one agent bind its key to one cluster, once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="enrolment_tokens")
    prefix = models.CharField(max_length=16)
    sha256 = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.prefix}…"


class AgentSession(models.Model):
    """Who speaks for a cluster now. A heartbeat writes this row alone.

    epoch_confirmed:  the instance has itself named the present ``cluster_epoch``, so it has heard of it
    lease_expires_at: when the cluster counts as disconnected if nothing more is heard
    connected:        what the last event said; only the reconciliation changes it
    state_hash:       of the replicas as last reported; empty = the full state is wanted
    conditions:       the agent's judgements about its assignments, as last reported
    """

    cluster = models.OneToOneField(
        Cluster, on_delete=models.CASCADE, primary_key=True, related_name="session"
    )
    public_key = models.BinaryField(max_length=32)
    cluster_epoch = models.BigIntegerField(default=1)
    epoch_confirmed = models.BooleanField(default=False)
    instance_id = models.CharField(max_length=36, blank=True, default="")
    last_sequence = models.BigIntegerField(default=0)
    fenced_at = models.DateTimeField(null=True, blank=True)
    last_sync_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    connected = models.BooleanField(default=False)
    observed_generation = models.BigIntegerField(default=0)
    state_hash = models.CharField(max_length=64, blank=True, default="")
    facts = models.JSONField(default=dict)
    conditions = models.JSONField(default=list)
    enrolled_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"agent of {self.cluster_id} in epoch {self.cluster_epoch}"


class AgentInstance(models.Model):
    """An instance that spoke for a cluster before: how far it had counted when another took over.

    superseded_at: when it was first told so. If it counts on after that, two instances are alive.
    """

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="former_instances")
    instance_id = models.CharField(max_length=36)
    last_sequence = models.BigIntegerField()
    superseded_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "instance_id"], name="agent_instance_once_per_session")
        ]

    def __str__(self) -> str:
        return self.instance_id


class TableKind(models.TextChoices):
    DESIRED = "desired"
    ROUTING = "routing"
    KEYSET = "keyset"


class ClusterTable(models.Model):
    """The newest table of one kind for one cluster: its signed manifest."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="tables")
    kind = models.CharField(max_length=16, choices=TableKind.choices)
    generation = models.BigIntegerField()
    plane_epoch = models.BigIntegerField()
    payload = models.BinaryField()
    key_id = models.CharField(max_length=32)
    signature = models.BinaryField(max_length=64)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "kind"], name="cluster_table_once_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=TableKind.values), name="cluster_table_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.generation} of {self.cluster_id}"


class ClusterTableEntry(models.Model):
    """An entry of a table, and the generation in which it last changed: what a delta is made of."""

    table = models.ForeignKey(ClusterTable, on_delete=models.CASCADE, related_name="entries")
    key = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    payload = models.BinaryField()
    changed_generation = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["table", "key"], name="cluster_table_entry_unique")
        ]
        indexes: ClassVar = [models.Index(fields=["table", "changed_generation"])]

    def __str__(self) -> str:
        return self.key


class ServingSeat(models.Model):
    """Which cluster may serve an ``active_passive`` deployment by the tables made last. ``controlplane.failover``.

    promoted: the standby that a failure has put in the place of the one that the plan names, for as long as it stands
    """

    deployment = models.OneToOneField(
        Deployment, on_delete=models.CASCADE, primary_key=True, related_name="seat"
    )
    serving = models.ForeignKey(Cluster, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    promoted = models.ForeignKey(Cluster, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    def __str__(self) -> str:
        return f"{self.deployment_id} is served by {self.serving_id}"


class YieldingCluster(models.Model):
    """A cluster that may still serve by a table it holds: it keeps the next one waiting.

    generation: of its first routing table in which it does not serve
    leased:     whether what it may hold ends with its lease
    """

    seat = models.ForeignKey(ServingSeat, on_delete=models.CASCADE, related_name="yielding")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    generation = models.BigIntegerField()
    leased = models.BooleanField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["seat", "cluster"], name="yielding_cluster_once_per_seat")
        ]

    def __str__(self) -> str:
        return f"{self.cluster_id} until generation {self.generation}"


class ReplicaState(models.TextChoices):
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Replica(models.Model):
    """A replica as its cluster's agent reports it. ``engine`` is what truly runs. Cold start phases in seconds."""

    id = models.UUIDField(primary_key=True, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="replicas")
    assignment_id = models.UUIDField()
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="replicas")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="replicas")
    pool = models.ForeignKey(GpuPool, on_delete=models.PROTECT, related_name="replicas")
    engine = models.CharField(max_length=16)
    runtime_ref = models.CharField(max_length=255)
    state = models.CharField(max_length=16, choices=ReplicaState.choices)
    phase = models.CharField(max_length=16, null=True, blank=True)  # noqa: DJ001  (absent is not empty)
    reason = models.CharField(max_length=63, blank=True, default="")
    message = models.TextField(blank=True, default="")
    restarts = models.PositiveIntegerField(default=0)
    gpu_procurement_s = models.FloatField(null=True, blank=True)
    image_pull_s = models.FloatField(null=True, blank=True)
    weight_load_s = models.FloatField(null=True, blank=True)
    engine_start_s = models.FloatField(null=True, blank=True)
    started_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)
    observed = models.BinaryField(help_text="the ObservedReplica as sent: what state_hash is computed over")
    load = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=ReplicaState.values), name="replica_state_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment", "-started_at"]),
            models.Index(fields=["cluster"], condition=Q(gone_at=None), name="replica_present_by_cluster"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.state})"


class Node(models.Model):
    """A machine of a pool, as its cluster's agent tells it.

    cordoned:    it takes no new replica
    replica_ids: of those that hold GPUs of it
    """

    id = models.BigAutoField(primary_key=True)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    pool = models.ForeignKey(GpuPool, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=63)
    gpus = models.PositiveIntegerField()
    cordoned = models.BooleanField(default=False)
    replica_ids = models.JSONField(default=list)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "name"], name="node_once_per_cluster")
        ]
        indexes: ClassVar = [models.Index(fields=["pool"])]

    def __str__(self) -> str:
        return self.name


class StrayReplica(models.Model):
    """A replica of something that this control plane does not know (it was restored from a back-up, for example).

    Kept as reported, because it counts in ``state_hash``; it has no other effect.
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="stray_replicas")
    replica_id = models.CharField(max_length=64)
    observed = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "replica_id"], name="stray_replica_once_per_cluster")
        ]

    def __str__(self) -> str:
        return self.replica_id


class LogWatch(models.Model):
    """Somebody reads a replica's log just now. Short-lived, and in a table that is in no back-up and no WAL.

    wanted_until:  each reading moves it on; past it the agent is told to stop and the watch is forgotten
    answered_at:   when the agent last delivered; kept: whether its runtime had a log then
    last_sequence: of the last chunk; readers: who reads, each audited once per watch
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    replica = models.OneToOneField(Replica, on_delete=models.CASCADE, related_name="log_watch")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    runtime_ref = models.CharField(max_length=255)
    wanted_until = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    kept = models.BooleanField(default=True)
    last_sequence = models.BigIntegerField(default=0)
    readers = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"log of {self.replica_id} until {self.wanted_until}"


class LogLines(models.Model):
    """Lines of a watched log; only the newest are held. Its id is a reader's place."""

    watch = models.ForeignKey(LogWatch, on_delete=models.CASCADE, related_name="lines")
    text = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"lines {self.pk} of {self.watch_id}"


class ReplicaInterval(models.Model):
    """A stretch of a replica's life on GPUs that somebody pays for. Append-only but for its end, written once."""

    replica_id = models.UUIDField()
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="+")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    pool = models.ForeignKey(GpuPool, on_delete=models.PROTECT, related_name="+")
    gpus = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["replica_id", "started_at"], name="replica_interval_once"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")),
                name="replica_interval_ends_after_start",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["deployment", "started_at"]),
            models.Index(fields=["pool"], condition=Q(ended_at=None), name="replica_interval_open_by_pool"),
        ]

    def __str__(self) -> str:
        return f"{self.replica_id} from {self.started_at}"
