"""Writing drills: stated, started, measured, ended. One door for their state: ``drill_enter``."""

from apps.drills.services.drill_go_on import drill_abort, drill_go_on, drill_observe
from apps.drills.services.drill_preview import DrillPreview, drill_preview
from apps.drills.services.drill_start import drill_start
from apps.drills.services.drills_advance import drills_advance
from apps.drills.services.schedules import schedule_create, schedule_delete

__all__ = [
    "DrillPreview",
    "drill_abort",
    "drill_go_on",
    "drill_observe",
    "drill_preview",
    "drill_start",
    "drills_advance",
    "schedule_create",
    "schedule_delete",
]
