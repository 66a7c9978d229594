"""Addresses of plans."""

from django.urls import path

from apps.placements import api

urlpatterns = [
    path("plans", api.PlansView.as_view()),
    path("plans/what-if", api.WhatIfView.as_view()),
    path("plans/<str:plan_generation>", api.PlanView.as_view()),
    path("plans/<str:plan_generation>/diff", api.PlanDiffView.as_view()),
    path("plans/<str:plan_generation>/survive", api.PlanSurviveView.as_view()),
]
