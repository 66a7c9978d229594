"""The API's description of itself, and the audit trail."""

from django.urls import path

from apps.api.audit import AuditView
from apps.api.documents import OpenApiJsonView, OpenApiYamlView

urlpatterns = [
    path("openapi.yaml", OpenApiYamlView.as_view(), name="openapi-yaml"),
    path("openapi.json", OpenApiJsonView.as_view(), name="openapi-json"),
    path("audit", AuditView.as_view()),
]
