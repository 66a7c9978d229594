"""Addresses of incidents, places and webhooks."""

from django.urls import path

from apps.incidents import api

urlpatterns = [
    path("incidents", api.IncidentsView.as_view()),
    path("incidents/<str:incident_id>", api.IncidentView.as_view()),
    path("incidents/<str:incident_id>/record", api.IncidentRecordView.as_view()),
    path("places", api.PlacesView.as_view()),
    path("webhooks", api.WebhooksView.as_view()),
    path("webhooks/<str:webhook_id>", api.WebhookView.as_view()),
    path("webhooks/<str:webhook_id>/test", api.WebhookTestView.as_view()),
    path("webhooks/<str:webhook_id>/deliveries", api.WebhookDeliveriesView.as_view()),
]
