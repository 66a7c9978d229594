"""Addresses of drills."""

from django.urls import path

from apps.drills import api

urlpatterns = [
    path("drills", api.DrillsView.as_view()),
    path("drills/preview", api.DrillPreviewView.as_view()),
    path("drills/<str:drill_id>", api.DrillView.as_view()),
    path("drills/<str:drill_id>/samples", api.DrillSamplesView.as_view()),
    path("drills/<str:drill_id>/inject", api.DrillInjectView.as_view()),
    path("drills/<str:drill_id>/repair", api.DrillRepairView.as_view()),
    path("drills/<str:drill_id>/report", api.DrillReportView.as_view()),
    path("drills/<str:drill_id>/abort", api.DrillAbortView.as_view()),
    path("drill-schedules", api.DrillSchedulesView.as_view()),
    path("drill-schedules/<str:schedule_id>", api.DrillScheduleView.as_view()),
]
