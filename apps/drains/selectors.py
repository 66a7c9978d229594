"""Reading drains, and how far they are."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.selectors import organization_wanted
from apps.agents import selectors as agents
from apps.agents.models import Node
from apps.api.actors import Actor
from apps.api.rows import row_by_id
from apps.deployments.models import Deployment
from apps.drains.models import Drain, DrainKind
from apps.fleet.models import GpuPool
from apps.placements.models import Assignment
from controlplane.failover import IN_FORCE
from controlplane.placement import FailureDomain
from controlplane.placement.questions.drain import Drained


@dataclass(frozen=True, slots=True)
class DeploymentProgress:
    """One deployment that is leaving: replicas still here, and elsewhere those that must be ready and are."""

    deployment_id: UUID
    project_id: UUID
    deployment: str
    here: int
    wanted: int
    ready: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a drain is. ``eta_s``: None where it is not known, or later than was expected.

    replicas, gone: that were there when the move began, and those of them that have left
    here:           that are still there; of a drain that has ended this is not followed any more
    present:        replicas that hold GPUs there, and assignments that have not ended; nothing is left at 0
    """

    replicas: int
    gone: int
    here: int
    present: int
    deployments: tuple[DeploymentProgress, ...]
    eta_s: float | None


def drains(
    *,
    actor: Actor,
    kind: str | None = None,
    name: str | None = None,
    state: str | None = None,
    ended: bool | None = None,
) -> QuerySet[Drain]:
    """Of the actor's organization. ``ended``: only those that have, or only those that have not."""
    found = Drain.objects.filter(organization_id=organization_wanted(actor))
    found = found if kind is None else found.filter(kind=kind)
    found = found if name is None else found.filter(name=name)
    found = found if state is None else found.filter(state=state)
    return found if ended is None else found.filter(ended_at__isnull=not ended)


def drain_get(*, actor: Actor, drain_id: str) -> Drain:
    """Raises Problem ``not_found``."""
    return row_by_id(drains(actor=actor), "drain", drain_id)


def drains_in_force(*, organization_id: UUID) -> list[Drained]:
    """What is being emptied now, as placement sees it."""
    rows = Drain.objects.filter(organization_id=organization_id, state__in=IN_FORCE).order_by(
        "created_at", "pk"
    )
    nodes = _nodes(rows)
    found = (drained_of(row.kind, row.name, nodes.get(row.name), accept_risk=row.accept_risk) for row in rows)
    return [drained for drained in found if drained is not None]


def drained_of(kind: str, name: str, node: Node | None, *, accept_risk: bool = False) -> Drained | None:
    """A drain's place as placement knows it: a node is an instance of its pool. None for a node that is not there."""
    if kind != DrainKind.NODE:
        domain = FailureDomain(kind=DrainKind(kind).value, name=name)  # type: ignore[arg-type]
        return Drained(domain=domain, risk_accepted=accept_risk)
    if node is None:
        return None
    pool = FailureDomain(kind="pool", name=f"{node.cluster.name}/{node.pool.name}")
    return Drained(domain=pool, risk_accepted=accept_risk, instances=1)


def node_named(*, organization_id: UUID, name: str) -> Node | None:
    """The machine that ``cluster/node`` names."""
    return next(iter(agents.nodes_named(organization_ids=[organization_id], names=[name])), None)


def nodes_cordoned(*, organization_id: UUID) -> dict[str, list[str]]:
    """Cluster -> names of its nodes that are being emptied."""
    rows = Drain.objects.filter(
        organization_id=organization_id, kind=DrainKind.NODE, state__in=IN_FORCE
    ).order_by("name")
    found: dict[str, list[str]] = defaultdict(list)
    for name in rows.values_list("name", flat=True):
        cluster, _, node = name.partition("/")
        found[cluster].append(node)
    return found


def _nodes(rows: Collection[Drain]) -> dict[str, Node]:
    """``cluster/node`` -> the machine, of one organization's drains of nodes."""
    own = [row for row in rows if row.kind == DrainKind.NODE]
    if not own:
        return {}
    found = agents.nodes_named(
        organization_ids={row.organization_id for row in own}, names={row.name for row in own}
    )
    return {f"{node.cluster.name}/{node.name}": node for node in found}


def organization_ids_draining() -> list[UUID]:
    """Organizations with a drain that has not ended."""
    return sorted(set(Drain.objects.filter(ended_at=None).values_list("organization_id", flat=True)))


def drain_held(*, organization_id: UUID, kind: str, name: str) -> Drain | None:
    """The one that is in force there, whoever ordered it."""
    return Drain.objects.filter(
        organization_id=organization_id, kind=kind, name=name, state__in=IN_FORCE
    ).first()


def drains_by_notice() -> list[Drain]:
    """Those of all organizations that notices ordered, and that have not ended."""
    return list(Drain.objects.filter(deadline_at__isnull=False, ended_at=None).order_by("created_at", "pk"))


@dataclass(frozen=True, slots=True)
class TakenBackRow:
    """A notice by which a pool lost capacity: one node of it, or all."""

    pool_id: UUID
    at: datetime
    whole: bool


def taken_back(*, pool_ids: Collection[UUID], since: datetime) -> list[TakenBackRow]:
    """What providers took back of these pools since then, the oldest first."""
    rows = Drain.objects.filter(pool_id__in=pool_ids, deadline_at__isnull=False, created_at__gte=since)
    return [
        TakenBackRow(pool_id, at, whole=kind == DrainKind.POOL)
        for pool_id, at, kind in rows.order_by("created_at", "pk").values_list(
            "pool_id", "created_at", "kind"
        )
        if pool_id is not None
    ]


def drains_by_incident(*, organization_id: UUID) -> list[Drain]:
    """Those of an organization that incidents ordered, and that have not ended."""
    return list(
        Drain.objects.filter(organization_id=organization_id, lost_at__isnull=False, ended_at=None).order_by(
            "created_at", "pk"
        )
    )


def drains_open(*, organization_id: UUID) -> list[Drain]:
    """Those of an organization that have not ended, the oldest first."""
    return list(
        Drain.objects.filter(organization_id=organization_id, ended_at=None).order_by("created_at", "pk")
    )


def pool_ids(*, drain: Drain) -> set[UUID]:
    """The pools that a drain empties, those that were added since included."""
    return _pool_ids([drain])[drain.pk]


def _pool_ids(rows: Collection[Drain]) -> dict[UUID, set[UUID]]:
    nodes = _nodes(rows)
    found: dict[UUID, set[UUID]] = {row.pk: set() for row in rows}
    for row in rows:
        if row.kind == DrainKind.NODE and row.name in nodes:
            found[row.pk].add(nodes[row.name].pool_id)
    pools = GpuPool.objects.filter(cluster__organization_id__in={row.organization_id for row in rows})
    names = pools.values_list(
        "pk", "name", "cluster__name", "cluster__region__name", "cluster__organization_id"
    )
    for pool_id, name, cluster, region, organization_id in names:
        places = {"region": region, "cluster": cluster, "pool": f"{cluster}/{name}"}
        for row in rows:
            if row.organization_id == organization_id and places.get(row.kind) == row.name:
                found[row.pk].add(pool_id)
    return found


def cluster_ids(*, drain: Drain) -> list[UUID]:
    """Of a node's drain, the cluster that it is in."""
    cluster = drain.name.partition("/")[0]
    pools = GpuPool.objects.filter(cluster__organization_id=drain.organization_id, cluster__name=cluster)
    return sorted(set(pools.values_list("cluster_id", flat=True)))


def progress(*, drain: Drain, now: datetime) -> Progress:
    """How far one drain is."""
    return progress_by_drain([drain], now=now)[drain.pk]


def progress_by_drain(rows: Sequence[Drain], *, now: datetime) -> dict[UUID, Progress]:
    """How far these are, in as many queries as for one."""
    pools = _pool_ids(rows)
    fleet = _fleet(set().union(*pools.values()), {row.organization_id for row in rows})
    nodes = _nodes(rows)
    on = agents.replicas_on(nodes.values()) if nodes else {}
    return {
        row.pk: _node_progress(row, on[nodes[row.name].pk] if row.name in nodes else (), fleet, now)
        if row.kind == DrainKind.NODE
        else _progress(row, pools[row.pk], fleet, now)
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Live assignments by deployment, replicas living by (pool, deployment), replicas ready by assignment."""

    assignments: Mapping[UUID, Sequence[Assignment]]
    living: Mapping[tuple[UUID, UUID], int]
    ready: Mapping[UUID, int]


def _fleet(pool_ids: Collection[UUID], organization_ids: Collection[UUID]) -> _Fleet:
    """Of deployments that have an assignment or a replica in these pools."""
    living = agents.replicas_living(pool_ids=pool_ids)
    there = Assignment.objects.filter(ended_at=None, pool_id__in=pool_ids).values_list(
        "deployment_id", flat=True
    )
    deployment_ids = set(there) | {deployment_id for _, deployment_id in living}
    assignments: dict[UUID, list[Assignment]] = defaultdict(list)
    live = Assignment.objects.filter(
        ended_at=None,
        deployment_id__in=deployment_ids,
        deployment__project__organization_id__in=organization_ids,
    )
    for row in live.select_related("deployment").order_by("deployment__name", "pk"):
        assignments[row.deployment_id].append(row)
    ready: dict[UUID, int] = defaultdict(int)
    for count in agents.replica_counts(deployment_ids=deployment_ids):
        if count.state == "ready":
            ready[count.assignment_id] += count.replicas
    return _Fleet(assignments, living, ready)


def _progress(drain: Drain, pool_ids: Collection[UUID], fleet: _Fleet, now: datetime) -> Progress:
    if drain.ended_at is not None:
        return _over(drain)
    here: dict[UUID, int] = defaultdict(int)
    for (pool_id, deployment_id), count in fleet.living.items():
        if pool_id in pool_ids:
            here[deployment_id] += count
    staying, found = 0, []
    for deployment_id, rows in fleet.assignments.items():
        own = sum(row.pool_id in pool_ids for row in rows)
        if not own:
            continue
        staying += own
        elsewhere = [
            row for row in rows if row.pool_id not in pool_ids and not row.leaving and not row.draining
        ]
        found.append(_deployment(elsewhere, rows[0].deployment, here[deployment_id], fleet.ready))
    return _how_far(drain, found, sum(here.values()), staying, now)


def _node_progress(drain: Drain, on: Collection[agents.OnNode], fleet: _Fleet, now: datetime) -> Progress:
    """Assignments are of pools, so only replicas count; elsewhere is also the rest of its pool."""
    if drain.ended_at is not None:
        return _over(drain)
    here = Counter(replica.deployment_id for replica in on)
    ready = Counter(fleet.ready)
    ready.subtract(replica.assignment_id for replica in on if replica.ready)
    found = []
    for deployment_id, rows in fleet.assignments.items():
        if not here[deployment_id]:
            continue
        staying = [row for row in rows if not row.leaving and not row.draining]
        found.append(_deployment(staying, rows[0].deployment, here[deployment_id], ready))
    return _how_far(drain, found, len(on), 0, now)


def _deployment(
    elsewhere: Sequence[Assignment], deployment: Deployment, here: int, ready: Mapping[UUID, int]
) -> DeploymentProgress:
    """``ready``: replicas by assignment that are ready and stay."""
    return DeploymentProgress(
        deployment_id=deployment.pk,
        project_id=deployment.project_id,
        deployment=deployment.name,
        here=here,
        wanted=sum(row.needed_replicas for row in elsewhere),
        ready=sum(min(ready.get(row.pk, 0), row.needed_replicas) for row in elsewhere),
    )


def _over(drain: Drain) -> Progress:
    """One that has ended is not followed any more."""
    gone = drain.replicas_at_start if drain.drained_at is not None else 0
    return Progress(drain.replicas_at_start, gone, here=0, present=0, deployments=(), eta_s=None)


def _how_far(
    drain: Drain, found: Iterable[DeploymentProgress], here: int, staying: int, now: datetime
) -> Progress:
    return Progress(
        replicas=max(drain.replicas_at_start, here),
        gone=max(0, drain.replicas_at_start - here),
        here=here,
        present=here + staying,
        deployments=tuple(found),
        eta_s=_eta_s(drain, now),
    )


def _eta_s(drain: Drain, now: datetime) -> float | None:
    if drain.state == "drained":
        return 0.0
    if drain.state != "moving" or drain.expected_s is None or drain.moving_since is None:
        return None
    left_s = (drain.moving_since + timedelta(seconds=drain.expected_s) - now).total_seconds()
    return left_s if left_s > 0 else None
