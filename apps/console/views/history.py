"""What happened (events) and who did it (audit)."""

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate
from apps.console import sources
from apps.console.views.base import ConsolePage

NEWEST_ID_FIRST = ("-id",)
SEVERITIES = ("info", "warning", "error")


class EventsPage(ConsolePage):
    """Events of the project and of the clusters it runs on; filters by severity and deployment."""

    section = "events"

    def get(self, request: HttpRequest) -> HttpResponse:
        events = sources.events(
            actor=self.actor,
            severity=request.GET.get("severity") or None,
            deployment=request.GET.get("deployment") or None,
        )
        page = paginate(events, limit=None, cursor=request.GET.get("cursor"), ordering=NEWEST_ID_FIRST)
        return self.page("events.html", page=page, severities=SEVERITIES)


class AuditPage(ConsolePage):
    """The audit trail of the project and its organization."""

    section = "audit"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(
            sources.audit_events(actor=self.actor),
            limit=None,
            cursor=request.GET.get("cursor"),
            ordering=NEWEST_ID_FIRST,
        )
        return self.page("audit.html", page=page)
