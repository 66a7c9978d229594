"""Events, usage and traffic over REST."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.money import usd
from apps.api.problems import parameter_problem
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment
from apps.telemetry import selectors
from apps.telemetry.serializers import (
    DeploymentEventFilters,
    EventFilters,
    EventSerializer,
    MetricsFilters,
    MetricsSerializer,
    ScalingSerializer,
    UsageFilters,
    UsageSerializer,
)

NEWEST_FIRST = ("-id",)
SPAN_DEFAULT = timedelta(days=1)
POINTS_DEFAULT = 100

P = TypeVar("P")


@extend_schema(tags=["events"])
class EventsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = EventFilters
    paged = True

    @extend_schema(operation_id="events_list", responses=page_of(EventSerializer))
    def get(self, request: Request) -> Response:
        found = selectors.events(actor=self.actor, **self.filter_values)
        return self.page(found, EventSerializer, ordering=NEWEST_FIRST)


@extend_schema(tags=["deployments"])
class DeploymentEventsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = DeploymentEventFilters
    paged = True

    @extend_schema(operation_id="deployments_events", responses=page_of(EventSerializer))
    def get(self, request: Request, name: str) -> Response:
        deployment = deployments.deployment_get(actor=self.actor, name=name)
        found = selectors.events(actor=self.actor, deployment_id=deployment.pk, **self.filter_values)
        return self.page(found, EventSerializer, ordering=NEWEST_FIRST)


@extend_schema(tags=["usage"])
class UsageView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = UsageFilters

    @extend_schema(operation_id="usage_get", responses=UsageSerializer)
    def get(self, request: Request) -> Response:
        start, end = _span(self.filter_values)
        totals = selectors.usage_totals(
            actor=self.actor, start=start, end=end, deployment=self.filter_values.get("deployment")
        )
        return Response(UsageSerializer({"start": start, "end": end, "items": totals}).data)


@extend_schema(tags=["deployments"])
class DeploymentMetricsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = MetricsFilters

    @extend_schema(operation_id="deployments_metrics", responses=MetricsSerializer)
    def get(self, request: Request, name: str) -> Response:
        deployment = deployments.deployment_get(actor=self.actor, name=name)
        step_s, points = _stepped(selectors.latency_series, deployment, self.filter_values)
        spend = selectors.spend_micro_usd_per_h(actor=self.actor, deployment_id=deployment.pk)
        document = {"step_s": step_s, "usd_per_h": usd(spend), "points": points}
        return Response(MetricsSerializer(document).data)


@extend_schema(tags=["deployments"])
class DeploymentScalingView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = MetricsFilters

    @extend_schema(operation_id="deployments_scaling", responses=ScalingSerializer)
    def get(self, request: Request, name: str) -> Response:
        deployment = deployments.deployment_get(actor=self.actor, name=name)
        step_s, points = _stepped(selectors.scaling_series, deployment, self.filter_values)
        decisions = selectors.decisions_newest(deployment=deployment)
        document = {"step_s": step_s, "points": points, "decisions": decisions}
        return Response(ScalingSerializer(document).data)


class _Series(Protocol[P]):
    def __call__(
        self, *, deployment: Deployment, start: datetime, end: datetime, step: timedelta
    ) -> list[P]: ...


def _stepped(series: _Series[P], deployment: Deployment, filters: Mapping[str, Any]) -> tuple[int, list[P]]:
    """Seconds a step, and the series over the span that was asked for, until now: nothing is known of later.

    Raises Problem ``invalid_parameter``.
    """
    start, end = _span(filters)
    span_s = (end - start).total_seconds()
    step_s = filters.get("step_s") or max(1, -(-int(span_s) // POINTS_DEFAULT))
    end = min(end, timezone.now())
    if start >= end:
        return step_s, []
    try:
        return step_s, series(deployment=deployment, start=start, end=end, step=timedelta(seconds=step_s))
    except ValueError as error:
        raise parameter_problem("step_s", str(error), value=step_s, remedy="take a longer step") from error


def _span(filters: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """From and to. Raises Problem ``invalid_parameter``."""
    end = filters.get("to") or timezone.now()
    try:
        start = filters.get("from") or end - SPAN_DEFAULT
    except OverflowError as error:
        raise parameter_problem("to", "is before all time", value=end.isoformat()) from error
    if start >= end:
        raise parameter_problem("from", "must be before to", value=start.isoformat())
    return start, end
