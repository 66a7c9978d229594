"""One deployment: what it is, what of it runs, how it does, and how to change or end it."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.agents.services import logs_watch
from apps.api.actors import Right
from apps.api.problems import Problem
from apps.console import sources
from apps.console.presenters.access import limits_in_words
from apps.console.presenters.deployments import conditions_view, phase_legend, replicas_by_region
from apps.console.presenters.logs import log_views
from apps.console.presenters.traffic import scaling_chart, traffic_charts
from apps.console.views.base import ConsolePage
from apps.deployments.models import Deployment
from apps.deployments.selectors import deployment_get
from apps.deployments.services import deployment_delete, deployment_redeploy, deployment_rollback

#: Of each replica, the newest.
LOG_LINES_SHOWN = 200


class DeploymentPage(ConsolePage):
    """The whole page; its living part is ``DeploymentLive``."""

    section = "deployments"
    template = "deployment.html"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self.show(deployment_get(actor=self.actor, name=name))

    def show(
        self, deployment: Deployment, *, status: int = HTTPStatus.OK, problem: Problem | None = None
    ) -> HttpResponse:
        return self.page(
            self.template,
            status=status,
            deployment=deployment,
            revisions=sources.revisions_newest(deployment=deployment),
            newer_image=sources.newer_image(deployment=deployment),
            endpoint_url=sources.endpoint_url(actor=self.actor, deployment=deployment),
            project_limits=limits_in_words(self.project),
            problem=problem,
            **self.figures(deployment),
        )

    def figures(self, deployment: Deployment) -> dict[str, Any]:
        """What changes from second to second."""
        points = sources.traffic_points(deployment=deployment)
        scaling = sources.scaling_points(deployment=deployment)
        regions = replicas_by_region(sources.replicas_of_deployment(actor=self.actor, deployment=deployment))
        return {
            "row": sources.row_of(deployment),
            "conditions": conditions_view(deployment),
            "regions": regions,
            "legend": phase_legend(regions),
            "charts": traffic_charts(points, deployment),
            "scaling": scaling_chart(scaling, deployment),
            "sized": sources.sizing_of(
                actor=self.actor, deployment=deployment, points=points, scaling=scaling
            ),
            "decisions": sources.decisions(deployment=deployment),
            "traffic": sources.recent(points),
            "micro_usd_per_h": sources.spend(actor=self.actor, deployment=deployment),
            "events": sources.events_newest(actor=self.actor, deployment_id=deployment.pk),
        }


class DeploymentLive(DeploymentPage):
    """What the page asks for again every two seconds."""

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        return self.page("_deployment_live.html", deployment=deployment, **self.figures(deployment))


class DeploymentLogs(ConsolePage):
    """What its replicas log, asked for again every two seconds while somebody looks; what it asks for is delivered."""

    section = "deployments"
    rights: ClassVar[dict[str, Right]] = {"GET": "deploy"}

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        reading = logs_watch(
            actor=self.actor, deployment=deployment, now=timezone.now(), tail=LOG_LINES_SHOWN
        )
        return self.page("_deployment_logs.html", deployment=deployment, logs=log_views(reading))


class DeploymentRollback(DeploymentPage):
    """Runs again what an older revision ran, as a new revision."""

    rights: ClassVar[dict[str, Right]] = {"POST": "deploy"}
    http_method_names = ("post",)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        wanted = request.POST.get("revision", "")
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= 9):
            raise Problem("bad_request", f"revision {wanted[:20]!r} is not a number; choose one of the list")
        try:
            deployment_rollback(actor=self.actor, deployment=deployment, revision=int(wanted))
        except Problem as problem:
            return self.show(deployment, status=problem.status, problem=problem)
        messages.success(request, f"{name} goes back to what revision {wanted} ran.")
        return redirect("console:deployment", name)


class DeploymentRedeploy(DeploymentPage):
    """Runs the same model version on the newest image of its engine, as a new revision."""

    rights: ClassVar[dict[str, Right]] = {"POST": "deploy"}
    http_method_names = ("post",)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        try:
            deployment_redeploy(actor=self.actor, deployment=deployment)
        except Problem as problem:
            return self.show(deployment, status=problem.status, problem=problem)
        messages.success(request, f"{name} moves to the newest image of its engine.")
        return redirect("console:deployment", name)


class DeploymentDelete(ConsolePage):
    """Asks for the name, then drains and deletes."""

    section = "deployments"
    rights: ClassVar[dict[str, Right]] = {"GET": "deploy", "POST": "deploy"}

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._page(deployment_get(actor=self.actor, name=name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        if request.POST.get("confirm", "").strip() != deployment.name:
            return self._page(deployment, status=HTTPStatus.UNPROCESSABLE_ENTITY, mismatch=True)
        try:
            deployment_delete(actor=self.actor, deployment=deployment)
        except Problem as problem:
            return self._page(deployment, status=problem.status, problem=problem)
        messages.success(request, f"{name} takes nothing new, drains and then stops.")
        return redirect("console:deployments")

    def _page(self, deployment: Deployment, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        present = sources.row_of(deployment).ready
        return self.page(
            "deployment_delete.html", status=status, deployment=deployment, present=present, **context
        )
