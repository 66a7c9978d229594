"""How far each gateway instance's spool is stored: what is acknowledged to the agent that delivers it.

A mark only advances over sequences that are stored without one missing. An agent delivers in order from the oldest
record it still has, so a batch that begins above the mark says that those between are nowhere any more (a damaged
line, or a control plane restored from a back-up): they are given up with an event, or nothing behind them would
ever be acknowledged.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from django.utils import timezone

from apps.fleet.models import Cluster
from apps.telemetry.models import SpoolMark
from apps.telemetry.services.event_record import EventFacts, events_record

MarkField = Literal["usage_sequence", "window_sequence"]


@dataclass(frozen=True)
class Advance:
    """A mark after a batch, and the sequences given up before it (empty range: none)."""

    mark: int
    lost: range


def advance(mark: int, sequences: Collection[int]) -> Advance:
    """Where a mark comes to when these sequences, at least one, have just been stored. Pure."""
    lowest = min(sequences)
    lost = range(mark + 1, max(lowest, mark + 1))
    reached = max(mark, lowest - 1)
    for sequence in sorted(set(sequences)):
        if sequence > reached + 1:
            break
        reached = max(reached, sequence)
    return Advance(mark=reached, lost=lost)


def spool_marks_advance(
    *, cluster: Cluster, kind: MarkField, sequences: Mapping[str, Collection[int]]
) -> dict[str, int]:
    """Advance the marks of these gateway instances in the caller's transaction; what to acknowledge of each."""
    if not sequences:
        return {}
    marks = _marks(cluster.pk, sequences)
    lost: list[EventFacts] = []
    for instance, stored in sequences.items():
        mark = marks[instance]
        advanced = advance(getattr(mark, kind), stored)
        setattr(mark, kind, advanced.mark)
        mark.updated_at = timezone.now()
        if advanced.lost:
            lost.append(_lost_event(cluster, kind, instance, advanced.lost))
    SpoolMark.objects.bulk_create(
        marks.values(),
        update_conflicts=True,
        unique_fields=["cluster_id", "gateway_instance"],
        update_fields=[kind, "updated_at"],
    )
    events_record(events=lost)
    return {instance: getattr(mark, kind) for instance, mark in marks.items()}


def _marks(cluster_id: UUID, instances: Iterable[str]) -> dict[str, SpoolMark]:
    names = list(instances)
    held = {
        mark.gateway_instance: mark
        for mark in SpoolMark.objects.filter(cluster_id=cluster_id, gateway_instance__in=names)
    }
    return {name: held.get(name) or SpoolMark(cluster_id=cluster_id, gateway_instance=name) for name in names}


def _lost_event(cluster: Cluster, kind: MarkField, instance: str, lost: range) -> EventFacts:
    what = "usage records" if kind == "usage_sequence" else "metric windows"
    return EventFacts(
        organization_id=cluster.organization_id,
        cluster_id=cluster.pk,
        severity="warning",
        reason="SpoolGap",
        message=f"{what} {lost.start} to {lost.stop - 1} of gateway {instance} in {cluster.name} were never delivered",
    )
