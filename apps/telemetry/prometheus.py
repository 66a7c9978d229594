"""The control plane's own ``/metrics``, in Prometheus' text format.

What the database says is asked at each scrape, so every web process answers alike; what a process counts itself (its
agents' syncs) is its own. Labels are states and outcomes, never names: a scrape does not grow with tenants.

Who may read it: whoever shows ``MERIDIAN_METRICS_TOKEN`` as a bearer token; without such a token in the settings, only
this machine itself, and not through a proxy.
"""

import hmac
import ipaddress
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from apps.agents import selectors as agents
from apps.api.problems import CONTENT_TYPE, Problem
from apps.deployments import selectors as deployments
from apps.placements import selectors as placements


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """This control plane, for a monitoring system."""
    if not _may_read(request):
        problem = Problem("forbidden", "show MERIDIAN_METRICS_TOKEN as a bearer token")
        return JsonResponse(problem.document(instance=request.path), status=403, content_type=CONTENT_TYPE)
    return HttpResponse(_asked() + generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token: str = settings.MERIDIAN_METRICS_TOKEN
    if token:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), token.encode())
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _asked() -> bytes:
    """What the database says now."""
    registry = CollectorRegistry()
    now = timezone.now()
    _by_state(
        registry,
        "meridian_clusters",
        "Clusters by the state of their agent",
        agents.sessions_by_state(now=now),
    )
    _by_state(registry, "meridian_replicas", "Replicas that agents report", agents.replicas_by_state())
    _by_state(
        registry,
        "meridian_deployments",
        "Deployments by the Ready condition",
        deployments.deployments_by_readiness(),
    )
    totals = placements.placement_totals()
    behind = Gauge("meridian_placement_wishes_behind", "Changes that no plan has seen yet", registry=registry)
    behind.set(totals.wishes_behind)
    plans = Gauge("meridian_placement_plans", "Plans ever stored", registry=registry)
    plans.set(totals.plans)
    return generate_latest(registry)


def _by_state(registry: CollectorRegistry, name: str, help_text: str, counts: Mapping[str, int]) -> None:
    gauge = Gauge(name, help_text, ["state"], registry=registry)
    for state, count in counts.items():
        gauge.labels(state=state).set(count)
