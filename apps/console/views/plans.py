"""Placement plans: who runs where and why, what that costs and survives."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate, paginate_names
from apps.api.problems import Problem, not_found
from apps.console.presenters.certificates import certificate_matrix
from apps.console.presenters.plan_matrix import plan_matrix, wishes
from apps.console.presenters.plans import planned_one
from apps.console.views.base import ConsolePage
from apps.placements.documents import (
    Asker,
    Spending,
    asker_of,
    names_of_project,
    smallest_change_wanted,
    spending,
)
from apps.placements.selectors import PlanBound, plan_bound, plan_get, plans, solve_failures_told
from controlplane.placement import (
    Certificate,
    DeploymentPlan,
    certify,
    plan_decode,
    problem_decode,
)

#: Deployments on a page of the matrix.
ROWS_SHOWN = 25
WISHES_SHOWN = 20
BROKEN_SHOWN = 20


class PlansPage(ConsolePage):
    """The organization's plans, newest first."""

    section = "plans"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(plans(actor=self.actor), limit=None, cursor=request.GET.get("cursor"))
        return self.page("plans.html", page=page, tab="history")


@dataclass(frozen=True)
class Totals:
    """The head of a plan's page. Money is that of ``sums_of``, counts are the project's."""

    sums_of: str
    spent: Spending
    bound: PlanBound | None
    deployments: int
    relaxed: int
    refused: int
    broken: int


class PlanPage(ConsolePage):
    """One plan, ``latest`` is the one in force: deployments against regions, and against what may be lost."""

    section = "plans"

    def get(self, request: HttpRequest, generation: str) -> HttpResponse:
        try:
            row = plan_get(actor=self.actor, plan_generation=generation)
        except Problem:
            if generation != "latest":
                raise
            return self.page("plan_none.html", tab="plan")
        problem, plan = problem_decode(row.problem), plan_decode(row.plan)
        asker = asker_of(self.actor)
        ids = names_of_project(problem, plan, asker.project_id)
        searched = request.GET.get("name", "")
        page = paginate_names(
            (name for name in ids if searched in name),
            limit=str(ROWS_SHOWN),
            cursor=request.GET.get("cursor"),
        )
        shown = [ids[name] for name in page.items]
        certificate = certify(problem, plan, only=set(ids.values()))
        not_kept = wishes(problem, plan, ids.values())
        return self.page(
            "plan.html",
            plan=row,
            generation=generation,
            newest=generation == "latest",
            tab="plan" if generation == "latest" else "",
            failures=solve_failures_told(actor=self.actor) if generation == "latest" else (),
            page=page,
            totals=_totals(
                asker,
                spending(plan, asker.summed_ids(problem)),
                plan_bound(plan=row),
                certificate,
                [plan.by_deployment[one] for one in ids.values()],
            ),
            matrix=plan_matrix(problem, plan, shown),
            wishes=not_kept[:WISHES_SHOWN],
            wishes_left_out=max(0, len(not_kept) - WISHES_SHOWN),
            broken=(*map(str, certificate.broken_rules), *certificate.broken_promises)[:BROKEN_SHOWN],
            certificate=certificate_matrix(certificate, shown, kind=request.GET.get("loss") or None),
        )


class PlannedDeploymentPage(ConsolePage):
    """Why a plan has put one deployment where it is; ``part=reasons`` gives that part alone."""

    section = "plans"

    def get(self, request: HttpRequest, generation: str, name: str) -> HttpResponse:
        row = plan_get(actor=self.actor, plan_generation=generation)
        problem, plan = problem_decode(row.problem), plan_decode(row.plan)
        deployment_id = names_of_project(problem, plan, str(self.project.pk)).get(name)
        if deployment_id is None:
            raise not_found("deployment", name)
        return self.page(
            "_reasons.html" if request.GET.get("part") == "reasons" else "plan_deployment.html",
            plan=row,
            entry=planned_one(problem, plan, deployment_id),
            smallest_change=smallest_change_wanted(problem, plan, deployment_id),
            certificate=certificate_matrix(certify(problem, plan, only={deployment_id}), (deployment_id,)),
        )


def _totals(
    asker: Asker,
    spent: Spending,
    bound: PlanBound | None,
    certificate: Certificate,
    entries: Sequence[DeploymentPlan],
) -> Totals:
    return Totals(
        sums_of=asker.sums_of,
        spent=spent,
        bound=bound,
        deployments=len(entries),
        relaxed=sum(bool(entry.relaxed) for entry in entries),
        refused=sum(entry.refusal is not None for entry in entries),
        broken=len(certificate.broken_promises) + len(certificate.broken_rules),
    )
