"""Incidents, places and webhooks over REST."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.clock import database_now
from apps.api.idempotency import SecretResponse
from apps.api.problems import Problem
from apps.api.responses import found, gone
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.incidents import selectors, services
from apps.incidents.serializers import (
    DeliverySerializer,
    IncidentDetailSerializer,
    IncidentFilters,
    IncidentRecordSerializer,
    IncidentSerializer,
    PlaceFilters,
    PlaceSerializer,
    WebhookCreatedSerializer,
    WebhookCreateSerializer,
    WebhookSerializer,
)

NEWEST_FIRST = ("-opened_at", "-id")


@extend_schema(tags=["incidents"])
class IncidentsView(MeridianView):
    """Operators see all of the organization; other keys those that touched their project."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    filters = IncidentFilters
    paged = True

    @extend_schema(operation_id="incidents_list", responses=page_of(IncidentSerializer))
    def get(self, request: Request) -> Response:
        rows = selectors.incidents(actor=self.actor, **self.filter_values)
        return self.page(rows, IncidentSerializer, ordering=NEWEST_FIRST)


@extend_schema(tags=["incidents"])
class IncidentView(MeridianView):
    """With its time line, and what moved where. The beginning of an id is enough where it is no other's."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="incidents_get", responses=IncidentDetailSerializer)
    def get(self, request: Request, incident_id: str) -> Response:
        row = selectors.incident_get(actor=self.actor, incident_id=incident_id)
        return found(IncidentDetailSerializer(row, context={"actor": self.actor}).data)


@extend_schema(tags=["incidents"])
class IncidentRecordView(MeridianView):
    """What was written of it in Markdown, once it was resolved."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="incidents_record", responses=IncidentRecordSerializer)
    def get(self, request: Request, incident_id: str) -> Response:
        incident = selectors.incident_get(actor=self.actor, incident_id=incident_id)
        record = selectors.record_get(actor=self.actor, incident=incident)
        return found(IncidentRecordSerializer(record).data)


@extend_schema(tags=["incidents"])
class PlacesView(MeridianView):
    """How every provider, region, cluster, pool and deployment on a pool is now, and who says so."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    filters = PlaceFilters

    @extend_schema(operation_id="places_list", responses=page_of(PlaceSerializer))
    def get(self, request: Request) -> Response:
        places = services.places_shown(actor=self.actor, now=database_now(), **self.filter_values)
        return Response({"items": PlaceSerializer(places, many=True).data, "next_cursor": None})


@extend_schema(tags=["webhooks"])
class WebhooksView(MeridianView):
    """Where a pager hears of incidents: signed, at least once (Standard Webhooks)."""

    rights: ClassVar[Rights] = {"GET": "operate", "POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    paged = True

    @extend_schema(operation_id="webhooks_list", responses=page_of(WebhookSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.webhooks(actor=self.actor), WebhookSerializer)

    @extend_schema(
        operation_id="webhooks_create",
        request=WebhookCreateSerializer,
        responses={201: WebhookCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        row, secret = services.webhook_add(actor=self.actor, **self.document(WebhookCreateSerializer))
        return SecretResponse(
            {**WebhookSerializer(row).data, "secret": secret, "note": None},
            secret_fields=["secret"],
            status=201,
            headers={"Location": f"/api/v1/webhooks/{row.pk}"},
        )


@extend_schema(tags=["webhooks"])
class WebhookView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "operate", "DELETE": "operate"}
    tenancy = Tenancy.ORGANIZATION
    etagged = False

    @extend_schema(operation_id="webhooks_get", responses=WebhookSerializer)
    def get(self, request: Request, webhook_id: str) -> Response:
        return found(WebhookSerializer(selectors.webhook_get(actor=self.actor, webhook_id=webhook_id)).data)

    @extend_schema(operation_id="webhooks_remove", responses={204: empty("Removed")})
    def delete(self, request: Request, webhook_id: str) -> Response:
        webhook = selectors.webhook_get(actor=self.actor, webhook_id=webhook_id)
        services.webhook_remove(actor=self.actor, webhook=webhook)
        return gone()


@extend_schema(tags=["webhooks"])
class WebhookTestView(MeridianView):
    """Sends a message that says nothing; its delivery tells what came of it."""

    rights: ClassVar[Rights] = {"POST": "operate"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="webhooks_test", request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, webhook_id: str) -> Response:
        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        webhook = selectors.webhook_get(actor=self.actor, webhook_id=webhook_id)
        made = services.message_test(webhook=webhook, now=timezone.now())
        return Response(DeliverySerializer(made).data, status=202)


@extend_schema(tags=["webhooks"])
class WebhookDeliveriesView(MeridianView):
    """What was sent to it in the last thirty days, and what is to be sent again."""

    rights: ClassVar[Rights] = {"GET": "operate"}
    tenancy = Tenancy.ORGANIZATION
    paged = True

    @extend_schema(operation_id="webhooks_deliveries", responses=page_of(DeliverySerializer))
    def get(self, request: Request, webhook_id: str) -> Response:
        webhook = selectors.webhook_get(actor=self.actor, webhook_id=webhook_id)
        return self.page(selectors.deliveries(webhook=webhook), DeliverySerializer)
