"""From when to when a replica held GPUs: what its cost is computed from.

An interval opens with the replica's creation and ends when it stopped, by the agent's clock but never later than now
by ours. It errs on the dear side by the seconds between a stop and the report of it where the agent did not see the
stop itself.
"""

from collections.abc import Sequence
from datetime import datetime

from apps.agents.models import Replica, ReplicaInterval
from apps.agents.observations import ENDED_STATES
from apps.placements import selectors as placements


def intervals_store(*, replicas: Sequence[Replica], now: datetime) -> None:
    """Open and end the intervals of replicas that have just been stored."""
    if not replicas:
        return
    known: dict[object, list[ReplicaInterval]] = {}
    for interval in ReplicaInterval.objects.filter(replica_id__in=[row.pk for row in replicas]):
        known.setdefault(interval.replica_id, []).append(interval)
    gpus = placements.gpus_by_assignment(assignment_ids={row.assignment_id for row in replicas})
    opened, ended = [], []
    for row in replicas:
        intervals = known.get(row.pk, [])
        running = next((interval for interval in intervals if interval.ended_at is None), None)
        alive = row.gone_at is None and row.state not in ENDED_STATES
        if running is not None and not alive:
            running.ended_at = max(running.started_at, min(row.stopped_at or now, now))
            ended.append(running)
        elif running is None and (alive or not intervals):
            opened.append(
                _interval(row, gpus.get(row.assignment_id, 1), now, again=bool(intervals), alive=alive)
            )
    ReplicaInterval.objects.bulk_create(opened, ignore_conflicts=True)
    ReplicaInterval.objects.bulk_update(ended, ["ended_at"])


def _interval(row: Replica, gpus: int, now: datetime, *, again: bool, alive: bool) -> ReplicaInterval:
    started_at = now if again else min(row.started_at, now)
    return ReplicaInterval(
        replica_id=row.pk,
        deployment_id=row.deployment_id,
        revision_id=row.revision_id,
        pool_id=row.pool_id,
        gpus=gpus,
        started_at=started_at,
        ended_at=None if alive else max(started_at, min(row.stopped_at or now, now)),
    )
