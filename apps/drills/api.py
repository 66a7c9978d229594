"""Drills over REST."""

from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.problems import Problem
from apps.api.responses import created, found, gone
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.drills import selectors, services
from apps.drills.models import Drill
from apps.drills.serializers import (
    DrillCreateSerializer,
    DrillFilters,
    DrillMomentSerializer,
    DrillPreviewSerializer,
    DrillReportMomentSerializer,
    DrillSamplesSerializer,
    DrillScheduleCreateSerializer,
    DrillScheduleSerializer,
    DrillSerializer,
    DrillWhatSerializer,
    limits_read,
)


@extend_schema(tags=["drills"])
class DrillsView(MeridianView):
    """POST begins a drill, one at a time for each organization. Refused where somebody would fall short."""

    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.PROJECT
    filters = DrillFilters
    paged = True

    @extend_schema(operation_id="drills_list", responses=page_of(DrillSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.drills(actor=self.actor, **self.filter_values), DrillSerializer)

    @extend_schema(
        operation_id="drills_create", request=DrillCreateSerializer, responses={201: DrillSerializer}
    )
    def post(self, request: Request) -> Response:
        document = self.document(DrillCreateSerializer)
        limits = limits_read(document)
        made = services.drill_start(actor=self.actor, now=timezone.now(), limits=limits, **document)
        return created(DrillSerializer(made).data, location=f"/api/v1/drills/{made.pk}")


@extend_schema(tags=["drills"])
class DrillPreviewView(MeridianView):
    """What a drill would touch, and what the certificate promises for it. Writes nothing."""

    rights: ClassVar[Rights] = {"POST": "read"}
    tenancy = Tenancy.PROJECT
    asking = True

    @extend_schema(
        operation_id="drills_preview", request=DrillWhatSerializer, responses={200: DrillPreviewSerializer}
    )
    def post(self, request: Request) -> Response:
        preview = services.drill_preview(actor=self.actor, **self.document(DrillWhatSerializer))
        shown = {
            "plan_generation": preview.stored.plan_generation,
            "blast": preview.blast(),
            "promise": preview.promise,
            "refusals": preview.broken,
        }
        return found(DrillPreviewSerializer(shown).data)


class _OneDrill(MeridianView):
    """What is done to one drill by its driver."""

    rights: ClassVar[Rights] = {"POST": "operate"}
    tenancy = Tenancy.PROJECT

    def drill(self, drill_id: str) -> Drill:
        return selectors.drill_get(actor=self.actor, drill_id=drill_id)


@extend_schema(tags=["drills"])
class DrillView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT

    @extend_schema(operation_id="drills_get", responses=DrillSerializer)
    def get(self, request: Request, drill_id: str) -> Response:
        return found(DrillSerializer(selectors.drill_get(actor=self.actor, drill_id=drill_id)).data)


@extend_schema(tags=["drills"])
class DrillSamplesView(_OneDrill):
    """What the driver's clients saw. The answer tells by its state whether the drill was ended for it."""

    @extend_schema(
        operation_id="drills_samples", request=DrillSamplesSerializer, responses={200: DrillSerializer}
    )
    def post(self, request: Request, drill_id: str) -> Response:
        document = self.document(DrillSamplesSerializer)
        told = services.drill_observe(drill=self.drill(drill_id), now=timezone.now(), **document)
        return found(DrillSerializer(told).data)


@extend_schema(tags=["drills"])
class DrillInjectView(_OneDrill):
    """The fault begins; by weights, from now on traffic stays away."""

    @extend_schema(
        operation_id="drills_inject", request=DrillMomentSerializer, responses={200: DrillSerializer}
    )
    def post(self, request: Request, drill_id: str) -> Response:
        return _gone_on(self, drill_id, "injected", **self.document(DrillMomentSerializer))


@extend_schema(tags=["drills"])
class DrillRepairView(_OneDrill):
    """The fault is over; by weights, traffic may go there again."""

    @extend_schema(
        operation_id="drills_repair", request=DrillMomentSerializer, responses={200: DrillSerializer}
    )
    def post(self, request: Request, drill_id: str) -> Response:
        return _gone_on(self, drill_id, "repaired", **self.document(DrillMomentSerializer))


@extend_schema(tags=["drills"])
class DrillReportView(_OneDrill):
    """All is measured: the report is stored beside the promise, and a difference raises an alert."""

    @extend_schema(
        operation_id="drills_report", request=DrillReportMomentSerializer, responses={200: DrillSerializer}
    )
    def post(self, request: Request, drill_id: str) -> Response:
        return _gone_on(self, drill_id, "reported", **self.document(DrillReportMomentSerializer))


def _gone_on(view: _OneDrill, drill_id: str, event: Any, **moments: Any) -> Response:
    drill = services.drill_go_on(drill=view.drill(drill_id), event=event, now=timezone.now(), **moments)
    return found(DrillSerializer(drill).data)


@extend_schema(tags=["drills"])
class DrillAbortView(_OneDrill):
    """Ends a drill at any point; what was measured is kept."""

    @extend_schema(operation_id="drills_abort", request=None, responses={200: DrillSerializer})
    def post(self, request: Request, drill_id: str) -> Response:
        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        aborted = services.drill_abort(actor=self.actor, drill=self.drill(drill_id), now=timezone.now())
        return found(DrillSerializer(aborted).data)


@extend_schema(tags=["drills"])
class DrillSchedulesView(MeridianView):
    """Drills that come again, by weights, measured by usage."""

    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.PROJECT
    paged = True

    @extend_schema(operation_id="drill_schedules_list", responses=page_of(DrillScheduleSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.schedules(actor=self.actor), DrillScheduleSerializer)

    @extend_schema(
        operation_id="drill_schedules_create",
        request=DrillScheduleCreateSerializer,
        responses={201: DrillScheduleSerializer},
    )
    def post(self, request: Request) -> Response:
        document = self.document(DrillScheduleCreateSerializer)
        limits = limits_read(document)
        made = services.schedule_create(actor=self.actor, now=timezone.now(), limits=limits, **document)
        return created(DrillScheduleSerializer(made).data, location=f"/api/v1/drill-schedules/{made.pk}")


@extend_schema(tags=["drills"])
class DrillScheduleView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "operate"}
    tenancy = Tenancy.PROJECT
    etagged = False

    @extend_schema(operation_id="drill_schedules_get", responses=DrillScheduleSerializer)
    def get(self, request: Request, schedule_id: str) -> Response:
        row = selectors.schedule_get(actor=self.actor, schedule_id=schedule_id)
        return found(DrillScheduleSerializer(row).data)

    @extend_schema(operation_id="drill_schedules_delete", responses={204: None})
    def delete(self, request: Request, schedule_id: str) -> Response:
        row = selectors.schedule_get(actor=self.actor, schedule_id=schedule_id)
        services.schedule_delete(actor=self.actor, schedule=row)
        return gone()
