"""Reading drains, and how far they are."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.selectors import organization_wanted
from apps.agents import selectors as agents
from apps.api.actors import Actor
from apps.api.problems import not_found
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
    try:
        row = drains(actor=actor).filter(pk=UUID(drain_id)).first()
    except ValueError:
        row = None
    if row is None:
        raise not_found("drain", drain_id)
    return row


def drains_in_force(*, organization_id: UUID) -> list[Drained]:
    """What is being emptied now, as placement sees it."""
    rows = Drain.objects.filter(organization_id=organization_id, state__in=IN_FORCE).order_by(
        "created_at", "pk"
    )
    return [Drained(domain=domain_of(row.kind, row.name), risk_accepted=row.accept_risk) for row in rows]


def domain_of(kind: str, name: str) -> FailureDomain:
    """A drain's place as a domain of a placement problem."""
    return FailureDomain(kind=DrainKind(kind).value, name=name)  # type: ignore[arg-type]


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


def drains_open(*, organization_id: UUID) -> list[Drain]:
    """Those of an organization that have not ended, the oldest first."""
    return list(
        Drain.objects.filter(organization_id=organization_id, ended_at=None).order_by("created_at", "pk")
    )


def pool_ids(*, drain: Drain) -> set[UUID]:
    """The pools that a drain empties, those that were added since included."""
    return _pool_ids([drain])[drain.pk]


def _pool_ids(rows: Collection[Drain]) -> dict[UUID, set[UUID]]:
    found: dict[UUID, set[UUID]] = {row.pk: set() for row in rows}
    pools = GpuPool.objects.filter(cluster__organization_id__in={row.organization_id for row in rows})
    names = pools.values_list(
        "pk", "name", "cluster__name", "cluster__region__name", "cluster__organization_id"
    )
    for pool_id, name, cluster, region, organization_id in names:
        places = {"region": region, "cluster": cluster, "pool": f"{cluster}/{name}"}
        for row in rows:
            if row.organization_id == organization_id and places[row.kind] == row.name:
                found[row.pk].add(pool_id)
    return found


def progress(*, drain: Drain, now: datetime) -> Progress:
    """How far one drain is."""
    return progress_by_drain([drain], now=now)[drain.pk]


def progress_by_drain(rows: Sequence[Drain], *, now: datetime) -> dict[UUID, Progress]:
    """How far these are, in as many queries as for one."""
    pools = _pool_ids(rows)
    fleet = _fleet(set().union(*pools.values()), {row.organization_id for row in rows})
    return {row.pk: _progress(row, pools[row.pk], fleet, now) for row in rows}


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
        gone = drain.replicas_at_start if drain.drained_at is not None else 0
        return Progress(drain.replicas_at_start, gone, here=0, present=0, deployments=(), eta_s=None)
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
        found.append(
            DeploymentProgress(
                deployment_id=deployment_id,
                project_id=rows[0].deployment.project_id,
                deployment=rows[0].deployment.name,
                here=here[deployment_id],
                wanted=sum(row.needed_replicas for row in elsewhere),
                ready=sum(min(fleet.ready.get(row.pk, 0), row.needed_replicas) for row in elsewhere),
            )
        )
    total = sum(here.values())
    return Progress(
        replicas=max(drain.replicas_at_start, total),
        gone=max(0, drain.replicas_at_start - total),
        here=total,
        present=total + staying,
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
