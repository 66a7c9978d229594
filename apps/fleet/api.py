"""An organization's clusters, pools and reservations over REST."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.selectors import organization_wanted
from apps.api.etags import etag_of_generation
from apps.api.idempotency import SecretResponse
from apps.api.problems import Problem, field_problem
from apps.api.responses import created, found, gone
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.fleet import selectors, services
from apps.fleet.models import Cluster, GpuPool
from apps.fleet.serializers import (
    ClusterCreateSerializer,
    ClusterFilters,
    ClusterPatchSerializer,
    ClusterSerializer,
    EnrolmentTokenSerializer,
    PoolCreateSerializer,
    PoolFilters,
    PoolPatchSerializer,
    PoolPriceSerializer,
    PoolSerializer,
    ReservationCreateSerializer,
    ReservationFilters,
    ReservationPatchSerializer,
    ReservationSerializer,
)
from apps.fleet.serializers_advice import AdviceFilters, AdviceListSerializer, AdviceSerializer

ROOT = "/api/v1"


@extend_schema(tags=["fleet"])
class ClustersView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    filters = ClusterFilters
    paged = True

    @extend_schema(operation_id="clusters_list", responses=page_of(ClusterSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.clusters(actor=self.actor, **self.filter_values), ClusterSerializer)

    @extend_schema(
        operation_id="clusters_create", request=ClusterCreateSerializer, responses={201: ClusterSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.cluster_create(
            actor=self.actor,
            organization_id=organization_wanted(self.actor),
            **self.document(ClusterCreateSerializer),
        )
        shown = selectors.cluster_get(actor=self.actor, name=made.name)
        return created(
            ClusterSerializer(shown).data,
            location=f"{ROOT}/clusters/{made.name}",
            etag=etag_of_generation(shown.generation),
        )


@extend_schema(tags=["fleet"])
class ClusterView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "operate", "DELETE": "operate"}
    tenancy = Tenancy.ORGANIZATION

    def _cluster(self, name: str) -> Cluster:
        return selectors.cluster_get(actor=self.actor, name=name)

    @extend_schema(operation_id="clusters_get", responses=ClusterSerializer)
    def get(self, request: Request, name: str) -> Response:
        cluster = self._cluster(name)
        return found(ClusterSerializer(cluster).data, etag=etag_of_generation(cluster.generation))

    @extend_schema(operation_id="clusters_patch", request=ClusterPatchSerializer, responses=ClusterSerializer)
    def patch(self, request: Request, name: str) -> Response:
        services.cluster_patch(
            actor=self.actor,
            cluster=self._cluster(name),
            if_match=self.if_match,
            **self.document(ClusterPatchSerializer),
        )
        return self.get(request, name)

    @extend_schema(operation_id="clusters_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        services.cluster_delete(actor=self.actor, cluster=self._cluster(name), if_match=self.if_match)
        return gone()


@extend_schema(tags=["fleet"])
class ClusterRetireView(MeridianView):
    """Gives a cluster up that is not coming back: its agent is refused at once and for good.

    When its lease is over its assignments end, its capacity is gone, and what ran there is placed elsewhere.
    """

    rights: ClassVar[Rights] = {"POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    post_etagged = True

    @extend_schema(operation_id="clusters_retire", request=None, responses={200: ClusterSerializer})
    def post(self, request: Request, name: str) -> Response:
        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        cluster = selectors.cluster_get(actor=self.actor, name=name)
        services.cluster_retire(actor=self.actor, cluster=cluster, if_match=self.if_match)
        shown = selectors.cluster_get(actor=self.actor, name=name)
        return found(ClusterSerializer(shown).data, etag=etag_of_generation(shown.generation))


@extend_schema(tags=["fleet"])
class EnrolmentTokensView(MeridianView):
    """A one-time token with which a cluster's agent enrols."""

    rights: ClassVar[Rights] = {"POST": "operate"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(
        operation_id="enrolment_tokens_create", request=None, responses={201: EnrolmentTokenSerializer}
    )
    def post(self, request: Request, name: str) -> Response:
        from apps.agents.services import enrolment_token_create

        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        cluster = selectors.cluster_get(actor=self.actor, name=name)
        row, token = enrolment_token_create(actor=self.actor, cluster=cluster)
        body = {
            "id": str(row.pk),
            "cluster": cluster.name,
            "token": token,
            "expires_at": row.expires_at,
            "note": None,
        }
        return SecretResponse(body, secret_fields=["token"], status=201)


@extend_schema(tags=["fleet"])
class PoolsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    filters = PoolFilters
    paged = True

    @extend_schema(operation_id="pools_list", responses=page_of(PoolSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.pools(actor=self.actor, **self.filter_values), PoolSerializer)

    @extend_schema(operation_id="pools_create", request=PoolCreateSerializer, responses={201: PoolSerializer})
    def post(self, request: Request) -> Response:
        document = self.document(PoolCreateSerializer)
        cluster = _known_cluster(self, document.pop("cluster"))
        price = document.pop("price_usd_per_h")
        made = services.pool_create(
            actor=self.actor, cluster=cluster, price_micro_usd_per_h=price, **document
        )
        shown = selectors.pool_get(actor=self.actor, pool_id=str(made.pk))
        return created(
            PoolSerializer(shown).data,
            location=f"{ROOT}/pools/{made.pk}",
            etag=etag_of_generation(shown.generation),
        )


@extend_schema(tags=["fleet"])
class PoolView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "operate", "DELETE": "operate"}
    tenancy = Tenancy.ORGANIZATION

    def _pool(self, pool_id: str) -> GpuPool:
        return selectors.pool_get(actor=self.actor, pool_id=pool_id)

    @extend_schema(operation_id="pools_get", responses=PoolSerializer)
    def get(self, request: Request, pool_id: str) -> Response:
        pool = self._pool(pool_id)
        return found(PoolSerializer(pool).data, etag=etag_of_generation(pool.generation))

    @extend_schema(operation_id="pools_patch", request=PoolPatchSerializer, responses=PoolSerializer)
    def patch(self, request: Request, pool_id: str) -> Response:
        document = self.document(PoolPatchSerializer)
        services.pool_patch(
            actor=self.actor,
            pool=self._pool(pool_id),
            price_micro_usd_per_h=document.pop("price_usd_per_h", None),
            if_match=self.if_match,
            **document,
        )
        return self.get(request, pool_id)

    @extend_schema(operation_id="pools_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, pool_id: str) -> Response:
        services.pool_delete(actor=self.actor, pool=self._pool(pool_id), if_match=self.if_match)
        return gone()


@extend_schema(tags=["fleet"])
class PoolPricesView(MeridianView):
    """What an instance of the pool cost and costs, newest first."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    paged = True

    @extend_schema(operation_id="pool_prices_list", responses=page_of(PoolPriceSerializer))
    def get(self, request: Request, pool_id: str) -> Response:
        pool = selectors.pool_get(actor=self.actor, pool_id=pool_id)
        prices = selectors.pool_prices(pool=pool)
        return self.page(prices, PoolPriceSerializer, ordering=("-effective_from", "-id"))


@extend_schema(tags=["fleet"])
class ReservationsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.ORGANIZATION
    filters = ReservationFilters
    paged = True

    @extend_schema(operation_id="reservations_list", responses=page_of(ReservationSerializer))
    def get(self, request: Request) -> Response:
        return self.page(
            selectors.reservations(actor=self.actor, **self.filter_values), ReservationSerializer
        )

    @extend_schema(
        operation_id="reservations_create",
        request=ReservationCreateSerializer,
        responses={201: ReservationSerializer},
    )
    def post(self, request: Request) -> Response:
        document = self.document(ReservationCreateSerializer)
        pool = _known_pool(self, str(document.pop("pool")))
        price = document.pop("price_usd_per_h")
        made = services.reservation_create(
            actor=self.actor, pool=pool, price_micro_usd_per_h=price, **document
        )
        return created(ReservationSerializer(made).data, location=f"{ROOT}/reservations/{made.pk}")


@extend_schema(tags=["fleet"])
class ReservationAdviceView(MeridianView):
    """How many instances of each type in each region are worth reserving.

    By what was in use, hour by hour, and against the spot and on-demand instances that are rented instead.
    """

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    asking = True
    filters = AdviceFilters

    @extend_schema(operation_id="reservation_advice_list", responses=AdviceListSerializer)
    def get(self, request: Request) -> Response:
        given = dict(self.filter_values)
        price = given.pop("price_usd_per_h", None)
        advice = services.reservation_advise(
            actor=self.actor, now=timezone.now(), price_micro_usd_per_h=price, **given
        )
        return Response({"items": AdviceSerializer(advice, many=True).data})


@extend_schema(tags=["fleet"])
class ReservationView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "operate", "DELETE": "operate"}
    tenancy = Tenancy.ORGANIZATION
    etagged = False

    @extend_schema(operation_id="reservations_get", responses=ReservationSerializer)
    def get(self, request: Request, reservation_id: str) -> Response:
        row = selectors.reservation_get(actor=self.actor, reservation_id=reservation_id)
        return Response(ReservationSerializer(row).data)

    @extend_schema(
        operation_id="reservations_patch", request=ReservationPatchSerializer, responses=ReservationSerializer
    )
    def patch(self, request: Request, reservation_id: str) -> Response:
        document = self.document(ReservationPatchSerializer)
        row = selectors.reservation_get(actor=self.actor, reservation_id=reservation_id)
        services.reservation_patch(
            actor=self.actor,
            reservation=row,
            price_micro_usd_per_h=document.pop("price_usd_per_h", None),
            **document,
        )
        return self.get(request, reservation_id)

    @extend_schema(operation_id="reservations_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, reservation_id: str) -> Response:
        row = selectors.reservation_get(actor=self.actor, reservation_id=reservation_id)
        services.reservation_delete(actor=self.actor, reservation=row)
        return gone()


def _known_cluster(view: MeridianView, name: str) -> Cluster:
    """What the document names must exist: that is a wrong field, not a missing page."""
    try:
        return selectors.cluster_get(actor=view.actor, name=name)
    except Problem as problem:
        raise field_problem(
            "/cluster", "is not known", value=name[:80], remedy="create the cluster first"
        ) from problem


def _known_pool(view: MeridianView, pool_id: str) -> GpuPool:
    try:
        return selectors.pool_get(actor=view.actor, pool_id=pool_id)
    except Problem as problem:
        raise field_problem(
            "/pool", "is not known", value=pool_id, remedy="give the id of one of your pools"
        ) from problem
