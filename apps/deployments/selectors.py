"""Reading deployments: those of the actor's project, or of an organization for the control plane itself."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
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
    "autoscaling__scale_down_delay_s", "autoscaling__concurrency_target",
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


#: What placement sees of a deployment; of a thousand of them nothing else is read.
_PLACED_BY = (
    "name", "project_id", "generation", "posture", "survivability", "residency", "residency_ingress", "priority",
    "providers_allowed", "providers_denied", "demand", "slo_ttft_s_p95", "slo_inter_token_latency_s_p95", "created_at",
    "autoscaling__min_replicas", "autoscaling__max_replicas", "autoscaling__concurrency_target",
    "current_revision__number", "current_revision__engine_image__engine",
    "current_revision__model_version__precision", "current_revision__model_version__size_bytes",
    "current_revision__model_version__gpus_per_replica",
)  # fmt: skip


def deployments_to_place(*, organization_id: UUID) -> QuerySet[Deployment]:
    """As ``deployments_wanted``, with only what placement looks at."""
    wanted = deployments_wanted(organization_id=organization_id).select_related(None)
    return wanted.select_related(
        "autoscaling", "current_revision__model_version", "current_revision__engine_image"
    ).only(*_PLACED_BY)


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
