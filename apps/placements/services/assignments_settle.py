"""Assignments on their way out: the next step of each, as soon as what it waits for has happened."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.agents import selectors as agents
from apps.agents.services.tables_compile import deployments_tables_compile
from apps.placements import selectors
from apps.placements.models import Assignment
from apps.placements.services.placement_request import placement_request


@transaction.atomic
def assignments_drain(*, deployment_id: UUID, organization_id: UUID) -> None:
    """Let all of a deployment's replicas finish and stop. The deployment is locked."""
    rows = list(selectors.assignments_of_deployments(deployment_ids=[deployment_id]))
    for row in rows:
        row.draining, row.leaving, row.handover_replicas = True, False, 0
    Assignment.objects.bulk_update(rows, ["draining", "leaving", "handover_replicas"])
    placement_request(organization_id=organization_id)
    if rows:
        deployments_tables_compile(organization_id=organization_id, deployment_ids={deployment_id})


@transaction.atomic
def assignments_settle(*, deployment_ids: Collection[UUID], now: datetime) -> Mapping[UUID, set[UUID]]:
    """Drain what is leaving, and let go of what shrinks, once all that grows is ready; end what has drained.

    Organization id -> deployments of which something changed: their tables are to be compiled. The deployments are
    locked. May run twice or late: it looks only at what is there.
    """
    live = list(selectors.assignments_of_deployments(deployment_ids=deployment_ids))
    moving = [row for row in live if row.draining or row.leaving or row.handover_replicas]
    if not moving:
        return {}
    counts = agents.replica_counts(deployment_ids={row.deployment_id for row in moving})
    made = {pk for pk in {row.deployment_id for row in moving} if _is_made(pk, live, counts)}
    changed = [row for row in moving if _step(row, counts, now, made=row.deployment_id in made)]
    if not changed:
        return {}
    Assignment.objects.bulk_update(changed, ["draining", "leaving", "handover_replicas", "ended_at"])
    concerned: dict[UUID, set[UUID]] = defaultdict(set)
    for row in changed:
        concerned[row.pool.cluster.organization_id].add(row.deployment_id)
    for organization_id in sorted(concerned):
        placement_request(organization_id=organization_id)  # their room is free
    return concerned


def _is_made(
    deployment_id: UUID, live: Iterable[Assignment], counts: Collection[agents.ReplicaCount]
) -> bool:
    """Whether something stands, and each that does has ready what it must have: a surplus here makes up for nothing
    there."""
    standing = [
        row for row in live if row.deployment_id == deployment_id and not row.draining and not row.leaving
    ]
    return bool(standing) and all(_count(counts, row, {"ready"}) >= row.needed_replicas for row in standing)


def _step(row: Assignment, counts: Collection[agents.ReplicaCount], now: datetime, *, made: bool) -> bool:
    if row.draining:
        ended = _count(counts, row, agents.LIVING) == 0
        row.ended_at = now if ended else None
        return ended
    if not made:
        return False
    if row.leaving:
        row.draining, row.leaving = True, False
    row.handover_replicas = 0
    return True


def _count(counts: Iterable[agents.ReplicaCount], row: Assignment, states: Collection[str]) -> int:
    return sum(count.replicas for count in counts if count.assignment_id == row.pk and count.state in states)
