"""Addresses of organizations, projects, members and API keys."""

from django.urls import path

from apps.accounts import api

urlpatterns = [
    path("me", api.MeView.as_view()),
    path("organizations", api.OrganizationsView.as_view()),
    path("organizations/<str:name>", api.OrganizationView.as_view()),
    path("projects", api.ProjectsView.as_view()),
    path("projects/<str:name>", api.ProjectView.as_view()),
    path("members", api.MembersView.as_view()),
    path("members/<str:username>", api.MemberView.as_view()),
    path("users", api.UsersView.as_view()),
    path("api-keys", api.ApiKeysView.as_view()),
    path("api-keys/<str:name>", api.ApiKeyView.as_view()),
]
