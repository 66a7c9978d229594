"""Writing events, usage and metric windows."""

from apps.telemetry.services.event_record import event_record

__all__ = ["event_record"]
