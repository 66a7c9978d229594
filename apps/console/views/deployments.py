"""The list of deployments."""

from django.http import HttpRequest, HttpResponse

from apps.console import sources
from apps.console.views.base import ConsolePage


class DeploymentsPage(ConsolePage):
    """One page of the list; ``?part=rows`` answers with the table alone, for polling."""

    section = "deployments"

    def get(self, request: HttpRequest) -> HttpResponse:
        page, rows = sources.deployment_rows(
            actor=self.actor, name=request.GET.get("name") or None, cursor=request.GET.get("cursor")
        )
        part = request.GET.get("part") == "rows"
        return self.page("_deployments_live.html" if part else "deployments.html", page=page, rows=rows)
