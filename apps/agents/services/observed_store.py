"""What an agent observes, stored: the replicas, what became of them, what they cost from when to when.

The agent sends what changed; both sides hash the whole afterwards. Where the hashes differ the full state is asked
for, and that is taken as it is.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.agents import selectors
from apps.agents.models import AgentSession, Replica, ReplicaState, StrayReplica
from apps.agents.observations import ENDED_STATES, encoded, events_of, replica_row
from apps.agents.services.agent_enrol import gateway_url_is_good
from apps.agents.services.intervals_store import intervals_store
from apps.agents.services.nodes_store import nodes_store
from apps.agents.services.tables_compile import tables_compile
from apps.api.services.doorbell_ring import doorbell_ring
from apps.fleet.services.cluster_gateway_set import cluster_gateway_set
from apps.placements import selectors as placements
from apps.placements.models import Assignment
from apps.telemetry.services import events_record
from apps.telemetry.wire_values import storable, uuid_or_none
from workloadplane.protocol.observed import ObservedDelta

NOTICES_TASK = "apps.drains.tasks.notices_take"
_UPDATED = [
    "assignment_id", "deployment", "revision", "pool", "engine", "runtime_ref", "state", "phase", "reason", "message",
    "restarts", "gpu_procurement_s", "image_pull_s", "weight_load_s", "engine_start_s", "started_at", "ready_at",
    "stopped_at", "gone_at", "observed",
]  # fmt: skip


@dataclass
class _Held:
    """What is stored of a cluster before the delta, and then after it."""

    rows: dict[str, Replica]  # present ones, and those of this delta that were gone already
    strays: dict[str, bytes]
    foreign: set[str]  # ids of this delta that belong to replicas of other clusters

    def state_hash(self) -> str:
        """As ``workloadplane.protocol.observed.observed_hash`` computes it from the same replicas."""
        present = {name: bytes(row.observed) for name, row in self.rows.items() if row.gone_at is None}
        hasher = hashlib.sha256()
        for _, payload in sorted((present | self.strays).items()):
            hasher.update(payload)
            hasher.update(b"\n")
        return hasher.hexdigest()


def observed_store(*, session: AgentSession, delta: ObservedDelta, now: datetime) -> bool:
    """Store a delta in the caller's transaction and say whether the full state is wanted.

    ``session`` is locked, and saved by the caller.
    """
    from apps.deployments.selectors import deployments_locked
    from apps.deployments.services import deployment_observe

    held = _held(session.cluster_id, delta)
    assignments = _assignments(session, delta)
    ready_before = _ready(held.rows.values())
    touched = _replicas_store(session.cluster_id, held, delta, assignments, now)
    _strays_store(session.cluster_id, held, delta, touched)
    intervals_store(replicas=touched, now=now)
    stored_hash = held.state_hash()
    full_wanted = stored_hash != delta.state_hash and not delta.full
    session.state_hash = "" if full_wanted else stored_hash
    session.observed_generation = delta.observed_generation
    deployment_ids = {row.deployment_id for row in touched}
    deployment_ids |= {
        assignments[assignment_id].deployment_id
        for assignment_id in _conditions_store(session, delta)
        if assignment_id in assignments
    }
    if deployment_ids and _gateway_moves(session, delta):
        # Locks are taken in one order everywhere: deployments, clusters, the placement clock.
        deployments_locked(ids=sorted(deployment_ids))
    gateways_held = session.facts.get("gateway_generations")
    notices_held = session.facts.get("notices", [])
    moved = _facts_store(session, delta)
    if session.facts["notices"] != notices_held:
        doorbell_ring(NOTICES_TASK)
    yields = session.facts.get("gateway_generations") != gateways_held and selectors.cluster_yields(
        cluster_id=session.cluster_id
    )
    if deployment_ids:
        deployment_observe(deployment_ids=sorted(deployment_ids))
    changed = {row.deployment_id for row in ready_before ^ _ready(held.rows.values())}
    if yields:
        session.save(update_fields=["facts"])  # who may serve is decided by it
    if moved or yields or (changed and placements.deployment_ids_changing_revision(deployment_ids=changed)):
        tables_compile(cluster_ids=[session.cluster_id])
    return full_wanted


@dataclass(frozen=True)
class _ReadyReplica:
    replica_id: UUID
    deployment_id: UUID


def _ready(rows: Iterable[Replica]) -> set[_ReadyReplica]:
    return {
        _ReadyReplica(row.pk, row.deployment_id)
        for row in rows
        if row.state == ReplicaState.READY and row.gone_at is None
    }


def _held(cluster_id: UUID, delta: ObservedDelta) -> _Held:
    named = {identifier for r in delta.replicas if (identifier := uuid_or_none(r.replica_id)) is not None}
    rows = {str(row.pk): row for row in Replica.objects.filter(cluster_id=cluster_id, gone_at=None)}
    foreign = set()
    for row in Replica.objects.filter(pk__in=named - {row.pk for row in rows.values()}):
        if row.cluster_id == cluster_id:
            rows[str(row.pk)] = row
        else:
            foreign.add(str(row.pk))
    strays = StrayReplica.objects.filter(cluster_id=cluster_id).values_list("replica_id", "observed")
    return _Held(rows=rows, strays={name: bytes(observed) for name, observed in strays}, foreign=foreign)


def _assignments(session: AgentSession, delta: ObservedDelta) -> dict[UUID, Assignment]:
    """All assignments that the delta speaks of, or of which the agent had said something before."""
    named = {r.assignment_id for r in delta.replicas} | {c.assignment_id for c in delta.conditions}
    named |= {condition["assignment_id"] for condition in session.conditions}
    wanted = {identifier for name in named if (identifier := uuid_or_none(name)) is not None}
    return placements.assignments_by_id(cluster_id=session.cluster_id, assignment_ids=wanted)


def _replicas_store(
    cluster_id: UUID,
    held: _Held,
    delta: ObservedDelta,
    assignments: dict[UUID, Assignment],
    now: datetime,
) -> list[Replica]:
    """Upsert what is known, end what is gone, write the events; the rows that were touched."""
    states_before = {row.pk: row.state for row in held.rows.values()}
    stored = []
    for replica in delta.replicas:
        assignment_id = uuid_or_none(replica.assignment_id)
        row = replica_row(replica, assignments.get(assignment_id) if assignment_id else None)
        if row is not None and replica.replica_id not in held.foreign:
            stored.append(row)
    gone = _end(held, _gone_ids(held, delta), now)
    if stored:
        Replica.objects.bulk_create(
            stored, batch_size=1000, update_conflicts=True, unique_fields=["id"], update_fields=_UPDATED
        )
    held.rows.update({str(row.pk): row for row in stored})
    events_record(events=events_of(stored, states_before, assignments))
    return [*stored, *gone]


def _gone_ids(held: _Held, delta: ObservedDelta) -> set[str]:
    present = {name for name, row in held.rows.items() if row.gone_at is None}
    if delta.full:
        return present - {replica.replica_id for replica in delta.replicas}
    return present & set(delta.gone)


def _end(held: _Held, gone_ids: Collection[str], now: datetime) -> list[Replica]:
    """A replica that is gone without having been seen to stop has stopped at the latest now."""
    rows = [held.rows[name] for name in sorted(gone_ids)]
    for row in rows:
        row.gone_at = now
        if row.state not in ENDED_STATES:
            row.state = ReplicaState.STOPPED
            row.stopped_at = row.stopped_at or now
    if rows:
        Replica.objects.bulk_update(rows, ["gone_at", "state", "stopped_at"], batch_size=1000)
    return rows


def _strays_store(cluster_id: UUID, held: _Held, delta: ObservedDelta, touched: Iterable[Replica]) -> None:
    stored = {str(row.pk) for row in touched if row.gone_at is None}
    strays = {r.replica_id: encoded(r) for r in delta.replicas if r.replica_id not in stored}
    known = held.strays.keys()
    ended = known - strays.keys() if delta.full else known & (stored | set(delta.gone))
    if ended:
        StrayReplica.objects.filter(cluster_id=cluster_id, replica_id__in=ended).delete()
    if strays:
        StrayReplica.objects.bulk_create(
            (
                StrayReplica(cluster_id=cluster_id, replica_id=name, observed=payload)
                for name, payload in strays.items()
                if len(name) <= 64 and "\x00" not in name
            ),
            update_conflicts=True,
            unique_fields=["cluster", "replica_id"],
            update_fields=["observed"],
        )
    held.strays = {name: payload for name, payload in held.strays.items() if name not in ended} | strays


def _conditions_store(session: AgentSession, delta: ObservedDelta) -> set[UUID]:
    """Keep the agent's judgements; the assignments of those that came, went or changed."""
    before = {_canonical(condition) for condition in session.conditions}
    session.conditions = storable(delta.conditions)
    after = {_canonical(condition) for condition in session.conditions}
    session.save(update_fields=["conditions"])  # those who judge the deployments read it
    named = {json.loads(condition)["assignment_id"] for condition in before ^ after}
    return {identifier for name in named if (identifier := uuid_or_none(name)) is not None}


def _canonical(condition: object) -> str:
    return json.dumps(condition, sort_keys=True)


def _facts_store(session: AgentSession, delta: ObservedDelta) -> bool:
    """Keep what the agent says of its cluster; whether its gateway has moved."""
    nodes_store(session=session, nodes=delta.facts.nodes)
    session.facts = storable(delta.facts) | {"nodes": len(delta.facts.nodes)}
    if not _gateway_moves(session, delta):
        return False
    return cluster_gateway_set(cluster=session.cluster, gateway_url=delta.facts.gateway_url)


def _gateway_moves(session: AgentSession, delta: ObservedDelta) -> bool:
    url = delta.facts.gateway_url
    return url != session.cluster.gateway_url and gateway_url_is_good(url)
