"""Facts that all organizations share, over REST: read by everyone, written by administrators of the installation."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.responses import created, gone
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.fleet import selectors, services
from apps.fleet.serializers import (
    FailureDomainCreateSerializer,
    FailureDomainFilters,
    FailureDomainSerializer,
    GpuTypeCreateSerializer,
    GpuTypeSerializer,
    InstanceTypeCreateSerializer,
    InstanceTypeFilters,
    InstanceTypeSerializer,
    LatencyFilters,
    LatencyPutSerializer,
    LatencySerializer,
    NetworkPriceFilters,
    NetworkPricePutSerializer,
    NetworkPriceSerializer,
    ProviderCreateSerializer,
    ProviderSerializer,
    RegionCreateSerializer,
    RegionFilters,
    RegionSerializer,
)

ROOT = "/api/v1"


class FactsView(MeridianView):
    """A list of shared facts."""

    rights: ClassVar[Rights] = {"GET": "read", "POST": "admin"}
    tenancy = Tenancy.SHARED
    paged = True


class FactView(MeridianView):
    """One shared fact. Facts are not edited: what refers to them relies on them."""

    rights: ClassVar[Rights] = {"GET": "read", "DELETE": "admin"}
    tenancy = Tenancy.SHARED
    etagged = False


@extend_schema(tags=["fleet"])
class ProvidersView(FactsView):
    @extend_schema(operation_id="providers_list", responses=page_of(ProviderSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.providers(), ProviderSerializer)

    @extend_schema(
        operation_id="providers_create", request=ProviderCreateSerializer, responses={201: ProviderSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.provider_create(actor=self.actor, **self.document(ProviderCreateSerializer))
        return created(ProviderSerializer(made).data, location=f"{ROOT}/providers/{made.name}")


@extend_schema(tags=["fleet"])
class ProviderView(FactView):
    @extend_schema(operation_id="providers_get", responses=ProviderSerializer)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.providers(), "provider", name)
        return Response(ProviderSerializer(found).data)

    @extend_schema(operation_id="providers_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        services.fact_delete(
            actor=self.actor, fact=selectors.fact_get(selectors.providers(), "provider", name)
        )
        return gone()


@extend_schema(tags=["fleet"])
class RegionsView(FactsView):
    filters = RegionFilters

    @extend_schema(operation_id="regions_list", responses=page_of(RegionSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.regions(**self.filter_values), RegionSerializer)

    @extend_schema(
        operation_id="regions_create", request=RegionCreateSerializer, responses={201: RegionSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.region_create(actor=self.actor, **self.document(RegionCreateSerializer))
        return created(RegionSerializer(made).data, location=f"{ROOT}/regions/{made.name}")


@extend_schema(tags=["fleet"])
class RegionView(FactView):
    @extend_schema(operation_id="regions_get", responses=RegionSerializer)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.regions(), "region", name)
        return Response(RegionSerializer(found).data)

    @extend_schema(operation_id="regions_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        services.fact_delete(actor=self.actor, fact=selectors.fact_get(selectors.regions(), "region", name))
        return gone()


@extend_schema(tags=["fleet"])
class FailureDomainsView(FactsView):
    filters = FailureDomainFilters

    @extend_schema(operation_id="failure_domains_list", responses=page_of(FailureDomainSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.failure_domains(**self.filter_values), FailureDomainSerializer)

    @extend_schema(
        operation_id="failure_domains_create",
        request=FailureDomainCreateSerializer,
        responses={201: FailureDomainSerializer},
    )
    def post(self, request: Request) -> Response:
        made = services.failure_domain_create(
            actor=self.actor, **self.document(FailureDomainCreateSerializer)
        )
        location = f"{ROOT}/failure-domains/{made.pk}"
        return created(FailureDomainSerializer(made).data, location=location)


@extend_schema(tags=["fleet"])
class FailureDomainView(FactView):
    @extend_schema(operation_id="failure_domains_get", responses=FailureDomainSerializer)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.failure_domains(), "failure domain", name)
        return Response(FailureDomainSerializer(found).data)

    @extend_schema(operation_id="failure_domains_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.failure_domains(), "failure domain", name)
        services.fact_delete(actor=self.actor, fact=found)
        return gone()


@extend_schema(tags=["fleet"])
class GpuTypesView(FactsView):
    @extend_schema(operation_id="gpu_types_list", responses=page_of(GpuTypeSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.gpu_types(), GpuTypeSerializer)

    @extend_schema(
        operation_id="gpu_types_create", request=GpuTypeCreateSerializer, responses={201: GpuTypeSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.gpu_type_create(actor=self.actor, **self.document(GpuTypeCreateSerializer))
        return created(GpuTypeSerializer(made).data, location=f"{ROOT}/gpu-types/{made.name}")


@extend_schema(tags=["fleet"])
class GpuTypeView(FactView):
    @extend_schema(operation_id="gpu_types_get", responses=GpuTypeSerializer)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.gpu_types(), "GPU type", name)
        return Response(GpuTypeSerializer(found).data)

    @extend_schema(operation_id="gpu_types_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        services.fact_delete(
            actor=self.actor, fact=selectors.fact_get(selectors.gpu_types(), "GPU type", name)
        )
        return gone()


@extend_schema(tags=["fleet"])
class InstanceTypesView(FactsView):
    filters = InstanceTypeFilters

    @extend_schema(operation_id="instance_types_list", responses=page_of(InstanceTypeSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.instance_types(**self.filter_values), InstanceTypeSerializer)

    @extend_schema(
        operation_id="instance_types_create",
        request=InstanceTypeCreateSerializer,
        responses={201: InstanceTypeSerializer},
    )
    def post(self, request: Request) -> Response:
        made = services.instance_type_create(actor=self.actor, **self.document(InstanceTypeCreateSerializer))
        location = f"{ROOT}/instance-types/{made.pk}"
        return created(InstanceTypeSerializer(made).data, location=location)


@extend_schema(tags=["fleet"])
class InstanceTypeView(FactView):
    """Two providers may use one name, so the address is the id (a name that is unique works too)."""

    @extend_schema(operation_id="instance_types_get", responses=InstanceTypeSerializer)
    def get(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.instance_types(), "instance type", name)
        return Response(InstanceTypeSerializer(found).data)

    @extend_schema(operation_id="instance_types_delete", responses={204: empty("Deleted")})
    def delete(self, request: Request, name: str) -> Response:
        found = selectors.fact_get(selectors.instance_types(), "instance type", name)
        services.fact_delete(actor=self.actor, fact=found)
        return gone()


@extend_schema(tags=["fleet"])
class LatenciesView(MeridianView):
    """Round-trip times between regions."""

    rights: ClassVar[Rights] = {"GET": "read", "PUT": "admin"}
    tenancy = Tenancy.SHARED
    filters = LatencyFilters
    paged = True
    etagged = False

    @extend_schema(operation_id="latencies_list", responses=page_of(LatencySerializer))
    def get(self, request: Request) -> Response:
        found = selectors.latencies(**self.filter_values)
        return self.page(found, LatencySerializer, ordering=("id",))

    @extend_schema(operation_id="latencies_put", request=LatencyPutSerializer, responses=LatencySerializer)
    def put(self, request: Request) -> Response:
        latency = services.latency_set(actor=self.actor, **self.document(LatencyPutSerializer))
        return Response(LatencySerializer(latency).data)


@extend_schema(tags=["fleet"])
class NetworkPricesView(MeridianView):
    """What it costs to send a GiB from the region that serves to the region where the clients are."""

    rights: ClassVar[Rights] = {"GET": "read", "PUT": "admin"}
    tenancy = Tenancy.SHARED
    filters = NetworkPriceFilters
    paged = True
    etagged = False

    @extend_schema(operation_id="network_prices_list", responses=page_of(NetworkPriceSerializer))
    def get(self, request: Request) -> Response:
        found = selectors.network_prices(**self.filter_values)
        return self.page(found, NetworkPriceSerializer, ordering=("id",))

    @extend_schema(
        operation_id="network_prices_put", request=NetworkPricePutSerializer, responses=NetworkPriceSerializer
    )
    def put(self, request: Request) -> Response:
        document = self.document(NetworkPricePutSerializer)
        price = document.pop("price_usd_per_gib")
        row = services.network_price_set(actor=self.actor, micro_usd_per_gib=price, **document)
        return Response(NetworkPriceSerializer(row).data)
