"""What changes from one plan to another, and what would change if the world were otherwise."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from apps.api.actors import Right
from apps.api.problems import Problem
from apps.api.throttling import SolveThrottle
from apps.console import sources
from apps.console.forms.what_if import WhatIfForm
from apps.console.presenters.plan_changes import changes_view
from apps.console.views.base import ConsolePage
from apps.placements.documents import asker_of
from apps.placements.services import placement_what_if, plans_compare


class PlanDiffPage(ConsolePage):
    """One plan against another, the one before it unless ``against`` names a generation."""

    section = "plans"

    def get(self, request: HttpRequest, generation: str) -> HttpResponse:
        comparison = plans_compare(
            actor=self.actor, plan_generation=generation, against=request.GET.get("against") or None
        )
        return self.page(
            "plan_diff.html", changes=changes_view(comparison, asker_of(self.actor)), comparison=comparison
        )


class WhatIfPage(ConsolePage):
    """A question by form; the answer is solved live and changes nothing. ``part=answer`` gives it alone."""

    section = "plans"
    rights: ClassVar[dict[str, Right]] = {"GET": "read", "POST": "read"}

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(WhatIfForm(options=sources.what_if_options(actor=self.actor)))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = WhatIfForm(request.POST, options=sources.what_if_options(actor=self.actor))
        if not form.is_valid():
            return self.show(form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        throttle = SolveThrottle()
        if not throttle.allow_request(Request(request), self):
            wait = Problem("too_many_requests", f"so many plans were asked for; wait {throttle.wait():.0f} s")
            return self.show(form, status=wait.status, problem=wait)
        try:
            comparison = placement_what_if(actor=self.actor, document=form.document(), now=timezone.now())
        except Problem as problem:
            return self.show(form, status=problem.status, problem=form.show_problem(problem))
        changes = changes_view(comparison, asker_of(self.actor))
        return self.show(form, changes=changes, comparison=comparison)

    def show(self, form: WhatIfForm, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        """The form with what is to be said about it; htmx gets that alone, and swaps only what succeeded."""
        if self.request.headers.get("HX-Request") == "true":
            return self.page("_what_if_answer.html", form=form, **context)
        return self.page("what_if.html", status=status, form=form, tab="what-if", **context)
