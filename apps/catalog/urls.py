"""Addresses of the catalog."""

from django.urls import path

from apps.catalog import api

_VERSION = "models/<str:name>/versions/<str:version>"

urlpatterns = [
    path("models", api.ModelsView.as_view()),
    path("models/<str:name>", api.ModelView.as_view()),
    path("models/<str:name>/versions", api.ModelVersionsView.as_view()),
    path(_VERSION, api.ModelVersionView.as_view()),
    path(f"{_VERSION}/adapters", api.AdaptersView.as_view()),
    path(f"{_VERSION}/adapters/<str:adapter>", api.AdapterView.as_view()),
    path("engine-images", api.EngineImagesView.as_view()),
    path("engine-images/<str:image_id>", api.EngineImageView.as_view()),
    path("performance-profiles", api.ProfilesView.as_view()),
    path("performance-profiles/sizing", api.SizingView.as_view()),
    path("performance-profiles/<str:profile_id>", api.ProfileView.as_view()),
]
