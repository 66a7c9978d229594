"""The first page: regions, capacity, traffic, spend, and what needs attention."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.console import sources, worldmap
from apps.console.presenters.fleet import capacity_classes, places, region_views
from apps.console.views.base import ConsolePage


class OverviewPage(ConsolePage):
    """The whole page; its living part is ``OverviewLive``."""

    section = "overview"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page(
            "overview.html",
            land=worldmap.land_path(),
            graticule=worldmap.graticule_path(),
            **self.figures(),
        )

    def figures(self) -> dict[str, Any]:
        """What changes from second to second."""
        clusters = sources.fleet(actor=self.actor)
        regions = region_views(clusters)
        return {
            "regions": regions,
            "places": places(regions),
            "capacity": capacity_classes(clusters),
            "stats": sources.stats(actor=self.actor, clusters=clusters),
            "attention": sources.attention(actor=self.actor),
        }


class OverviewLive(OverviewPage):
    """What the page asks for again every two seconds; the land of the map stays where it is."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page("_overview_live.html", **self.figures())
