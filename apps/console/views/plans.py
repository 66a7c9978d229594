"""Placement plans with their reasons and certificates."""

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate
from apps.console.presenters.plans import certificate_matrix, planned
from apps.console.views.base import ConsolePage
from apps.placements.selectors import plan_get, plans
from controlplane.placement import certify, plan_decode, problem_decode


class PlansPage(ConsolePage):
    """The organization's plans, newest first."""

    section = "plans"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(plans(actor=self.actor), limit=None, cursor=request.GET.get("cursor"))
        return self.page("plans.html", page=page)


class PlanPage(ConsolePage):
    """One plan: what it survives, and for every pool of every deployment why it was taken or not."""

    section = "plans"

    def get(self, request: HttpRequest, generation: str) -> HttpResponse:
        row = plan_get(actor=self.actor, plan_generation=generation)
        problem, plan = problem_decode(row.problem), plan_decode(row.plan)
        return self.page(
            "plan.html",
            plan=row,
            matrix=certificate_matrix(certify(problem, plan)),
            entries=planned(problem, plan),
        )
