"""Assignments of a cluster that is given up: they end as they are, for nobody will report that they did."""

from datetime import datetime
from uuid import UUID

from apps.placements.models import Assignment


def assignments_end(*, cluster_id: UUID, now: datetime) -> int:
    """End all that are live; how many those were. The deployments are locked, and looked at again by the caller."""
    live = Assignment.objects.filter(pool__cluster_id=cluster_id, ended_at=None)
    return live.update(ended_at=now, draining=True, leaving=False)
