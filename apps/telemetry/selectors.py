"""Reading events and usage: always within what an actor may see."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Mod, Now
from django.utils import timezone

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.agents import selectors as agents
from apps.api.actors import Actor
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment
from apps.fleet import selectors as fleet
from apps.telemetry.models import Event, MetricWindow, ScalingDecision, UsageRecord
from apps.telemetry.scaling import Decided, ScalingPoint, Wanted, at_hand_by_step, wanted_by_step
from apps.telemetry.series import Point, latency_series, step_moments
from apps.telemetry.steps import TrafficQuantiles, traffic_quantiles
from controlplane.costing import replica_micro_usd_per_h

__all__ = [
    "Decided",
    "Point",
    "RequestSeen",
    "ScalingPoint",
    "Traffic",
    "TrafficQuantiles",
    "UsageTotal",
    "decisions_newest",
    "event_id_newest",
    "event_lately",
    "events",
    "events_about",
    "latency_series",
    "requests_of_deployment",
    "scaling_series",
    "spend_micro_usd_per_h",
    "traffic_quantiles",
    "traffic_recent",
    "usage_totals",
]


def event_lately(*, cluster_id: UUID, reason: str, within: timedelta) -> bool:
    """Whether a cluster had an event with this reason within that time."""
    return Event.objects.filter(cluster_id=cluster_id, reason=reason, at__gt=Now() - within).exists()


def event_id_newest(*, organization_id: UUID) -> int:
    """Of the newest event of an organization, 0 without one."""
    found = Event.objects.filter(organization_id=organization_id).order_by("-id")
    return found.values_list("pk", flat=True).first() or 0


def events_about(
    *,
    organization_id: UUID,
    cluster_ids: Collection[UUID],
    deployment_ids: Collection[UUID],
    after_id: int,
    since: datetime,
) -> QuerySet[Event]:
    """Events of these clusters and deployments, whoever may read them, in their order; for the control plane itself."""
    found = Event.objects.filter(organization_id=organization_id, id__gt=after_id, at__gte=since)
    about = Q(cluster_id__in=cluster_ids) | Q(deployment_id__in=deployment_ids)
    return found.filter(about).order_by("id")


def events(
    *,
    actor: Actor,
    severity: str | None = None,
    reason: str | None = None,
    deployment: str | None = None,
    deployment_id: UUID | None = None,
    cluster: str | None = None,
    cluster_id: UUID | None = None,
) -> QuerySet[Event]:
    """Events of the actor's project and of its organization's fleet; of the whole organization if no project is chosen.

    deployment, cluster: by name; one that the actor cannot see has no events.
    """
    found = Event.objects.filter(organization_id=organization_wanted(actor))
    if actor.project_id is not None:
        found = found.filter(Q(project_id=actor.project_id) | Q(project_id=None))
    if severity is not None:
        found = found.filter(severity=severity)
    if reason is not None:
        found = found.filter(reason=reason)
    if deployment is not None:
        named = deployments.deployments(actor=actor, name=deployment)
        found = found.filter(deployment_id__in=named.order_by().values("pk"))
    if deployment_id is not None:
        found = found.filter(deployment_id=deployment_id)
    if cluster is not None:
        found = found.filter(cluster_id__in=fleet.cluster_ids_named(actor=actor, name=cluster))
    return found if cluster_id is None else found.filter(cluster_id=cluster_id)


@dataclass(frozen=True)
class UsageTotal:
    """What one deployment was used in a stretch of time. ``errors``: requests that an engine failed."""

    deployment_id: UUID
    deployment: str
    requests: int
    errors: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    audio_input_s: float
    input_characters: int


def usage_totals(
    *, actor: Actor, start: datetime, end: datetime, deployment: str | None = None
) -> list[UsageTotal]:
    """Usage of the project's deployments, also of deleted ones, by when requests finished: from start, before end.

    What nobody asked for (class ``probe``: tests of a standby) is not in it.
    """
    found = UsageRecord.objects.filter(
        project_id=project_wanted(actor), finished_at__gte=start, finished_at__lt=end
    ).exclude(request_class="probe")
    if deployment is not None:
        named = deployments.deployment_ids_named(actor=actor, name=deployment)
        found = found.filter(deployment_id__in=named)
    rows = list(
        found.values("deployment_id")
        .annotate(
            requests=Count("pk"),
            errors=Count("pk", filter=Q(outcome="upstream_error")),
            total_input_tokens=Sum("input_tokens"),
            total_cached_tokens=Sum("cached_tokens"),
            total_output_tokens=Sum("output_tokens"),
            total_audio_input_s=Sum("audio_input_s"),
            total_input_characters=Sum("input_characters"),
        )
        .order_by("deployment_id")
    )
    names = deployments.deployment_names(deployment_ids=[row["deployment_id"] for row in rows])
    totals = [
        UsageTotal(
            deployment_id=row["deployment_id"],
            deployment=names.get(row["deployment_id"], ""),
            requests=row["requests"],
            errors=row["errors"],
            input_tokens=row["total_input_tokens"],
            cached_tokens=row["total_cached_tokens"],
            output_tokens=row["total_output_tokens"],
            audio_input_s=row["total_audio_input_s"],
            input_characters=row["total_input_characters"],
        )
        for row in rows
    ]
    return sorted(totals, key=lambda total: (total.deployment, total.deployment_id))


@dataclass(frozen=True)
class Traffic:
    """Mean rates over a stretch of time."""

    requests_per_s: float
    errors_per_s: float
    output_tokens_per_s: float


def traffic_recent(*, actor: Actor, over: timedelta, now: datetime | None = None) -> Traffic:
    """The traffic of the organization's clusters over the time before ``now``."""
    start = (now or timezone.now()) - over
    clusters = fleet.clusters(actor=actor).order_by().values("pk")
    sums = MetricWindow.objects.filter(
        cluster_id__in=clusters, ended_at__gt=start, started_at__gt=start - timedelta(hours=1)
    ).aggregate(requests=Sum("requests"), errors=Sum("errors"), output_tokens=Sum("output_tokens"))
    seconds = over.total_seconds()
    return Traffic(
        requests_per_s=(sums["requests"] or 0) / seconds,
        errors_per_s=(sums["errors"] or 0) / seconds,
        output_tokens_per_s=(sums["output_tokens"] or 0) / seconds,
    )


def spend_micro_usd_per_h(
    *, actor: Actor, deployment_id: UUID | None = None, now: datetime | None = None
) -> int:
    """What the replicas of the organization, or of one deployment, cost now: each its share of an instance.

    A pool without a price counts as nothing, so the sum errs low there.
    """
    held = agents.gpus_held(organization_id=organization_wanted(actor), deployment_id=deployment_id)
    pools = fleet.pools_priced(now=now).filter(pk__in={row.pool_id for row in held})
    tariffs = {
        pool_id: (price or 0, gpus)
        # mypy cannot see what pools_priced annotates
        for pool_id, price, gpus in pools.values_list("pk", "micro_usd_per_h", "instance_type__gpus")  # type: ignore[misc]
    }
    return sum(
        row.replicas
        * replica_micro_usd_per_h(
            instance_micro_usd_per_h=tariffs[row.pool_id][0],
            gpus_per_instance=tariffs[row.pool_id][1],
            gpus=row.gpus,
        )
        for row in held
    )


#: About so many requests of a stretch of time are read one by one; of more, every n-th, from its begin to its end.
REQUESTS_MOST = 20_000


@dataclass(frozen=True)
class RequestSeen:
    """One finished request as its gateway told it. ``region``: that served it, empty where none did."""

    began_at: datetime
    ttft_s: float | None
    failed: bool
    region: str


def requests_of_deployment(*, deployment_id: UUID, start: datetime, end: datetime) -> list[RequestSeen]:
    """Of clients, by when they finished, for the control plane itself; those that their client gave up are left out."""
    found = UsageRecord.objects.filter(
        deployment_id=deployment_id, finished_at__gte=start, finished_at__lt=end
    ).exclude(Q(request_class="probe") | Q(outcome="client_gone"))
    every = -(-found.count() // REQUESTS_MOST)
    if every > 1:
        found = found.annotate(turn=Mod("pk", every)).filter(turn=0)
    rows = found.order_by("finished_at").values_list(
        "finished_at", "duration_s", "ttft_s", "outcome", "status", "served_cluster_id"
    )
    regions = fleet.region_by_cluster()
    return [
        RequestSeen(
            began_at=finished_at - timedelta(seconds=duration_s),
            ttft_s=ttft_s,
            failed=outcome == "upstream_error" or status >= 500,
            region=regions.get(served_cluster_id, "") if served_cluster_id else "",
        )
        for finished_at, duration_s, ttft_s, outcome, status, served_cluster_id in rows
    ]


#: Decisions that are looked at: a deployment that changes its mind more often is drawn from its newest on.
DECISIONS_LOOKED_AT = 5_000
DECISIONS_SHOWN = 12


def scaling_series(
    *, deployment: Deployment, start: datetime, end: datetime, step: timedelta
) -> list[ScalingPoint]:
    """The steps from ``start`` to ``end``. Raises ValueError for over 1,000 or none."""
    moments = step_moments(start, end, step)
    at_hand = at_hand_by_step(deployment, moments, end, step)
    wanted = wanted_by_step(_decisions(deployment, start, end), moments, step)
    lives = agents.replica_lives(deployment=deployment, start=start, end=end)
    return [
        ScalingPoint(
            at=at,
            at_hand=at_hand.get(at),
            wanted=count,
            ready=sum(begun <= until and (ended is None or ended > until) for begun, ended in lives),
        )
        for at, count in zip(moments, wanted, strict=True)
        for until in (at + min(step, end - at),)
    ]


def decisions_newest(*, deployment: Deployment) -> list[Decided]:
    """What each cluster decided last for each revision that it still wants, or wanted last; the newest first."""
    rows = (
        ScalingDecision.objects.filter(deployment_id=deployment.pk)
        .order_by("cluster_id", "revision_id", "-decided_at")
        .distinct("cluster_id", "revision_id")
    )
    newest = sorted(rows, key=lambda row: row.decided_at, reverse=True)
    wanted = [row for row in newest if row.replicas] or newest[:1]
    shown = wanted[:DECISIONS_SHOWN]
    clusters = fleet.cluster_names(cluster_ids=[row.cluster_id for row in shown])
    numbers = deployments.revision_numbers(deployment=deployment)
    return [
        Decided(
            cluster=clusters.get(row.cluster_id, ""),
            revision=numbers.get(row.revision_id, 0),
            decided_at=row.decided_at,
            policy=row.policy,
            replicas=row.replicas,
            ready=row.ready,
            at_hand=row.at_hand,
            reasons=tuple(row.reasons),
        )
        for row in shown
    ]


def _decisions(deployment: Deployment, start: datetime, end: datetime) -> list[Wanted]:
    """Those of the time, and of each cluster and revision the last before it, in their order."""
    found = ScalingDecision.objects.filter(deployment_id=deployment.pk)
    names = ("cluster_id", "revision_id", "decided_at", "replicas")
    before = (
        found.filter(decided_at__lt=start)
        .order_by("cluster_id", "revision_id", "-decided_at")
        .distinct("cluster_id", "revision_id")
        .values_list(*names)
    )
    within = found.filter(decided_at__gte=start, decided_at__lt=end).order_by("-decided_at")
    rows = [*before, *within.values_list(*names)[:DECISIONS_LOOKED_AT]]
    return sorted(
        (Wanted((str(cluster), str(revision)), at, count) for cluster, revision, at, count in rows),
        key=lambda each: each.decided_at,
    )
