"""Reading what agents are and what they reported."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count

from apps.agents.models import (
    AgentSession,
    ClusterTable,
    PlaneState,
    Replica,
    ReplicaState,
    SigningKey,
    TableKind,
)

#: A retired signing key stays trusted for so long: agents that were away have until then to hear of its successor.
RETIRED_KEY_TRUSTED_FOR = timedelta(days=7)


def plane_epoch() -> int:
    """In which epoch this control plane speaks."""
    return PlaneState.objects.filter(pk=1).values_list("plane_epoch", flat=True).first() or 1


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
