"""Plans over REST."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.responses import found
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.placements import selectors
from apps.placements.serializers import PlanDetailSerializer, PlanFilters, PlanSerializer


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
