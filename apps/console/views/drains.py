"""Drains and maintenance windows: seen with their progress, ordered after a look at what would be left, and lifted."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Right
from apps.api.problems import Problem, not_found
from apps.console import sources
from apps.console.forms.drains import DrainForm, DrainPlaceForm
from apps.console.views.base import ConsolePage
from apps.drains.selectors import drain_get
from apps.drains.services import drain_lift, drain_preview, drain_start


class DrainsPage(ConsolePage):
    """All of the organization, the newest first; ``?part=rows`` answers with the table alone, for polling."""

    section = "drains"

    def get(self, request: HttpRequest) -> HttpResponse:
        page, rows = sources.drain_rows(actor=self.actor, cursor=request.GET.get("cursor"))
        part = request.GET.get("part") == "rows"
        regions = (
            sorted({view.cluster.region.name for view in sources.fleet(actor=self.actor)}) if not part else []
        )
        return self.page(
            "_drains_live.html" if part else "drains.html", page=page, rows=rows, regions=regions
        )


class DrainNew(ConsolePage):
    """What would be left without a region, cluster, pool or node (``?kind=&name=``), and the form that empties it."""

    section = "drains"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(*self._place(request), DrainForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        kind, name = self._place(request)
        form = DrainForm(request.POST)
        if not form.is_valid():
            return self._page(kind, name, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        try:
            drain = drain_start(
                actor=self.actor,
                organization_id=organization_wanted(self.actor),
                kind=kind,
                name=name,
                now=timezone.now(),
                **form.cleaned_data,
            )
        except Problem as problem:
            return self._page(kind, name, form, status=problem.status, problem=form.show_problem(problem))
        messages.success(request, f"{drain} is {drain.state}.")
        return redirect("console:drains")

    def _place(self, request: HttpRequest) -> tuple[str, str]:
        form = DrainPlaceForm(request.GET)
        if not form.is_valid():
            raise not_found(request.GET.get("kind") or "kind", request.GET.get("name", ""))
        return form.cleaned_data["kind"], form.cleaned_data["name"]

    def _page(
        self, kind: str, name: str, form: DrainForm, *, status: int = HTTPStatus.OK, **context: Any
    ) -> HttpResponse:
        organization_id = organization_wanted(self.actor)
        preview = drain_preview(organization_id=organization_id, kind=kind, name=name, now=timezone.now())
        refusals = [short.refusal for short in preview.check.shortfalls]
        place = {"kind": kind, "name": name}
        return self.page(
            "drain_new.html",
            status=status,
            form=form,
            preview=preview,
            refusals=refusals,
            place=place,
            **context,
        )


class DrainLift(ConsolePage):
    """Ends a drain, whatever its state."""

    section = "drains"
    rights: ClassVar[dict[str, Right]] = {"POST": "operate"}

    def post(self, request: HttpRequest, drain_id: str) -> HttpResponse:
        drain = drain_get(actor=self.actor, drain_id=drain_id)
        try:
            drain_lift(actor=self.actor, drain=drain, now=timezone.now())
        except Problem as problem:
            messages.error(request, problem.detail)
        else:
            messages.success(request, f"{drain} is open again; placement looks at it now.")
        return redirect("console:drains")
