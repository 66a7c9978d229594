"""What if this traffic came: a trace replayed for several autoscaling policies."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from apps.api.actors import Right
from apps.api.problems import Problem
from apps.api.throttling import SolveThrottle
from apps.console.forms.replay import ReplayForm
from apps.console.replays import replay
from apps.console.views.base import ConsolePage


class ReplayPage(ConsolePage):
    """A trace by form; it is played while the reader waits, and nothing of it is kept."""

    section = "plans"
    rights: ClassVar[dict[str, Right]] = {"GET": "read", "POST": "read"}

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(ReplayForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = ReplayForm(request.POST, request.FILES)
        if not form.is_valid():
            return self.show(form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        throttle = SolveThrottle()
        if not throttle.allow_request(Request(request), self):
            wait = Problem("too_many_requests", f"so much was asked for; wait {throttle.wait():.0f} s")
            return self.show(form, status=wait.status, problem=wait)
        trace = form.cleaned_data["trace"]
        try:
            answer = replay(form.document(), name=trace.name, data=trace.read(), policies=form.names())
        except Problem as problem:
            return self.show(form, status=problem.status, problem=form.show_problem(problem))
        return self.show(form, replay=answer)

    def show(self, form: ReplayForm, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        """The form with what is to be said about it; htmx gets that alone, and swaps only what succeeded."""
        if self.request.headers.get("HX-Request") == "true":
            return self.page("_replay_answer.html", form=form, **context)
        return self.page("replay.html", status=status, form=form, tab="replay", **context)
