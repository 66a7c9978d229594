"""Every address of the control plane."""

from django.urls import URLPattern, URLResolver, include, path, re_path

from apps.api import handlers
from apps.telemetry.prometheus import metrics

api_v1: list[URLPattern | URLResolver] = [
    path("", include("apps.api.urls")),
    path("", include("apps.accounts.urls")),
    path("", include("apps.fleet.urls")),
    path("", include("apps.catalog.urls")),
    path("", include("apps.deployments.urls")),
    path("", include("apps.placements.urls")),
    path("", include("apps.drains.urls")),
    path("", include("apps.drills.urls")),
    path("", include("apps.agents.urls")),
    path("", include("apps.telemetry.urls")),
    path("", include("apps.incidents.urls")),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("livez", handlers.livez),
    path("readyz", handlers.readyz),
    path("metrics", metrics),
    path("api/v1/", include(api_v1)),
    re_path(r"^(api|agent)(/.*)?$", handlers.nothing_here),
    path("", include("apps.console.urls")),
]

handler400 = handlers.handler400
handler403 = handlers.handler403
handler404 = handlers.handler404
handler500 = handlers.handler500
