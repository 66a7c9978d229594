"""Addresses of events, usage and traffic."""

from django.urls import path

from apps.telemetry import api

urlpatterns = [
    path("events", api.EventsView.as_view()),
    path("usage", api.UsageView.as_view()),
    path("deployments/<str:name>/events", api.DeploymentEventsView.as_view()),
    path("deployments/<str:name>/metrics", api.DeploymentMetricsView.as_view()),
    path("deployments/<str:name>/scaling", api.DeploymentScalingView.as_view()),
]
