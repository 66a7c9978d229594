"""Assignments on their way out: the next step of each, as soon as what it waits for has happened."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.agents import selectors as agents
from apps.agents.services.tables_compile import tables_compile
from apps.placements import selectors
from apps.placements.models import Assignment
from apps.placements.services.placement_request import placement_request


@transaction.atomic
def assignments_drain(*, deployment_id: UUID, organization_id: UUID) -> None:
    """Let all of a deployment's replicas finish and stop. The deployment is locked."""
    rows = list(selectors.assignments_of_deployments(deployment_ids=[deployment_id]))
    for row in rows:
        row.draining, row.leaving = True, False
    Assignment.objects.bulk_update(rows, ["draining", "leaving"])
    placement_request(organization_id=organization_id)
    if rows:
        tables_compile(cluster_ids=sorted({row.pool.cluster_id for row in rows}))


@transaction.atomic
def assignments_settle(*, deployment_ids: Collection[UUID], now: datetime) -> None:
    """Drain what is leaving once its successors are ready; end what is draining once no replica is left.

    The deployments are locked. May run twice or late: it looks only at what is there.
    """
    live = list(selectors.assignments_of_deployments(deployment_ids=deployment_ids))
    outgoing = [row for row in live if row.draining or row.leaving]
    if not outgoing:
        return
    counts = agents.replica_counts(deployment_ids={row.deployment_id for row in outgoing})
    changed = [row for row in outgoing if _step(row, live, counts, now)]
    if not changed:
        return
    Assignment.objects.bulk_update(changed, ["draining", "leaving", "ended_at"])
    for organization_id in sorted({row.pool.cluster.organization_id for row in changed}):
        placement_request(organization_id=organization_id)  # their room is free
    tables_compile(cluster_ids=sorted({row.pool.cluster_id for row in changed}))


def _step(
    row: Assignment, live: Iterable[Assignment], counts: Iterable[agents.ReplicaCount], now: datetime
) -> bool:
    if row.draining:
        left = sum(c.replicas for c in counts if c.assignment_id == row.pk and c.state in agents.LIVING)
        if left == 0:
            row.ended_at = now
        return left == 0
    successors = [
        other
        for other in live
        if other.deployment_id == row.deployment_id and not other.draining and not other.leaving
    ]
    needed = sum(other.min_replicas for other in successors)
    successor_ids = {other.pk for other in successors}
    ready = sum(c.replicas for c in counts if c.assignment_id in successor_ids and c.state == "ready")
    if ready >= needed:
        row.draining, row.leaving = True, False
        return True
    return False
