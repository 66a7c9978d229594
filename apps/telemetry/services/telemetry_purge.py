"""How long what was observed is kept. Usage is what bills are made of: it is never purged here."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from apps.telemetry.models import Event, MetricWindow, ScalingDecision, SpoolMark, TrafficStep

EVENTS_KEPT_FOR = timedelta(days=90)
WINDOWS_KEPT_FOR = timedelta(days=30)
#: A gateway instance that has delivered nothing for so long is gone, and its spool with it.
MARKS_KEPT_FOR = timedelta(days=90)
#: Rows a statement: a purge that is far behind must not hold locks for minutes.
ROWS_AT_ONCE = 10_000


def telemetry_purge(*, now: datetime) -> int:
    """Forget what is over its time; how many rows were forgotten."""
    old = (
        Event.objects.filter(at__lt=now - EVENTS_KEPT_FOR),
        MetricWindow.objects.filter(started_at__lt=now - WINDOWS_KEPT_FOR),
        TrafficStep.objects.filter(at__lt=now - WINDOWS_KEPT_FOR),
        ScalingDecision.objects.filter(decided_at__lt=now - WINDOWS_KEPT_FOR),
        SpoolMark.objects.filter(updated_at__lt=now - MARKS_KEPT_FOR),
    )
    return sum(_purge(found) for found in old)


def _purge(found: "QuerySet[Any]") -> int:
    forgotten = 0
    while True:
        ids = list(found.order_by("pk").values_list("pk", flat=True)[:ROWS_AT_ONCE])
        if not ids:
            return forgotten
        found.model._default_manager.filter(pk__in=ids).delete()
        forgotten += len(ids)
