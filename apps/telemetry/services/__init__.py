"""Writing events, usage and metric windows."""

from apps.telemetry.services.decisions_store import decisions_store
from apps.telemetry.services.event_record import EventFacts, event_record, events_record
from apps.telemetry.services.telemetry_purge import telemetry_purge
from apps.telemetry.services.usage_store import usage_store
from apps.telemetry.services.windows_store import windows_store
from apps.telemetry.steps import steps_roll

__all__ = [
    "EventFacts",
    "decisions_store",
    "event_record",
    "events_record",
    "steps_roll",
    "telemetry_purge",
    "usage_store",
    "windows_store",
]
