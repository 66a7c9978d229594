"""How every place of an organization is now: what agents report and what their gateways see, judged.

A few queries, whatever is wrong; nothing is written.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Count

from apps.agents.models import AgentSession, Replica, ReplicaState
from apps.fleet.models import Cluster
from apps.incidents.models import IncidentWatch
from apps.placements.models import Assignment
from controlplane.failover import (
    ClusterEvidence,
    Finding,
    JudgementPolicy,
    PlaneEvidence,
    ReplicaEvidence,
    Word,
    findings,
)

POLICY: Final = JudgementPolicy()
#: More peers than this no gateway has.
_WORDS_MOST: Final = 1000
_STATES: Final = frozenset({"healthy", "suspect", "ejected", "probation"})
_FAILING: Final = frozenset({ReplicaState.UNHEALTHY.value, ReplicaState.FAILED.value})


@dataclass(frozen=True)
class Places:
    """Findings of all places, and what names in them stand for.

    heard_at:  cluster -> when its agent was last heard
    looked_at: when somebody looked last
    """

    findings: tuple[Finding, ...]
    cluster_id_by_name: Mapping[str, UUID]
    heard_at: Mapping[str, datetime]
    looked_at: datetime | None


def places_find(*, organization_id: UUID, now: datetime) -> Places:
    """``now``: of the database's clock, as leases are. Clusters that are retired are no places any more."""
    clusters = list(
        Cluster.objects.filter(organization_id=organization_id, retired_at=None)
        .select_related("region__provider", "session")
        .order_by("name")
    )
    watch = IncidentWatch.objects.filter(organization_id=organization_id).first()
    is_deaf = watch is not None and watch.deaf_until is not None and now < watch.deaf_until
    words = _words(clusters, now)
    evidence = [_cluster(row, words[str(row.pk)], now, is_deaf=is_deaf) for row in clusters]
    reports = _reports(organization_id, clusters)
    return Places(
        findings=findings(evidence, reports, POLICY, _plane(watch, now, is_deaf=is_deaf)),
        cluster_id_by_name={row.name: row.pk for row in clusters},
        heard_at={
            row.name: session.last_sync_at
            for row in clusters
            if (session := _session(row)) is not None and session.last_sync_at is not None
        },
        looked_at=watch.looked_at if watch is not None else None,
    )


def _plane(watch: IncidentWatch | None, now: datetime, *, is_deaf: bool) -> PlaneEvidence | None:
    if watch is None or watch.looked_at is None:
        return None
    return PlaneEvidence(unlooked_s=max(0.0, (now - watch.looked_at).total_seconds()), is_deaf=is_deaf)


def _session(cluster: Cluster) -> AgentSession | None:
    return getattr(cluster, "session", None)


def _cluster(cluster: Cluster, words: Sequence[Word], now: datetime, *, is_deaf: bool) -> ClusterEvidence:
    session = _session(cluster)
    facts = session.facts if session is not None else {}
    gateways = facts.get("gateways_connected")
    return ClusterEvidence(
        name=cluster.name,
        region=cluster.region.name,
        provider=cluster.region.provider.name,
        heard_s=_heard_s(session, now),
        unheard_s=_unheard_s(session, now),
        is_deaf=is_deaf,
        fenced=session is not None and session.fenced_at is not None,
        gateways=gateways if isinstance(gateways, int) else None,
        unkept=str(facts.get("state_unkept") or "")[:80],
        words=tuple(words),
    )


def _heard_s(session: AgentSession | None, now: datetime) -> float | None:
    if session is None or session.lease_expires_at is None:
        return None
    if session.last_sync_at is None:
        return 0.0
    return max(0.0, (now - session.last_sync_at).total_seconds())


def _unheard_s(session: AgentSession | None, now: datetime) -> float:
    if session is None or session.lease_expires_at is None:
        return 0.0
    return max(0.0, (now - session.lease_expires_at).total_seconds())


def _words(clusters: Sequence[Cluster], now: datetime) -> Mapping[str, list[Word]]:
    """Cluster id -> what the gateways of all others say whose agents are heard: they would have said if it changed."""
    found: dict[str, list[Word]] = defaultdict(list)
    for observer in clusters:
        session = _session(observer)
        heard_s = _heard_s(session, now)
        if session is None or heard_s is None or session.fenced_at or _unheard_s(session, now) > 0:
            continue
        told = session.facts.get("peers") or []
        for peer in told[:_WORDS_MOST] if isinstance(told, list) else []:
            word = _word(observer.name, peer, heard_s)
            if word is not None and peer["cluster_id"] != str(observer.pk):
                found[peer["cluster_id"]].append(word)
    return found


def _word(observer: str, peer: Any, heard_s: float) -> Word | None:
    """None for what no agent of ours says."""
    if not isinstance(peer, dict) or not isinstance(peer.get("cluster_id"), str):
        return None
    for_s = peer.get("state_for_s")
    state = peer.get("state")
    return Word(
        observer=observer,
        state=state if state in _STATES else "unknown",
        has_lost=peer.get("has_lost") is True,
        age_s=heard_s,
        state_for_s=float(for_s) if isinstance(for_s, int | float) and for_s >= 0 else None,
        cause=str(peer.get("cause", ""))[:80],
    )


def _reports(organization_id: UUID, clusters: Sequence[Cluster]) -> list[ReplicaEvidence]:
    """What agents report of what shall run and stay, by cluster, pool and deployment."""
    rows = Assignment.objects.filter(
        ended_at=None,
        leaving=False,
        draining=False,
        deployment__deletion_requested_at=None,
        pool__cluster__organization_id=organization_id,
    ).values_list("pk", "pool__cluster__name", "pool__name", "deployment_id", "min_replicas")
    counted = (
        Replica.objects.filter(cluster__organization_id=organization_id, gone_at=None)
        .values_list("assignment_id", "state")
        .annotate(Count("pk"))
        .order_by()
    )
    states: dict[UUID, dict[str, int]] = defaultdict(dict)
    for assignment_id, state, count in counted:
        states[assignment_id][state] = count
    degraded = _degraded(clusters)
    found: dict[tuple[str, str, UUID], ReplicaEvidence] = {}
    for assignment_id, cluster, pool, deployment_id, wanted in rows:
        held = states.get(assignment_id, {})
        ready = held.get(ReplicaState.READY.value, 0)
        failing = sum(count for state, count in held.items() if state in _FAILING)
        if str(assignment_id) in degraded:
            failing = max(failing, wanted - ready)
        key = (cluster, pool, deployment_id)
        before = found.get(key)
        found[key] = ReplicaEvidence(
            cluster=cluster,
            pool=pool,
            deployment_id=str(deployment_id),
            wanted=wanted + (before.wanted if before else 0),
            ready=ready + (before.ready if before else 0),
            failing=failing + (before.failing if before else 0),
        )
    return list(found.values())


def _degraded(clusters: Sequence[Cluster]) -> set[str]:
    """Assignments of which their agents can't keep the minimum."""
    return {
        condition["assignment_id"]
        for cluster in clusters
        if (session := _session(cluster)) is not None
        for condition in session.conditions
        if condition.get("type") == "Degraded" and condition.get("status") is True
    }
