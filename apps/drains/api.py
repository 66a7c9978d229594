"""Planned moves over REST."""

from collections.abc import Sequence
from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.selectors import organization_wanted
from apps.api.pagination import paginate
from apps.api.problems import Problem
from apps.api.responses import created, found
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.drains import selectors, services
from apps.drains.models import Drain
from apps.drains.serializers import (
    DrainCreateSerializer,
    DrainFilters,
    DrainPlaceSerializer,
    DrainPreviewSerializer,
    DrainSerializer,
)
from apps.drains.services.drain_preview import preview_shown


def _with_progress(rows: Sequence[Drain]) -> list[Drain]:
    """Each with how far it is, in as many queries as for one."""
    found = selectors.progress_by_drain(rows, now=timezone.now())
    for row in rows:
        row.progress = found[row.pk]  # type: ignore[attr-defined]
    return list(rows)


@extend_schema(tags=["drains"])
class DrainsView(MeridianView):
    """POST empties a region, cluster, pool or node: at once, or for a window. Refused where a promise would break."""

    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    filters = DrainFilters
    paged = True

    @extend_schema(operation_id="drains_list", responses=page_of(DrainSerializer))
    def get(self, request: Request) -> Response:
        rows = selectors.drains(actor=self.actor, **self.filter_values)
        page = paginate(rows, limit=self.paging["limit"], cursor=self.paging["cursor"])
        items = DrainSerializer(_with_progress(page.items), many=True, context={"actor": self.actor}).data
        return Response({"items": items, "next_cursor": page.next_cursor})

    @extend_schema(
        operation_id="drains_create", request=DrainCreateSerializer, responses={201: DrainSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.drain_start(
            actor=self.actor,
            organization_id=organization_wanted(self.actor),
            now=timezone.now(),
            **self.document(DrainCreateSerializer),
        )
        (shown,) = _with_progress([made])
        document = DrainSerializer(shown, context={"actor": self.actor}).data
        return created(document, location=f"/api/v1/drains/{made.pk}")


@extend_schema(tags=["drains"])
class DrainPreviewView(MeridianView):
    """What would be left, by deployment and jurisdiction, and what would be short. Solved now; writes nothing."""

    rights: ClassVar[Rights] = {"POST": "read"}
    tenancy = Tenancy.ORGANIZATION
    asking = True

    @extend_schema(
        operation_id="drains_preview", request=DrainPlaceSerializer, responses={200: DrainPreviewSerializer}
    )
    def post(self, request: Request) -> Response:
        preview = services.drain_preview(
            organization_id=organization_wanted(self.actor),
            now=timezone.now(),
            **self.document(DrainPlaceSerializer),
        )
        return found(DrainPreviewSerializer(preview_shown(self.actor, preview)).data)


@extend_schema(tags=["drains"])
class DrainView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="drains_get", responses=DrainSerializer)
    def get(self, request: Request, drain_id: str) -> Response:
        (shown,) = _with_progress([selectors.drain_get(actor=self.actor, drain_id=drain_id)])
        return found(DrainSerializer(shown, context={"actor": self.actor}).data)


@extend_schema(tags=["drains"])
class DrainLiftView(MeridianView):
    """Ends a drain, at any point: what has not left yet stays, and placement may use the place again."""

    rights: ClassVar[Rights] = {"POST": "operate"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="drains_lift", request=None, responses={200: DrainSerializer})
    def post(self, request: Request, drain_id: str) -> Response:
        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        drain = selectors.drain_get(actor=self.actor, drain_id=drain_id)
        lifted = services.drain_lift(actor=self.actor, drain=drain, now=timezone.now())
        (shown,) = _with_progress([lifted])
        return found(DrainSerializer(shown, context={"actor": self.actor}).data)
