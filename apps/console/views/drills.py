"""The history of drills: what was promised, what was measured, and the end of one that is under way."""

from typing import ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.api.actors import Right
from apps.api.pagination import paginate
from apps.api.problems import Problem
from apps.console.views.base import ConsolePage
from apps.drills import selectors
from apps.drills.services import drill_abort
from controlplane.failover import DRILL_OPEN

#: State of a drill -> the tone in which it is shown; one that is under way is busy.
_TONES = {"passed": "ok", "differs": "bad", "aborted": "idle"}
SCHEDULES_SHOWN = 50


class DrillsPage(ConsolePage):
    """Those of the project, the newest first; ``?part=rows`` answers with the table alone, for polling."""

    section = "drills"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(selectors.drills(actor=self.actor), limit=None, cursor=request.GET.get("cursor"))
        rows = [
            {"drill": drill, "tone": _TONES.get(drill.state, "busy"), "is_open": drill.state in DRILL_OPEN}
            for drill in page.items
        ]
        if request.GET.get("part") == "rows":
            return self.page("_drills_live.html", page=page, rows=rows)
        schedules = selectors.schedules(actor=self.actor).order_by("next_at")[:SCHEDULES_SHOWN]
        return self.page("drills.html", page=page, rows=rows, schedules=schedules)


class DrillAbort(ConsolePage):
    """Ends a drill, whatever its phase."""

    section = "drills"
    rights: ClassVar[dict[str, Right]] = {"POST": "operate"}

    def post(self, request: HttpRequest, drill_id: str) -> HttpResponse:
        drill = selectors.drill_get(actor=self.actor, drill_id=drill_id)
        try:
            drill_abort(actor=self.actor, drill=drill, now=timezone.now())
        except Problem as problem:
            messages.error(request, problem.detail)
        else:
            messages.success(request, f"{drill} was aborted; traffic may go there again.")
        return redirect("console:drills")
