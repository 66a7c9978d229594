"""Addresses of deployments."""

from django.urls import path

from apps.deployments import api

urlpatterns = [
    path("deployments", api.DeploymentsView.as_view()),
    path("deployments/<str:name>", api.DeploymentView.as_view()),
    path("deployments/<str:name>/status", api.StatusView.as_view()),
    path("deployments/<str:name>/revisions", api.RevisionsView.as_view()),
    path("deployments/<str:name>/rollback", api.RollbackView.as_view()),
    path("deployments/<str:name>/redeploy", api.RedeployView.as_view()),
    path("schemas/deployment.json", api.DeploymentSchemaView.as_view()),
]
