"""Placement plans with their reasons and certificates."""

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate
from apps.console.presenters.plans import certificate_matrix, of_project, planned_one
from apps.console.views.base import ConsolePage
from apps.placements.selectors import plan_get, plans
from controlplane.placement import plan_decode, problem_decode


class PlansPage(ConsolePage):
    """The organization's plans, newest first."""

    section = "plans"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(plans(actor=self.actor), limit=None, cursor=request.GET.get("cursor"))
        return self.page("plans.html", page=page)


class PlanPage(ConsolePage):
    """One plan: what it survives, and for every pool of the project's deployments why it was taken or not."""

    section = "plans"

    def get(self, request: HttpRequest, generation: str) -> HttpResponse:
        row = plan_get(actor=self.actor, plan_generation=generation)
        problem, plan = problem_decode(row.problem), plan_decode(row.plan)
        own = of_project(problem, plan, self.project.pk)
        return self.page(
            "plan.html",
            plan=row,
            matrix=certificate_matrix(problem, plan, own),
            entries=[planned_one(problem, plan, deployment_id) for deployment_id in own],
        )
