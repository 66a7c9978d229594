"""Plans over REST."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.responses import found
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.placements import selectors, services
from apps.placements.asker import asker_of
from apps.placements.documents import (
    PlanDiffSerializer,
    WhatIfAnswerSerializer,
    diff_document,
    what_if_document,
)
from apps.placements.serializers import (
    DiffFilters,
    PlanDetailSerializer,
    PlanFilters,
    PlanSerializer,
    PlanSurvivalSerializer,
    SurviveFilters,
)
from apps.placements.what_if import WhatIfSerializer


@extend_schema(tags=["plans"])
class PlansView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    paged = True

    @extend_schema(operation_id="plans_list", responses=page_of(PlanSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.plans(actor=self.actor), PlanSerializer)


@extend_schema(tags=["plans"])
class PlanView(MeridianView):
    """A plan by its generation, or ``latest``: the deployments of one project with every pool's reason."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = PlanFilters
    paged = True

    @extend_schema(operation_id="plans_get", responses=PlanDetailSerializer)
    def get(self, request: Request, plan_generation: str) -> Response:
        plan = selectors.plan_get(actor=self.actor, plan_generation=plan_generation)
        context = {"actor": self.actor, **self.filter_values, **self.paging}
        return found(PlanDetailSerializer(plan, context=context).data)


@extend_schema(tags=["plans"])
class PlanDiffView(MeridianView):
    """What a plan has put in the place of another one, for the deployments of one project."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = DiffFilters

    @extend_schema(operation_id="plans_diff", responses=PlanDiffSerializer)
    def get(self, request: Request, plan_generation: str) -> Response:
        comparison = services.plans_compare(
            actor=self.actor, plan_generation=plan_generation, **self.filter_values
        )
        return found(diff_document(comparison, asker=asker_of(self.actor)))


@extend_schema(tags=["plans"])
class WhatIfView(MeridianView):
    """What would be planned if something were lost, priced, added or wished otherwise. Solved now; writes nothing."""

    rights: ClassVar[Rights] = {"POST": "read"}
    tenancy = Tenancy.PROJECT
    asking = True

    @extend_schema(
        operation_id="plans_what_if", request=WhatIfSerializer, responses={200: WhatIfAnswerSerializer}
    )
    def post(self, request: Request) -> Response:
        comparison = services.placement_what_if(actor=self.actor, document=request.data, now=timezone.now())
        return found(what_if_document(comparison, asker=asker_of(self.actor)))


@extend_schema(tags=["plans"])
class PlanSurviveView(MeridianView):
    """What would still be served without what ``lose`` names, with the rest of the plan as it is."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = SurviveFilters

    @extend_schema(operation_id="plans_survive", responses=PlanSurvivalSerializer)
    def get(self, request: Request, plan_generation: str) -> Response:
        plan = selectors.plan_get(actor=self.actor, plan_generation=plan_generation)
        context = {"actor": self.actor, **self.filter_values}
        return found(PlanSurvivalSerializer(plan, context=context).data)
