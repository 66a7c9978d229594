"""What the pages show, gathered through the other apps' selectors: queries in one place, constant in number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from apps.agents import selectors as agents
from apps.agents.models import Node, Replica
from apps.api import selectors as api
from apps.api.actors import Actor
from apps.api.clock import database_now
from apps.api.models import AuditEvent
from apps.api.pagination import Page, paginate
from apps.catalog import selectors as catalog
from apps.catalog.models import EngineImage, EngineName, Model
from apps.console.forms.deployment import FormOptions
from apps.console.forms.what_if import WhatIfOptions
from apps.console.presenters.deployments import DeploymentRow, deployment_row
from apps.console.presenters.fleet import ClusterView, agent_view, cluster_views
from apps.console.presenters.profiles import ProfileView, live_of, profile_view
from apps.console.presenters.traffic import Traffic, traffic_of
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment, Revision
from apps.drains import selectors as drains
from apps.drains.models import Drain
from apps.fleet import selectors as fleet_selectors
from apps.fleet.models import Cluster, Region
from apps.incidents import selectors as incidents
from apps.incidents.models import Incident
from apps.incidents.services import PlaceShown, places_shown
from apps.placements import selectors as placements
from apps.telemetry import selectors as telemetry
from apps.telemetry.models import Event
from apps.telemetry.selectors import Decided, Point, ScalingPoint
from controlplane.sizing import Goals

CHART_SPAN = timedelta(minutes=15)
CHART_STEP_S = 15
ARRIVAL = timedelta(seconds=8)
RECENT = timedelta(minutes=1)
#: How many rows a page shows where it has no pages of its own.
CLUSTERS_SHOWN = 200
EVENTS_SHOWN = 15
REPLICAS_SHOWN = 200
NODES_SHOWN = 256
REVISIONS_SHOWN = 20
PROFILES_SHOWN = 24
ATTENTION_SHOWN = 6
ATTENTION_LOOKED_AT = 200


@dataclass(frozen=True)
class Stats:
    """The head of the overview."""

    requests_per_s: float
    output_tokens_per_s: float
    error_percent: float
    micro_usd_per_h: int
    ready: int
    present: int
    desired: int
    gpus: int
    used_gpus: int


def fleet(*, actor: Actor) -> tuple[ClusterView, ...]:
    """The organization's clusters with agents, pools and what runs on them."""
    clusters = list(
        fleet_selectors.clusters(actor=actor).select_related("session").order_by("name")[:CLUSTERS_SHOWN]
    )
    ids = [cluster.pk for cluster in clusters]
    return cluster_views(
        clusters=clusters,
        pools=list(fleet_selectors.pools(actor=actor)),
        replicas=list(agents.replicas(actor=actor, present=True)),
        assignments=list(placements.assignments_live(cluster_ids=ids)),
        now=timezone.now(),
    )


#: State of a drain -> the tone in which it is shown.
DRAIN_TONES = {"planned": "idle", "moving": "busy", "drained": "ok", "refused": "bad"}


@dataclass(frozen=True)
class DrainRow:
    """A drain, how far it is, and in which tone its state is shown."""

    drain: Drain
    progress: drains.Progress
    tone: str


def drain_rows(*, actor: Actor, cursor: str | None) -> tuple[Page, list[DrainRow]]:
    """One page of the organization's drains, the newest first."""
    page = paginate(drains.drains(actor=actor), limit=None, cursor=cursor)
    found = drains.progress_by_drain(page.items, now=timezone.now())
    return page, [DrainRow(row, found[row.pk], DRAIN_TONES.get(row.state, "idle")) for row in page.items]


#: State of an incident -> the tone in which it is shown.
INCIDENT_TONES = {"open": "bad", "recovering": "busy", "resolved": "ok"}
INCIDENTS_SHOWN = 20


@dataclass(frozen=True)
class IncidentRow:
    """An incident as its reader may know it. Times in seconds, money in micro-dollars; ``touched``: own deployments."""

    incident: Incident
    title: str
    tone: str
    members: list[str]
    touched: list[str]
    others: int
    extra_micro_usd: int


def incident_row(*, actor: Actor, incident: Incident) -> IncidentRow:
    """``incident`` with its deployments loaded."""
    project_id = incidents.own_project(actor)
    touched = list(incident.deployments.all())
    own = [row for row in touched if project_id is None or row.project_id == project_id]
    return IncidentRow(
        incident=incident,
        title=incidents.title(incident, own),
        tone=INCIDENT_TONES[incident.state],
        members=incidents.members(incident),
        touched=sorted(row.deployment for row in own),
        others=len(touched) - len(own),
        extra_micro_usd=incidents.extra_micro_usd(incident, own),
    )


def incidents_open(*, actor: Actor) -> list[IncidentRow]:
    """Those that are not resolved and told of by themselves, the newest first."""
    found = incidents.incidents(actor=actor, open=True).filter(parent=None).order_by("-opened_at", "-id")
    return [incident_row(actor=actor, incident=row) for row in found[:INCIDENTS_SHOWN]]


def incident_record(*, actor: Actor, incident: Incident) -> str:
    """Its record in Markdown, empty until it is written."""
    record = incidents.record_find(actor=actor, incident=incident)
    return record.markdown if record is not None else ""


def places_seen(*, actor: Actor) -> list[PlaceShown]:
    """How every place is now."""
    return places_shown(actor=actor, now=database_now())


def regions_by_name(*, actor: Actor) -> dict[str, Region]:
    """Regions in which the organization has a cluster."""
    return {row.region.name: row.region for row in fleet_selectors.clusters(actor=actor)}


def stats(*, actor: Actor, clusters: Sequence[ClusterView]) -> Stats:
    """The organization's figures over the last minute."""
    traffic = telemetry.traffic_recent(actor=actor, over=RECENT)
    return Stats(
        requests_per_s=traffic.requests_per_s,
        output_tokens_per_s=traffic.output_tokens_per_s,
        error_percent=100 * traffic.errors_per_s / traffic.requests_per_s if traffic.requests_per_s else 0.0,
        micro_usd_per_h=telemetry.spend_micro_usd_per_h(actor=actor),
        ready=sum(cluster.ready for cluster in clusters),
        present=sum(cluster.present for cluster in clusters),
        desired=sum(cluster.desired for cluster in clusters),
        gpus=sum(cluster.gpus for cluster in clusters),
        used_gpus=sum(cluster.used_gpus for cluster in clusters),
    )


def deployment_rows(
    *, actor: Actor, name: str | None, cursor: str | None
) -> tuple[Page, list[DeploymentRow]]:
    """One page of the project's deployments."""
    found = deployments.deployments(actor=actor, name=name)
    page = paginate(found, limit=None, cursor=cursor)
    return page, _rows(page.items)


def row_of(deployment: Deployment) -> DeploymentRow:
    """One deployment as a line of the list."""
    return _rows([deployment])[0]


def _rows(found: Sequence[Deployment]) -> list[DeploymentRow]:
    summaries = deployments.replica_summaries(deployment_ids=[row.pk for row in found])
    return [
        deployment_row(row, ready=summaries[row.pk].ready, desired=summaries[row.pk].desired) for row in found
    ]


def attention(*, actor: Actor) -> list[DeploymentRow]:
    """Deployments that are not as wanted, the worst first."""
    newest = list(deployments.deployments(actor=actor).order_by("-created_at")[:ATTENTION_LOOKED_AT])
    rows = [row for row in _rows(newest) if row.tone in ("bad", "warn")]
    return list(
        islice(sorted(rows, key=lambda row: (row.tone != "bad", row.deployment.name)), ATTENTION_SHOWN)
    )


def form_options(*, actor: Actor) -> FormOptions:
    """What a deployment's form offers."""
    engines = {image.engine for image in catalog.engine_images()}
    return FormOptions(
        models=tuple(catalog.models(actor=actor).order_by("name")),
        engines=tuple(engine for engine in EngineName.values if engine in engines),
        jurisdictions=tuple(fleet_selectors.jurisdictions()),
    )


def models_with_adapters(*, actor: Actor) -> QuerySet[Model]:
    """The project's models with their versions and the adapters of those."""
    return catalog.models(actor=actor).prefetch_related("versions__adapters")


def profiles_of(*, actor: Actor, models: Sequence[Model]) -> dict[UUID, list[ProfileView]]:
    """Model id -> what was measured of its versions, the newest first."""
    ids = {model.pk for model in models}
    found: dict[UUID, list[ProfileView]] = {}
    rows = catalog.profiles(actor=actor).filter(model_version__model_id__in=ids).order_by("-created_at")
    for profile in rows[:PROFILES_SHOWN]:
        found.setdefault(profile.model_version.model_id, []).append(profile_view(profile))
    return found


#: What is seen live counts over so many of the newest steps: five minutes.
_LIVE_STEPS = 20


def sizing_of(
    *, actor: Actor, deployment: Deployment, points: Sequence[Point], scaling: Sequence[ScalingPoint]
) -> ProfileView | None:
    """The newest profile of what it runs, sized for its goals, with latencies as they are now; None without one."""
    revision = deployment.current_revision
    if revision is None:
        return None
    found = catalog.profiles(actor=actor).filter(model_version_id=revision.model_version_id)
    profile = found.exclude(curve=[]).order_by("-created_at").first()
    if profile is None:
        return None
    goals = Goals(
        ttft_s_p95=deployment.slo_ttft_s_p95,
        inter_token_latency_s_p95=deployment.slo_inter_token_latency_s_p95,
    )
    return profile_view(profile, goals=goals, live=live_of(points[-_LIVE_STEPS:], scaling[-_LIVE_STEPS:]))


def what_if_options(*, actor: Actor) -> WhatIfOptions:
    """What a question "what if" can name."""
    clusters = list(fleet_selectors.clusters(actor=actor).order_by("name"))
    pools = list(fleet_selectors.pools(actor=actor))
    losses: dict[str, set[str]] = {
        kind: {domain.name for row in clusters for domain in row.failure_domains.all() if domain.kind == kind}
        for kind in ("region", "zone", "provider")
    }
    losses["region"] |= {row.region.name for row in clusters}
    losses["provider"] |= {row.region.provider.name for row in clusters}
    names = sorted(f"{row.cluster.name}/{row.name}" for row in pools)
    return WhatIfOptions(
        losses={
            **{kind: sorted(found) for kind, found in losses.items()},
            "cluster": [row.name for row in clusters],
            "pool": names,
        },
        pools=names,
        clusters=[row.name for row in clusters],
        instance_types=sorted({row.name for row in fleet_selectors.instance_types()}),
    )


def newer_image(*, deployment: Deployment) -> EngineImage | None:
    """The newest image of the engine that a deployment runs, if that is not what it runs already."""
    held = deployment.current_revision.engine_image if deployment.current_revision else None
    if held is None:
        return None
    newest = catalog.engine_image_resolve(engine=held.engine)
    return None if newest.pk == held.pk else newest


def revisions_newest(*, deployment: Deployment) -> list[Revision]:
    """The newest revisions of a deployment."""
    return list(deployments.revisions(deployment=deployment).order_by("-number")[:REVISIONS_SHOWN])


def replicas_of_deployment(*, actor: Actor, deployment: Deployment) -> list[Replica]:
    """Those that are still there, newest first."""
    found = agents.replicas(actor=actor, deployment=deployment.name, present=True)
    return list(found.select_related("cluster__region")[:REPLICAS_SHOWN])


def nodes_of_cluster(*, actor: Actor, cluster: Cluster) -> list[Node]:
    """Its machines, those that hold something or are closed first."""
    found = list(agents.nodes(actor=actor, cluster=cluster.name).order_by("pk")[:NODES_SHOWN])
    return sorted(found, key=lambda node: not (node.replica_ids or node.cordoned))


def replicas_of_cluster(*, actor: Actor, cluster: Cluster) -> list[Replica]:
    """Those that are still there, newest first."""
    return list(agents.replicas(actor=actor, cluster=cluster.name, present=True)[:REPLICAS_SHOWN])


def endpoint_url(*, actor: Actor, deployment: Deployment) -> str:
    """Where clients may send a deployment's requests; empty if there is no gateway.

    What stands before all gateways, if there is such a thing. Else one of them: first inside the deployment's
    residency, where nobody refuses them; then where the agent is heard.
    """
    if settings.ENDPOINT_URL:
        return str(settings.ENDPOINT_URL)
    now = timezone.now()

    def doubts(cluster: Cluster) -> tuple[bool, bool]:
        outside = bool(deployment.residency) and cluster.region.jurisdiction not in deployment.residency
        return outside, agent_view(cluster, now).word != "connected"

    found = fleet_selectors.clusters(actor=actor).select_related("session").exclude(gateway_url="")
    best = min(found.order_by("name")[:CLUSTERS_SHOWN], key=doubts, default=None)
    return best.gateway_url if best else ""


def traffic_points(*, deployment: Deployment) -> list[Point]:
    """A deployment's traffic over the time that charts show.

    Steps lie on whole multiples of their length, so that a line moves on and never flickers; the newest one ends a
    little ago, because gateways' windows need a moment to arrive.
    """
    end = _settled()
    return telemetry.latency_series(
        deployment=deployment, start=end - CHART_SPAN, end=end, step=timedelta(seconds=CHART_STEP_S)
    )


def scaling_points(*, deployment: Deployment) -> list[ScalingPoint]:
    """A deployment's replicas and its demand, in the same steps."""
    end = _settled()
    return telemetry.scaling_series(
        deployment=deployment, start=end - CHART_SPAN, end=end, step=timedelta(seconds=CHART_STEP_S)
    )


def decisions(*, deployment: Deployment) -> list[Decided]:
    """What agents decided last of a deployment's replicas."""
    return telemetry.decisions_newest(deployment=deployment)


def _settled() -> datetime:
    settled = timezone.now() - ARRIVAL
    return datetime.fromtimestamp(settled.timestamp() // CHART_STEP_S * CHART_STEP_S, tz=UTC)


def recent(points: Sequence[Point]) -> Traffic:
    """The newest minute of these points."""
    return traffic_of(points[-int(RECENT.total_seconds() // CHART_STEP_S) :])


def spend(*, actor: Actor, deployment: Deployment) -> int:
    """What a deployment's replicas cost now, micro-dollars per hour."""
    return telemetry.spend_micro_usd_per_h(actor=actor, deployment_id=deployment.pk)


def events(*, actor: Actor, severity: str | None, deployment: str | None) -> QuerySet[Event]:
    """Events that the actor may see."""
    return telemetry.events(actor=actor, severity=severity, deployment=deployment)


def events_newest(
    *, actor: Actor, deployment_id: UUID | None = None, cluster_id: UUID | None = None
) -> list[Event]:
    """The newest few events of a deployment or cluster."""
    found = telemetry.events(actor=actor, deployment_id=deployment_id, cluster_id=cluster_id)
    return list(found.order_by("-id")[:EVENTS_SHOWN])


def audit_events(*, actor: Actor) -> QuerySet[AuditEvent]:
    """The audit trail that the actor may see."""
    return api.audit_events(actor=actor)
