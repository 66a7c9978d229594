"""Writing drains: ordered, carried on, lifted. One door for their state: ``drain_enter``."""

from apps.drains.services.drain_lift import drain_lift
from apps.drains.services.drain_preview import Preview, drain_preview
from apps.drains.services.drain_start import drain_start
from apps.drains.services.drains_advance import drains_advance
from apps.drains.services.losses_take import losses_take
from apps.drains.services.notices_take import notices_take

__all__ = [
    "Preview",
    "drain_lift",
    "drain_preview",
    "drain_start",
    "drains_advance",
    "losses_take",
    "notices_take",
]
