"""Addresses of replicas and agents in the REST API. The agents' own calls are in ``wire``."""

from django.urls import path

from apps.agents import api

urlpatterns = [
    path("replicas", api.ReplicasView.as_view()),
    path("nodes", api.NodesView.as_view()),
    path("deployments/<str:name>/replicas", api.DeploymentReplicasView.as_view()),
    path("deployments/<str:name>/logs", api.DeploymentLogsView.as_view()),
    path("clusters/<str:name>/agent", api.AgentView.as_view()),
]
