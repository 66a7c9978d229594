"""How every place is now, on a map that lives; and incidents with their time lines and records."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate
from apps.console import sources, worldmap
from apps.console.presenters.places import place_groups, places_on_map
from apps.console.views.base import ConsolePage
from apps.incidents import selectors

NEWEST_FIRST = ("-opened_at", "-id")


class HealthPage(ConsolePage):
    """Regions, clusters and pools by state, each with its evidence; ``?part=live`` is what changes."""

    section = "health"

    def get(self, request: HttpRequest) -> HttpResponse:
        if request.GET.get("part") == "live":
            return self.page("_health_live.html", **self._figures())
        return self.page(
            "health.html", land=worldmap.land_path(), graticule=worldmap.graticule_path(), **self._figures()
        )

    def _figures(self) -> dict[str, Any]:
        seen = sources.places_seen(actor=self.actor)
        return {
            "groups": place_groups(seen),
            "places": places_on_map(seen, sources.regions_by_name(actor=self.actor)),
            "open": sources.incidents_open(actor=self.actor),
        }


class IncidentsPage(ConsolePage):
    """Those that the actor may see, newest first; those that are told of in another one are found there."""

    section = "incidents"

    def get(self, request: HttpRequest) -> HttpResponse:
        found = selectors.incidents(actor=self.actor).filter(parent=None)
        page = paginate(found, limit=None, cursor=request.GET.get("cursor"), ordering=NEWEST_FIRST)
        rows = [sources.incident_row(actor=self.actor, incident=row) for row in page.items]
        part = request.GET.get("part") == "rows"
        return self.page("_incidents_live.html" if part else "incidents.html", page=page, rows=rows)


class IncidentPage(ConsolePage):
    """One of them: what failed, how soon it was found, what happened, what moved where, what it cost."""

    section = "incidents"

    def get(self, request: HttpRequest, incident_id: str) -> HttpResponse:
        incident = selectors.incident_get(actor=self.actor, incident_id=incident_id)
        return self.page(
            "_incident_live.html" if request.GET.get("part") == "live" else "incident.html",
            row=sources.incident_row(actor=self.actor, incident=incident),
            entries=selectors.entries(actor=self.actor, incident=incident),
            moves=selectors.moves(actor=self.actor, incident=incident),
            record=sources.incident_record(actor=self.actor, incident=incident),
        )
