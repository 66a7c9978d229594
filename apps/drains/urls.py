"""Addresses of drains."""

from django.urls import path

from apps.drains import api

urlpatterns = [
    path("drains", api.DrainsView.as_view()),
    path("drains/preview", api.DrainPreviewView.as_view()),
    path("drains/<str:drain_id>", api.DrainView.as_view()),
    path("drains/<str:drain_id>/lift", api.DrainLiftView.as_view()),
]
