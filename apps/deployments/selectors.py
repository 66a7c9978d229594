"""Reading deployments: those of the actor's project, or of an organization for the control plane itself."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from apps.accounts.selectors import project_wanted
from apps.agents import selectors as agents
from apps.api.actors import Actor
from apps.api.problems import not_found
from apps.deployments.models import ConditionType, Deployment, DeploymentCondition, Revision
from apps.placements import selectors as placements
from workloadplane.protocol.refusal import Refusal

_RUNS = ("autoscaling", "current_revision__model_version__model", "current_revision__engine_image")


def deployments(
    *,
    actor: Actor,
    name: str | None = None,
    model: str | None = None,
    engine: str | None = None,
    ready: bool | None = None,
) -> QuerySet[Deployment]:
    """Deployments of the actor's project that are not gone, with all that their documents and conditions need."""
    found = (
        Deployment.objects.filter(project_id=project_wanted(actor), deleted_at=None)
        .select_related(*_RUNS)
        .prefetch_related("conditions")
    )
    if name is not None:
        found = found.filter(name=name)
    if model is not None:
        found = found.filter(current_revision__model_version__model__name=model)
    if engine is not None:
        found = found.filter(current_revision__engine_image__engine=engine)
    if ready is not None:
        is_ready = DeploymentCondition.objects.filter(
            deployment=OuterRef("pk"), type=ConditionType.READY, status=True
        )
        found = found.filter(Exists(is_ready) if ready else ~Exists(is_ready))
    return found


#: What the public document shows of a row: a list of many reads nothing else.
_LISTED = (
    "name", "project_id", "generation", "posture", "survivability", "residency", "residency_ingress", "priority",
    "providers_allowed", "providers_denied", "demand",
    "resume", "slo_ttft_s_p95", "slo_inter_token_latency_s_p95", "deletion_requested_at", "created_at", "updated_at",
    "autoscaling__min_replicas", "autoscaling__max_replicas", "autoscaling__autoscaling_window_s",
    "autoscaling__scale_down_delay_s", "autoscaling__concurrency_target", "autoscaling__policy",
    "current_revision__number", "current_revision__model_version__version",
    "current_revision__model_version__model__name", "current_revision__engine_image__engine",
    "current_revision__adapters",
)  # fmt: skip


def deployments_listed(
    *,
    actor: Actor,
    name: str | None = None,
    model: str | None = None,
    engine: str | None = None,
    ready: bool | None = None,
) -> QuerySet[Deployment]:
    """As ``deployments``, with only what a list shows; conditions are read by ``condition_values``."""
    found = deployments(actor=actor, name=name, model=model, engine=engine, ready=ready)
    return found.prefetch_related(None).only(*_LISTED)


def condition_values(*, deployment_ids: Collection[UUID]) -> Mapping[UUID, list[dict[str, Any]]]:
    """Each deployment's conditions as their documents show them, in the order of their types, in one query."""
    found: dict[UUID, list[dict[str, Any]]] = {deployment_id: [] for deployment_id in deployment_ids}
    rows = DeploymentCondition.objects.filter(deployment_id__in=deployment_ids)
    for deployment_id, *values in rows.values_list("deployment_id", *CONDITION_FIELDS):
        found[deployment_id].append(dict(zip(CONDITION_FIELDS, values, strict=True)))
    for conditions in found.values():
        conditions.sort(key=lambda condition: _CONDITION_ORDER[condition["type"]])
    return found


CONDITION_FIELDS = (
    "type", "status", "reason", "message", "refusals", "observed_generation", "last_transition_at",
)  # fmt: skip
_CONDITION_ORDER = {kind: index for index, kind in enumerate(ConditionType.values)}


def deployment_get(*, actor: Actor, name: str) -> Deployment:
    """By name. Raises Problem ``not_found``, also for another project's."""
    found = deployments(actor=actor, name=name).first()
    if found is None:
        raise not_found("deployment", name)
    return found


def deployments_locked(*, ids: Collection[UUID]) -> list[Deployment]:
    """Lock deployments, whoever's, in the one order; with conditions, and all that their documents need."""
    locked = (
        Deployment.objects.select_for_update(of=("self",)).filter(pk__in=ids, deleted_at=None).order_by("pk")
    )
    list(locked.values_list("pk", flat=True))
    return list(
        Deployment.objects.filter(pk__in=ids, deleted_at=None)
        .select_related("project", *_RUNS)
        .prefetch_related("conditions")
        .order_by("pk")
    )


def deployments_wanted(*, organization_id: UUID) -> QuerySet[Deployment]:
    """What an organization wants placed."""
    return (
        Deployment.objects.filter(
            project__organization_id=organization_id,
            deletion_requested_at=None,
            current_revision__isnull=False,
        )
        .select_related(*_RUNS)
        .order_by("pk")
    )


class DeploymentHeld(NamedTuple):
    """What placement needs of a deployment and the revision that it is to run."""

    deployment_id: UUID
    name: str
    project_id: UUID
    generation: int
    revision_id: UUID
    revision: int
    model_version_id: UUID
    engine: str
    precision: str
    weights_bytes: int
    gpus_per_replica: int
    min_replicas: int
    max_replicas: int
    concurrency_target: float
    posture: str
    survivability: str
    priority: int
    created_at: datetime
    ttft_s_p95: float | None
    inter_token_latency_s_p95: float | None
    residency: tuple[str, ...]
    providers_allowed: tuple[str, ...]
    providers_denied: tuple[str, ...]


class DeploymentToPlace(NamedTuple):
    """``demand``: as its owner states it; ``residency_ingress``: who lets its clients in."""

    held: DeploymentHeld
    residency_ingress: str
    demand: list[Any]


def deployment_to_place(row: Deployment, revision: Revision) -> DeploymentToPlace:
    """Of a deployment that may not be stored, with its autoscaling, model version and image."""
    return DeploymentToPlace(_held(row, revision), row.residency_ingress, row.demand)


def _held(row: Deployment, revision: Revision) -> DeploymentHeld:
    version, policy = revision.model_version, row.autoscaling
    ttft_s, inter_token_s = row.slo_ttft_s_p95, row.slo_inter_token_latency_s_p95
    return DeploymentHeld(
        deployment_id=row.pk,
        name=row.name,
        project_id=row.project_id,
        generation=row.generation,
        revision_id=revision.pk,
        revision=revision.number,
        model_version_id=version.pk,
        engine=revision.engine_image.engine,
        precision=version.precision,
        weights_bytes=version.size_bytes,
        gpus_per_replica=version.gpus_per_replica,
        min_replicas=policy.min_replicas,
        max_replicas=policy.max_replicas,
        concurrency_target=float(policy.concurrency_target),
        posture=row.posture,
        survivability=row.survivability,
        priority=row.priority,
        created_at=row.created_at,
        ttft_s_p95=None if ttft_s is None else float(ttft_s),
        inter_token_latency_s_p95=None if inter_token_s is None else float(inter_token_s),
        residency=tuple(row.residency),
        providers_allowed=tuple(row.providers_allowed),
        providers_denied=tuple(row.providers_denied),
    )


def deployments_to_place(*, organization_id: UUID) -> list[DeploymentToPlace]:
    """What an organization wants placed, with only what placement looks at: no rows are made of a thousand of them."""
    revision, version = "current_revision__", "current_revision__model_version__"
    found = deployments_wanted(organization_id=organization_id).select_related(None)
    rows = found.values_list(
        *("residency_ingress", "demand"),
        *("pk", "name", "project_id", "generation", "current_revision_id", f"{revision}number"),
        *(f"{revision}model_version_id", f"{revision}engine_image__engine", f"{version}precision"),
        *(f"{version}size_bytes", f"{version}gpus_per_replica", "autoscaling__min_replicas"),
        *("autoscaling__max_replicas", "autoscaling__concurrency_target", "posture", "survivability"),
        *("priority", "created_at", "slo_ttft_s_p95", "slo_inter_token_latency_s_p95"),
        *("residency", "providers_allowed", "providers_denied"),
    )
    to_place = []
    for ingress, demand, *held, residency, allowed, denied in rows:
        lists = map(tuple, (residency, allowed, denied))
        to_place.append(DeploymentToPlace(DeploymentHeld(*held, *lists), ingress, demand))
    return to_place


def deployment_ids_of_cluster(*, cluster_id: UUID) -> set[UUID]:
    """Deployments with an assignment in a cluster."""
    return set(
        placements.assignments_live(cluster_ids=[cluster_id])
        .prefetch_related(None)
        .order_by()
        .values_list("deployment_id", flat=True)
    )


def deployment_ids_present(*, cluster_id: UUID) -> set[UUID]:
    """Deployments with a live assignment or a replica in a cluster."""
    return deployment_ids_of_cluster(cluster_id=cluster_id) | agents.deployment_ids_present(
        cluster_id=cluster_id
    )


def deployment_ids_deleting() -> set[UUID]:
    """Deployments that wait for their last replica to end."""
    return set(
        Deployment.objects.filter(deletion_requested_at__isnull=False, deleted_at=None).values_list(
            "pk", flat=True
        )
    )


def deployment_ids_progressing() -> set[UUID]:
    """Deployments whose conditions say that something is under way, or short."""
    busy = DeploymentCondition.objects.filter(
        type__in=[ConditionType.PROGRESSING, ConditionType.DEGRADED], status=True, deployment__deleted_at=None
    )
    return set(busy.values_list("deployment_id", flat=True))


def revisions(*, deployment: Deployment) -> QuerySet[Revision]:
    """All revisions of a deployment."""
    return Revision.objects.filter(deployment=deployment).select_related(
        "deployment", "model_version__model", "engine_image", "rolled_back_from"
    )


def revision_numbers(*, deployment: Deployment) -> dict[UUID, int]:
    """Revision id -> number."""
    return dict(Revision.objects.filter(deployment=deployment).values_list("pk", "number"))


def revision_get(*, deployment: Deployment, number: int) -> Revision | None:
    return revisions(deployment=deployment).filter(number=number).first()


def placed_conditions(*, organization_id: UUID) -> dict[str, tuple[int, bool, tuple[Refusal, ...]]]:
    """Deployment id -> the generation whose placement its condition speaks of, whether it was placed, and why not or
    without which wishes."""
    found = DeploymentCondition.objects.filter(
        type=ConditionType.PLACED,
        deployment__project__organization_id=organization_id,
        deployment__deletion_requested_at=None,
    )
    return {
        str(deployment_id): (generation, placed, msgspec.convert(refusals, tuple[Refusal, ...]))
        for deployment_id, generation, placed, refusals in found.values_list(
            "deployment_id", "observed_generation", "status", "refusals"
        )
    }


_UNDECIDED = Refusal(
    rule="placing",
    subject="deployment",
    value="where it runs is being decided",
    remedy="try again shortly",
)


def deployments_nowhere(*, organization_id: UUID) -> dict[Deployment, Refusal]:
    """What an organization wants placed and is placed nowhere, and why; with all that a route is made of."""
    placed_ids = placements.deployment_ids_live(organization_id=organization_id)
    found = deployments_wanted(organization_id=organization_id).exclude(pk__in=placed_ids)
    rows = list(found.prefetch_related("conditions"))
    return {row: _nowhere_because(row) for row in rows}


def _nowhere_because(deployment: Deployment) -> Refusal:
    for condition in deployment.conditions.all():
        if condition.type == ConditionType.PLACED and not condition.status and condition.refusals:
            return msgspec.convert(condition.refusals[0], Refusal)
    return _UNDECIDED


@dataclass(frozen=True)
class ClusterReplicas:
    """A deployment's replicas in one cluster: wanted now (at least the minimum), and ready."""

    cluster: str
    desired: int
    ready: int


@dataclass(frozen=True)
class ReplicaSummary:
    """A deployment's replicas."""

    desired: int
    ready: int
    by_cluster: tuple[ClusterReplicas, ...]

    def as_json(self) -> dict[str, Any]:
        """As the document shows it."""
        return {
            "desired": self.desired,
            "ready": self.ready,
            "by_cluster": [
                {"cluster": row.cluster, "desired": row.desired, "ready": row.ready}
                for row in self.by_cluster
            ],
        }


def replica_summaries(*, deployment_ids: Collection[UUID]) -> Mapping[UUID, ReplicaSummary]:
    """Summaries by deployment id, in two queries. Replicas that drain are neither wanted nor counted as ready."""
    desired: dict[UUID, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    ready: dict[UUID, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    present: dict[UUID, int] = defaultdict(int)
    for count in agents.replica_counts(deployment_ids=deployment_ids):
        if count.state in ("pending", "starting", "ready", "unhealthy"):
            present[count.assignment_id] += count.replicas
        if count.state == "ready":
            ready[count.deployment_id][count.cluster] += count.replicas
    for row in placements.assignment_minima(deployment_ids=deployment_ids):
        wanted = 0 if row.draining else max(row.min_replicas, present[row.assignment_id])
        desired[row.deployment_id][row.cluster] += wanted
    return {
        deployment_id: _summary(desired[deployment_id], ready[deployment_id])
        for deployment_id in deployment_ids
    }


def _summary(desired: Mapping[str, int], ready: Mapping[str, int]) -> ReplicaSummary:
    names: Iterable[str] = sorted({*desired, *ready})
    by_cluster = tuple(
        ClusterReplicas(cluster=name, desired=desired.get(name, 0), ready=ready.get(name, 0))
        for name in names
    )
    return ReplicaSummary(
        desired=sum(row.desired for row in by_cluster),
        ready=sum(row.ready for row in by_cluster),
        by_cluster=by_cluster,
    )


def deployment_names(*, deployment_ids: Collection[UUID]) -> dict[UUID, str]:
    """Names of deployments, also of those that are gone, for the control plane itself."""
    return dict(Deployment.objects.filter(pk__in=deployment_ids).values_list("pk", "name"))


def project_ids(*, deployment_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Deployment id -> its project, also of those that are gone, for the control plane itself."""
    return dict(Deployment.objects.filter(pk__in=deployment_ids).values_list("pk", "project_id"))


def deployment_ids_named(*, actor: Actor, name: str) -> list[UUID]:
    """All deployments of the actor's project that have or had this name."""
    found = Deployment.objects.filter(project_id=project_wanted(actor), name=name)
    return list(found.values_list("pk", flat=True))


def deployments_by_readiness() -> dict[str, int]:
    """How many deployments of the whole installation are ready, and how many are not."""
    ready = Q(conditions__type=ConditionType.READY, conditions__status=True)
    return Deployment.objects.filter(deleted_at=None).aggregate(
        ready=Count("pk", filter=ready, distinct=True),
        not_ready=Count("pk", distinct=True) - Count("pk", filter=ready, distinct=True),
    )
