"""What an incident brings about, noted while it lasts: whom it touches, what moves, what that costs, what happens.

Plans say where replicas were and go. What one costs is what a touched deployment adds to the bill by the plan in force,
less what it added by the plan before.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from apps.deployments import selectors as deployments
from apps.fleet import selectors as fleet
from apps.incidents.models import (
    Incident,
    IncidentDeployment,
    IncidentEntry,
    IncidentMove,
)
from apps.incidents.services.incident_enter import deployment_of
from apps.placements import selectors as placements
from apps.telemetry.selectors import event_id_newest, events_about
from controlplane.placement import DeploymentPlan, PlacementPlan, plan_decode
from controlplane.placement.questions.diff import room_moves

#: Events shortly before what was seen was enough belong to it.
BEFORE: Final = timedelta(seconds=10)
#: Events may become visible out of their order: so many are looked at again.
_LATE_EVENTS: Final = 500
ENTRIES_MOST: Final = 500
#: Plans whose moves are noted in one look.
_PLANS_MOST: Final = 20
_S_PER_H: Final = 3600


def incidents_follow(
    *,
    organization_id: UUID,
    incidents: Sequence[Incident],
    cluster_id_by_name: Mapping[str, UUID],
    after_event_id: int,
    now: datetime,
) -> int:
    """Note what is new of these incidents; the id of the newest event that was looked at."""
    newest = event_id_newest(organization_id=organization_id)
    if not incidents:
        return newest
    pools = fleet.pool_names(organization_id=organization_id)
    clock = placements.clock(organization_id=organization_id)
    for incident in incidents:
        if incident.parent_id is None:
            _plans_follow(incident, pools, clock.plan_generation if clock else 0)
        after_id = 0 if incident.opened_at == now else after_event_id - _LATE_EVENTS
        _events_follow(incident, cluster_id_by_name, after_id, newest)
    return newest


def _plans_follow(incident: Incident, pools: Mapping[UUID, str], plan_generation: int) -> None:
    """Walk from the last plan that was noted to the one in force; from the first again if more places fail now."""
    grown = len(incident.members) > incident.members_touched
    if not grown and incident.plan_generation >= plan_generation:
        return
    first = incident.plan_generation_before if grown else incident.plan_generation
    last = min(plan_generation, first + _PLANS_MOST)
    rows = list(placements.plans_between(organization_id=incident.organization_id, first=first, last=last))
    plans = {row.plan_generation: (row.created_at, plan_decode(row.plan)) for row in rows}
    if grown:
        _touch(incident, plans[first][1] if first in plans else None, pools)
    touched = {str(row.deployment_id): row for row in incident.deployments.all()}
    before = plans[first][1] if first in plans else None
    for generation, (at, plan) in plans.items():
        if generation > first:
            _moved(
                incident,
                before=before,
                plan=plan,
                touched=touched,
                pools=pools,
                plan_generation=generation,
                at=at,
            )
            before = plan
    IncidentDeployment.objects.bulk_update(
        touched.values(), ["micro_usd_per_h", "counted_since", "extra_micro_usd"]
    )
    incident.plan_generation, incident.members_touched = last, len(incident.members)
    incident.save(update_fields=["plan_generation", "members_touched"])


def _touch(incident: Incident, plan: PlacementPlan | None, pools: Mapping[UUID, str]) -> None:
    """Whom it touches by the plan before it, each from the beginning."""
    lost = _pool_ids(incident, pools)
    only = deployment_of(incident)
    entries = {
        UUID(entry.deployment_id): entry
        for entry in (plan.deployments if plan else ())
        if only is None and any(row.pool_id in lost for row in entry.allocations)
    }
    if only is not None:
        own = plan.by_deployment.get(str(only)) if plan else None
        entries = {only: own or DeploymentPlan(deployment_id=str(only), generation=0, allocations=())}
    names = deployments.deployment_names(deployment_ids=entries)
    projects = deployments.project_ids(deployment_ids=entries)
    IncidentDeployment.objects.bulk_create(
        [
            IncidentDeployment(
                incident=incident,
                deployment_id=deployment_id,
                project_id=projects[deployment_id],
                deployment=names[deployment_id],
                micro_usd_per_h_before=_bill(entry),
                micro_usd_per_h=_bill(entry),
                counted_since=incident.evidence_at,
                extra_micro_usd=0,
            )
            for deployment_id, entry in entries.items()
            if deployment_id in names and deployment_id in projects
        ],
        update_conflicts=True,
        unique_fields=["incident", "deployment_id"],
        update_fields=["micro_usd_per_h", "counted_since", "extra_micro_usd"],
    )


def _pool_ids(incident: Incident, pools: Mapping[UUID, str]) -> set[str]:
    """The pools of the clusters that failed, and those that failed alone."""
    clusters = {name for kind, name in incident.members if kind == "cluster"}
    alone = {name for kind, name in incident.members if kind == "pool"}
    return {
        str(pool_id) for pool_id, name in pools.items() if name in alone or name.partition("/")[0] in clusters
    }


def _moved(
    incident: Incident,
    *,
    before: PlacementPlan | None,
    plan: PlacementPlan,
    touched: Mapping[str, IncidentDeployment],
    pools: Mapping[UUID, str],
    plan_generation: int,
    at: datetime,
) -> None:
    """One plan's moves of touched deployments, and from when on it costs something else."""
    moves = []
    for deployment_id, row in touched.items():
        former = before.by_deployment.get(deployment_id) if before else None
        entry = plan.by_deployment.get(deployment_id)
        count(row, at)
        row.micro_usd_per_h = _bill(entry)
        moves += [
            IncidentMove(
                incident=incident,
                at=at,
                plan_generation=plan_generation,
                project_id=row.project_id,
                deployment=row.deployment,
                from_pool=move.from_pool,
                to_pool=move.to_pool,
                replicas=move.replicas,
            )
            for move in room_moves(_rooms(former, pools), _rooms(entry, pools))
            if move.replicas
        ]
    IncidentMove.objects.bulk_create(moves, ignore_conflicts=True)


def count(row: IncidentDeployment, until: datetime) -> None:
    """Add what it cost more since it was counted last."""
    seconds = max(0.0, (until - row.counted_since).total_seconds())
    row.extra_micro_usd += round((row.micro_usd_per_h - row.micro_usd_per_h_before) * seconds / _S_PER_H)
    row.counted_since = max(until, row.counted_since)


def _bill(entry: DeploymentPlan | None) -> int:
    return sum(row.marginal_micro_usd_per_h for row in entry.allocations) if entry else 0


def _rooms(entry: DeploymentPlan | None, pools: Mapping[UUID, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in entry.allocations if entry else ():
        found[pools.get(UUID(row.pool_id), "a pool that is gone")] += row.room_replicas
    return found


def _events_follow(
    incident: Incident, cluster_id_by_name: Mapping[str, UUID], after_id: int, newest: int
) -> None:
    """Events of its clusters and touched deployments, as entries of its time line."""
    room = ENTRIES_MOST - incident.entries.count()
    names = {name.partition("/")[0] for kind, name in incident.members if kind in ("cluster", "pool")}
    found = events_about(
        organization_id=incident.organization_id,
        cluster_ids=[cluster_id_by_name[name] for name in names if name in cluster_id_by_name],
        deployment_ids=list(incident.deployments.values_list("deployment_id", flat=True)),
        after_id=after_id,
        since=incident.evidence_at - BEFORE,
    ).filter(id__lte=newest)
    known = set(incident.entries.values_list("event_id", flat=True))
    fresh = [event for event in found.exclude(reason__startswith="Incident") if event.pk not in known]
    IncidentEntry.objects.bulk_create(
        [
            IncidentEntry(
                incident=incident,
                event_id=event.pk,
                project_id=event.project_id,
                at=event.at,
                severity=event.severity,
                reason=event.reason,
                message=event.message,
            )
            for event in fresh[: max(0, room)]
        ],
        ignore_conflicts=True,
    )
