"""Addresses of organizations, projects, members and API keys."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
