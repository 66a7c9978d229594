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
from apps.api.money import MICRO
from apps.api.problems import CONTENT_TYPE, Problem
from apps.deployments import selectors as deployments
from apps.incidents import selectors as incidents
from apps.placements import selectors as placements
from apps.placements.selectors import PlacementTotals


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
    _placement(registry, placements.placement_totals())
    _incidents(registry)
    return generate_latest(registry)


def _incidents(registry: CollectorRegistry) -> None:
    help_text = "Incidents that are not resolved, those that are told of in another one left out"
    gauge = Gauge("meridian_incidents_open", help_text, ["kind", "severity", "drill"], registry=registry)
    for (kind, severity, drilled), count in incidents.incidents_open_by_kind().items():
        gauge.labels(kind=kind, severity=severity, drill="yes" if drilled else "no").set(count)
    _by_state(
        registry,
        "meridian_webhook_deliveries",
        "Messages to webhooks in the last thirty days",
        incidents.deliveries_by_state(),
    )


def _placement(registry: CollectorRegistry, totals: PlacementTotals) -> None:
    values = (
        ("wishes_behind", "Changes that no plan has seen yet", totals.wishes_behind),
        ("plans", "Plans ever stored", totals.plans),
        ("objective_usd_per_h", "What the plans in force cost", totals.objective_micro_usd_per_h / MICRO),
        (
            "lower_bound_usd_per_h",
            "What any plan costs at least, of those in force for which that was proven",
            totals.lower_bound_micro_usd_per_h / MICRO,
        ),
        ("refused_deployments", "Deployments that are not placed as wanted", totals.refused),
        ("relaxed_deployments", "Deployments placed without some wish", totals.relaxed),
        ("failing_organizations", "Organizations whose last solve failed", totals.failing),
    )
    for name, help_text, value in values:
        Gauge(f"meridian_placement_{name}", help_text, registry=registry).set(value)
    if totals.lower_bound_micro_usd_per_h:  # without a bound there is no gap, which is not a gap of 0
        help_text = "How far the plans with a bound are above it at most, as a share of it"
        gap = Gauge("meridian_placement_gap_ratio", help_text, registry=registry)
        gap.set(totals.bounded_objective_micro_usd_per_h / totals.lower_bound_micro_usd_per_h - 1)
    labels = ["kind", "outcome"]
    solves = Gauge(
        "meridian_placement_solves", "Solves ever, by what became of them", labels, registry=registry
    )
    seconds = Gauge("meridian_placement_solve_seconds", "What they took together", labels, registry=registry)
    for (kind, outcome), (count, solve_s) in totals.solves.items():
        solves.labels(kind=kind, outcome=outcome).set(count)
        seconds.labels(kind=kind, outcome=outcome).set(solve_s)


def _by_state(registry: CollectorRegistry, name: str, help_text: str, counts: Mapping[str, int]) -> None:
    gauge = Gauge(name, help_text, ["state"], registry=registry)
    for state, count in counts.items():
        gauge.labels(state=state).set(count)
