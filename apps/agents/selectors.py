"""Reading what agents are and what they reported."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

import msgspec
from django.db.models import Count, F, Q, QuerySet

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.agents.leases import SERVING_LEASE_S
from apps.agents.models import (
    AgentSession,
    ClusterTable,
    Node,
    PlaneState,
    Replica,
    ReplicaInterval,
    ReplicaState,
    ServingSeat,
    SigningKey,
    TableKind,
    YieldingCluster,
)
from apps.api.actors import Actor
from apps.deployments.models import Deployment
from apps.fleet.models import Cluster
from apps.telemetry.wire_values import uuid_or_none
from workloadplane.protocol.observed import Notice

#: A retired signing key stays trusted for so long: agents that were away have until then to hear of its successor.
RETIRED_KEY_TRUSTED_FOR = timedelta(days=7)


def serving_lease() -> timedelta:
    """How long after it was last heard a cluster may serve what one cluster alone may, all margins included."""
    return timedelta(seconds=SERVING_LEASE_S)


def plane_epoch() -> int:
    """In which epoch this control plane speaks."""
    return PlaneState.objects.filter(pk=1).values_list("plane_epoch", flat=True).first() or 1


def tables_stored(*, cluster_ids: Collection[UUID], kinds: Collection[TableKind]) -> bool:
    """Whether each of these clusters has a table of each kind."""
    found = ClusterTable.objects.filter(cluster_id__in=cluster_ids, kind__in=kinds)
    return found.count() == len(cluster_ids) * len(kinds)


def deployment_ids_seated(*, organization_id: UUID) -> set[UUID]:
    """Deployments of an organization of which it is settled who serves."""
    found = ServingSeat.objects.filter(deployment__project__organization_id=organization_id)
    return set(found.values_list("deployment_id", flat=True))


def signing_keys_trusted(*, now: datetime) -> dict[str, bytes]:
    """Key id -> raw public key of every key whose signatures agents shall accept."""
    return {
        key.key_id: bytes(key.public_key)
        for key in SigningKey.objects.all()
        if key.retired_at is None or key.retired_at > now - RETIRED_KEY_TRUSTED_FOR
    }


def signing_keys() -> list[SigningKey]:
    """All keys, the oldest first."""
    return list(SigningKey.objects.order_by("created_at", "key_id"))


def clusters_behind_keyset() -> list[str]:
    """Names of enrolled clusters whose agents have not reported that they hold the newest keyset."""
    tables = ClusterTable.objects.filter(kind=TableKind.KEYSET, cluster__session__isnull=False)
    return [
        table.cluster.name
        for table in tables.select_related("cluster__session").order_by("cluster__name")
        if table.cluster.session.facts.get("held_generations", {}).get("keyset", 0) < table.generation
    ]


def cluster_yields(*, cluster_id: UUID) -> bool:
    """Whether somewhere another cluster waits for this one before it serves."""
    return YieldingCluster.objects.filter(cluster_id=cluster_id).exists()


def serving_seats() -> list[ServingSeat]:
    """All seats, each with its deployment, that one's project, and who yields."""
    return list(
        ServingSeat.objects.select_related("deployment__project")
        .prefetch_related("yielding")
        .order_by("deployment_id")
    )


def promoted_cluster_ids(*, organization_id: UUID) -> dict[UUID, UUID]:
    """By deployment, the cluster that serves because a failure has promoted it."""
    found = ServingSeat.objects.filter(
        deployment__project__organization_id=organization_id, promoted__isnull=False, serving=F("promoted")
    )
    return dict(found.values_list("deployment_id", "promoted_id"))


def ready_places(*, deployment_ids: Collection[UUID]) -> set[tuple[UUID, UUID]]:
    """(deployment, cluster) of all that have a ready replica."""
    found = Replica.objects.filter(deployment_id__in=deployment_ids, state=ReplicaState.READY, gone_at=None)
    return set(found.values_list("deployment_id", "cluster_id").distinct())


def deployment_ids_present(*, cluster_id: UUID) -> set[UUID]:
    """Deployments of which a cluster's agent reports a replica."""
    found = Replica.objects.filter(cluster_id=cluster_id, gone_at=None)
    return set(found.values_list("deployment_id", flat=True))


def revision_ids_ready(*, deployment_ids: Collection[UUID]) -> set[UUID]:
    """Revisions of these deployments that have a ready replica anywhere."""
    return set(
        Replica.objects.filter(
            deployment_id__in=deployment_ids, state=ReplicaState.READY, gone_at=None
        ).values_list("revision_id", flat=True)
    )


def conditions_by_assignment(*, cluster_ids: Collection[UUID]) -> Mapping[str, list[dict[str, object]]]:
    """Assignment id -> what the agents of these clusters last judged about it (``ObservedCondition`` as JSON)."""
    found: dict[str, list[dict[str, object]]] = {}
    for conditions in AgentSession.objects.filter(cluster_id__in=cluster_ids).values_list(
        "conditions", flat=True
    ):
        for condition in conditions:
            found.setdefault(condition["assignment_id"], []).append(condition)
    return found


#: States in which a replica holds its GPUs.
LIVING = frozenset(
    {
        ReplicaState.PENDING,
        ReplicaState.STARTING,
        ReplicaState.READY,
        ReplicaState.UNHEALTHY,
        ReplicaState.DRAINING,
    }
)


@dataclass(frozen=True)
class ReplicaCount:
    """How many replicas of one assignment are in one state, as reported."""

    deployment_id: UUID
    revision_id: UUID
    assignment_id: UUID
    cluster_id: UUID
    cluster: str
    state: str
    replicas: int


def replica_counts(*, deployment_ids: Collection[UUID]) -> list[ReplicaCount]:
    """The replicas of these deployments that agents still report, counted by assignment and state, in one query."""
    rows = (
        Replica.objects.filter(deployment_id__in=deployment_ids, gone_at=None)
        .values_list("deployment_id", "revision_id", "assignment_id", "cluster_id", "cluster__name", "state")
        .annotate(Count("pk"))
        .order_by("deployment_id", "assignment_id", "state")
    )
    return [ReplicaCount(*row) for row in rows]


#: So many starts, the newest, are looked at to learn how long one takes.
STARTS_LOOKED_AT = 200
#: Of what was held in the past; a fleet that changes more in a few weeks is looked at for less.
SPANS_LOOKED_AT = 200_000


def cold_starts_learned(*, model_version_ids: Collection[UUID]) -> Mapping[tuple[UUID, UUID], float]:
    """(model version id, instance type id) -> the median seconds from a replica's start until it was ready."""
    started = Replica.objects.filter(revision__model_version_id__in=model_version_ids, ready_at__isnull=False)
    found: dict[tuple[UUID, UUID], list[float]] = {}
    rows = started.order_by("-started_at").values_list(
        "revision__model_version_id", "pool__instance_type_id", "started_at", "ready_at"
    )
    for version_id, instance_type_id, started_at, ready_at in rows[:STARTS_LOOKED_AT]:
        if ready_at is not None:
            found.setdefault((version_id, instance_type_id), []).append(
                (ready_at - started_at).total_seconds()
            )
    return {key: median(seconds) for key, seconds in found.items()}


def replicas_living(*, pool_ids: Collection[UUID]) -> dict[tuple[UUID, UUID], int]:
    """(pool id, deployment id) -> replicas that hold GPUs there, as reported."""
    rows = Replica.objects.filter(pool_id__in=pool_ids, gone_at=None, state__in=LIVING)
    counted = rows.values_list("pool_id", "deployment_id").annotate(Count("pk")).order_by()
    return {(pool_id, deployment_id): count for pool_id, deployment_id, count in counted}


def nodes(*, actor: Actor, cluster: str | None = None, pool: str | None = None) -> QuerySet[Node]:
    """Machines of the organization's pools, as their agents tell them."""
    found = Node.objects.filter(cluster__organization_id=organization_wanted(actor), cluster__retired_at=None)
    found = found if cluster is None else found.filter(cluster__name=cluster)
    return (found if pool is None else found.filter(pool__name=pool)).select_related("cluster", "pool")


def nodes_named(*, organization_ids: Collection[UUID], names: Collection[str]) -> list[Node]:
    """Those that ``cluster/node`` names, of these organizations; their clusters and pools are loaded."""
    split = [name.split("/", 1) for name in names if "/" in name]
    found = Node.objects.filter(
        cluster__organization_id__in=organization_ids,
        cluster__name__in={cluster for cluster, _ in split},
        name__in={node for _, node in split},
    )
    return [
        row for row in found.select_related("cluster", "pool") if f"{row.cluster.name}/{row.name}" in names
    ]


@dataclass(frozen=True, slots=True)
class OnNode:
    """A replica that holds GPUs of a node, and whether it is ready."""

    deployment_id: UUID
    assignment_id: UUID
    ready: bool


def replicas_on(nodes: Iterable[Node]) -> dict[int, list[OnNode]]:
    """Node's key -> the living replicas on it."""
    rows = list(nodes)
    wanted = {found for row in rows for name in row.replica_ids if (found := uuid_or_none(name))}
    living = {
        str(pk): OnNode(deployment_id, assignment_id, state == ReplicaState.READY)
        for pk, deployment_id, assignment_id, state in Replica.objects.filter(
            pk__in=wanted, gone_at=None, state__in=LIVING
        ).values_list("pk", "deployment_id", "assignment_id", "state")
    }
    return {row.pk: [living[name] for name in row.replica_ids if name in living] for row in rows}


def replicas(
    *,
    actor: Actor,
    deployment: str | None = None,
    cluster: str | None = None,
    state: str | None = None,
    present: bool | None = None,
) -> QuerySet[Replica]:
    """Replicas, newest first: of the project for a key, of the whole organization for its members.

    present: only those that their agent still reports, or only those that it does not
    """
    found = Replica.objects.filter(cluster__organization_id=organization_wanted(actor))
    if actor.kind == "api_key":
        found = found.filter(deployment__project_id=project_wanted(actor))
    if deployment is not None:
        found = found.filter(deployment__project_id=project_wanted(actor), deployment__name=deployment)
    if cluster is not None:
        found = found.filter(cluster__name=cluster)
    if state is not None:
        found = found.filter(state=state)
    if present is not None:
        found = found.filter(gone_at__isnull=present)
    return found.select_related("deployment", "revision", "cluster", "pool").order_by("-started_at", "-id")


def replicas_of_project(
    *,
    actor: Actor,
    deployment: str | None = None,
    cluster: str | None = None,
    state: str | None = None,
    present: bool | None = None,
) -> QuerySet[Replica]:
    """As ``replicas``, of the actor's project alone."""
    found = replicas(actor=actor, deployment=deployment, cluster=cluster, state=state, present=present)
    return found.filter(deployment__project_id=project_wanted(actor))


def replica_lives(
    *, deployment: Deployment, start: datetime, end: datetime
) -> list[tuple[datetime, datetime | None]]:
    """When each replica of that time became ready, and when it ended; None while it has not."""
    rows = Replica.objects.filter(deployment=deployment, ready_at__lt=end)
    rows = rows.filter(Q(stopped_at=None) | Q(stopped_at__gte=start))
    rows = rows.filter(Q(gone_at=None) | Q(gone_at__gte=start))
    lives = rows.values_list("ready_at", "stopped_at", "gone_at")
    return [(ready_at, stopped_at or gone_at) for ready_at, stopped_at, gone_at in lives if ready_at]


@dataclass(frozen=True)
class GpusHeld:
    """So many replicas with so many GPUs each on one pool."""

    pool_id: UUID
    gpus: int
    replicas: int


def gpus_held(*, organization_id: UUID, deployment_id: UUID | None = None) -> list[GpusHeld]:
    """What an organization's replicas, or one deployment's, hold at this moment."""
    found = ReplicaInterval.objects.filter(ended_at=None, pool__cluster__organization_id=organization_id)
    if deployment_id is not None:
        found = found.filter(deployment_id=deployment_id)
    rows = found.values_list("pool_id", "gpus").annotate(Count("pk")).order_by("pool_id", "gpus")
    return [GpusHeld(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class GpusSpan:
    """So many GPUs of a pool were held; ``ended_at`` None: they still are."""

    pool_id: UUID
    gpus: int
    started_at: datetime
    ended_at: datetime | None


def gpus_spans(*, pool_ids: Collection[UUID], since: datetime) -> list[GpusSpan]:
    """What replicas held in these pools since then, ``SPANS_LOOKED_AT`` at most: the newest."""
    lasting = Q(ended_at=None) | Q(ended_at__gt=since)
    rows = ReplicaInterval.objects.filter(lasting, pool_id__in=pool_ids).order_by("-started_at")
    return [
        GpusSpan(*row)
        for row in rows.values_list("pool_id", "gpus", "started_at", "ended_at")[:SPANS_LOOKED_AT]
    ]


@dataclass(frozen=True, slots=True)
class LaunchRow:
    """A replica for which machines were asked for, and whether they were had."""

    pool_id: UUID
    at: datetime
    had: bool


def launches(*, pool_ids: Collection[UUID], since: datetime) -> list[LaunchRow]:
    """Of these pools since then, where their runtime procures machines, ``SPANS_LOOKED_AT`` at most: the newest."""
    had = Q(gpu_procurement_s__isnull=False)
    ended = Q(state__in=("stopped", "failed")) | Q(gone_at__isnull=False)
    refused = Q(phase="gpu_procurement", ready_at=None) & ended
    rows = Replica.objects.filter(had | refused, pool_id__in=pool_ids, started_at__gte=since)
    found = rows.order_by("-started_at").values_list("pool_id", "started_at", "gpu_procurement_s")
    return [LaunchRow(pool_id, at, seconds is not None) for pool_id, at, seconds in found[:SPANS_LOOKED_AT]]


@dataclass(frozen=True)
class AgentStatus:
    """Who speaks for a cluster, and what it holds. All but ``enrolled`` is empty until an agent has enrolled."""

    enrolled: bool
    connected: bool = False
    fenced: bool = False
    cluster_epoch: int | None = None
    instance_id: str | None = None
    agent_version: str | None = None
    gateway_url: str | None = None
    engine_substitutions: Mapping[str, str] = field(default_factory=dict)
    observed_generation: int | None = None
    held_generations: Mapping[str, int] = field(default_factory=dict)
    newest_generations: Mapping[str, int] = field(default_factory=dict)
    last_sync_at: datetime | None = None
    lease_expires_at: datetime | None = None


def agent_status(*, cluster: Cluster, now: datetime) -> AgentStatus:
    """What is known of a cluster's agent."""
    session = AgentSession.objects.filter(cluster=cluster).first()
    if session is None:
        return AgentStatus(enrolled=False)
    tables = ClusterTable.objects.filter(cluster=cluster).order_by("kind")
    return AgentStatus(
        enrolled=True,
        connected=session.lease_expires_at is not None and session.lease_expires_at > now,
        fenced=session.fenced_at is not None,
        cluster_epoch=session.cluster_epoch,
        instance_id=session.instance_id,
        agent_version=session.facts.get("agent_version"),
        gateway_url=cluster.gateway_url,
        engine_substitutions=session.facts.get("engine_substitutions", {}),
        observed_generation=session.observed_generation,
        held_generations=session.facts.get("held_generations", {}),
        newest_generations=dict(tables.values_list("kind", "generation")),
        last_sync_at=session.last_sync_at,
        lease_expires_at=session.lease_expires_at,
    )


@dataclass(frozen=True, slots=True)
class NoticeTold:
    """A notice as an agent tells it, and of which cluster."""

    organization_id: UUID
    cluster: str
    notice: Notice


def notices_told() -> list[NoticeTold]:
    """What agents last told of capacity that is taken back; what can't be read of it is passed over."""
    found = []
    rows = AgentSession.objects.exclude(facts__notices=[]).filter(facts__has_key="notices")
    for facts, cluster, organization_id in rows.values_list(
        "facts", "cluster__name", "cluster__organization_id"
    ):
        with suppress(msgspec.ValidationError):
            notices = msgspec.convert(facts["notices"], type=list[Notice])
            found += [NoticeTold(organization_id, cluster, notice) for notice in notices]
    return found


def sessions_by_state(*, now: datetime) -> dict[str, int]:
    """How many enrolled clusters are connected, disconnected and fenced; a fenced one counts once, as that."""
    heard = Q(fenced_at=None, lease_expires_at__gt=now)
    return AgentSession.objects.aggregate(
        connected=Count("pk", filter=heard),
        disconnected=Count("pk", filter=Q(fenced_at=None) & ~Q(lease_expires_at__gt=now)),
        fenced=Count("pk", filter=Q(fenced_at__isnull=False)),
    )


def replicas_by_state() -> dict[str, int]:
    """How many replicas all agents report, by state; states without any are 0."""
    rows = Replica.objects.filter(gone_at=None).values_list("state").annotate(Count("pk")).order_by()
    return dict.fromkeys(ReplicaState.values, 0) | dict(rows)
