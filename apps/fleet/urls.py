"""Addresses of the fleet."""

from django.urls import path

from apps.fleet import api, api_facts

urlpatterns = [
    path("providers", api_facts.ProvidersView.as_view()),
    path("providers/<str:name>", api_facts.ProviderView.as_view()),
    path("regions", api_facts.RegionsView.as_view()),
    path("regions/<str:name>", api_facts.RegionView.as_view()),
    path("failure-domains", api_facts.FailureDomainsView.as_view()),
    path("failure-domains/<str:name>", api_facts.FailureDomainView.as_view()),
    path("gpu-types", api_facts.GpuTypesView.as_view()),
    path("gpu-types/<str:name>", api_facts.GpuTypeView.as_view()),
    path("instance-types", api_facts.InstanceTypesView.as_view()),
    path("instance-types/<str:name>", api_facts.InstanceTypeView.as_view()),
    path("latencies", api_facts.LatenciesView.as_view()),
    path("network-prices", api_facts.NetworkPricesView.as_view()),
    path("clusters", api.ClustersView.as_view()),
    path("clusters/<str:name>", api.ClusterView.as_view()),
    path("clusters/<str:name>/retire", api.ClusterRetireView.as_view()),
    path("clusters/<str:name>/enrolment-tokens", api.EnrolmentTokensView.as_view()),
    path("pools", api.PoolsView.as_view()),
    path("pools/<str:pool_id>", api.PoolView.as_view()),
    path("pools/<str:pool_id>/prices", api.PoolPricesView.as_view()),
    path("reservations", api.ReservationsView.as_view()),
    path("reservations/advice", api.ReservationAdviceView.as_view()),
    path("reservations/<str:reservation_id>", api.ReservationView.as_view()),
]
