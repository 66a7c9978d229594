"""Addresses of plans."""

from django.urls import path

from apps.placements import api

urlpatterns = [
    path("plans", api.PlansView.as_view()),
    path("plans/<str:plan_generation>", api.PlanView.as_view()),
]
