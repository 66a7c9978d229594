"""Reading plans and assignments."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Case, Count, F, Prefetch, Q, QuerySet, Sum, When
from django.db.models.functions import Coalesce

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.api.problems import not_found
from apps.catalog.models import ModelVersion
from apps.placements.models import (
    ROWS_LEFT_OUT,
    Assignment,
    DeploymentDemand,
    PlacementClock,
    PlacementPlan,
    SolveCount,
    SolveKind,
)
from controlplane.placement.rules.worth import gap_percent


def assignments_live(*, cluster_ids: Collection[UUID]) -> QuerySet[Assignment]:
    """Assignments of these clusters that have not ended, draining ones included, with all that tables are made of.

    What many of them share (model versions, images) is read once, in queries of its own.
    """
    return (
        Assignment.objects.filter(pool__cluster_id__in=cluster_ids, ended_at=None)
        .select_related("pool", "deployment__autoscaling", "revision")
        .prefetch_related(
            Prefetch("revision__model_version", ModelVersion.objects.select_related("model")),
            "revision__engine_image",
        )
        .order_by("id")
    )


def assignment_ids_live(*, cluster_ids: Collection[UUID], beside: Collection[UUID]) -> set[UUID]:
    """Ids of assignments of these clusters that have not ended, but for those of the deployments ``beside``."""
    found = Assignment.objects.filter(pool__cluster_id__in=cluster_ids, ended_at=None)
    return set(found.exclude(deployment_id__in=beside).values_list("pk", flat=True))


class AssignmentHeld(NamedTuple):
    """What placement needs of an assignment that has not ended; as ``Assignment``."""

    assignment_id: UUID
    deployment_id: UUID
    revision_id: UUID
    revision: int
    pool_id: UUID
    min_replicas: int
    planned_replicas: int
    max_replicas: int
    handover_replicas: int
    gpus_per_replica: int
    standby: bool
    leaving: bool
    draining: bool
    deletion_requested_at: datetime | None

    @property
    def in_force(self) -> bool:
        """It is not on its way out."""
        return not (self.draining or self.leaving or self.deletion_requested_at)

    @property
    def room_replicas(self) -> int:
        """For so many of them room is kept."""
        return max(self.min_replicas, self.planned_replicas)


def assignments_held(*, organization_id: UUID) -> list[AssignmentHeld]:
    """All assignments of an organization that have not ended."""
    found = Assignment.objects.filter(pool__cluster__organization_id=organization_id, ended_at=None)
    return [
        AssignmentHeld(*row)
        for row in found.order_by("id").values_list(
            *("pk", "deployment_id", "revision_id", "revision__number", "pool_id"),
            *("min_replicas", "planned_replicas", "max_replicas", "handover_replicas", "gpus_per_replica"),
            *("standby", "leaving", "draining", "deployment__deletion_requested_at"),
        )
    ]


def standby_places(*, organization_id: UUID) -> set[tuple[str, str]]:
    """(revision id, pool id) of all that is in force and stands by, as agents were told."""
    found = Assignment.objects.filter(
        pool__cluster__organization_id=organization_id, ended_at=None, standby=True
    )
    return {(str(revision), str(pool)) for revision, pool in found.values_list("revision_id", "pool_id")}


def assignments_of_deployments(*, deployment_ids: Collection[UUID]) -> QuerySet[Assignment]:
    """Assignments of these deployments that have not ended, with pool, cluster and region."""
    return (
        Assignment.objects.filter(deployment_id__in=deployment_ids, ended_at=None)
        .select_related("pool__cluster__region", "revision")
        .order_by("created_at", "id")
    )


class AssignmentMinimum(NamedTuple):
    """What a list of deployments shows of a live assignment."""

    deployment_id: UUID
    assignment_id: UUID
    draining: bool
    min_replicas: int
    cluster: str


def assignment_minima(*, deployment_ids: Collection[UUID]) -> list[AssignmentMinimum]:
    """Of all live assignments of these deployments."""
    rows = Assignment.objects.filter(deployment_id__in=deployment_ids, ended_at=None).order_by()
    fields = ("deployment_id", "pk", "draining", "min_replicas", "pool__cluster__name")
    return [AssignmentMinimum(*row) for row in rows.values_list(*fields)]


def deployment_ids_live(*, organization_id: UUID) -> QuerySet[Assignment, UUID]:
    """Deployments of an organization that have an assignment which has not ended: to be used in a query."""
    found = Assignment.objects.filter(pool__cluster__organization_id=organization_id, ended_at=None)
    return found.values_list("deployment_id", flat=True)


def deployment_ids_unsettled() -> set[UUID]:
    """Deployments with an assignment that is on its way out, or hands over a part."""
    live = Assignment.objects.filter(ended_at=None)
    moving = live.filter(Q(leaving=True) | Q(draining=True) | Q(handover_replicas__gt=0))
    return set(moving.values_list("deployment_id", flat=True))


def clocks_behind() -> list[UUID]:
    """Organizations whose newest wish has not been solved."""
    return list(
        PlacementClock.objects.filter(solved__lt=F("wanted"))
        .order_by("organization_id")
        .values_list("organization_id", flat=True)
    )


def organization_ids_by_full_solve() -> list[UUID]:
    """Organizations that ever asked for a placement, those first whose last full solve is longest ago."""
    in_turn = PlacementClock.objects.order_by(F("full_solved_at").asc(nulls_first=True), "organization_id")
    return list(in_turn.values_list("organization_id", flat=True))


def full_solved_since(*, organization_id: UUID, moment: datetime) -> bool:
    """Whether a full solve of an organization was begun after a moment, and has come to an end."""
    return PlacementClock.objects.filter(organization_id=organization_id, full_solved_at__gt=moment).exists()


def clock(*, organization_id: UUID) -> PlacementClock | None:
    return PlacementClock.objects.filter(organization_id=organization_id).first()


def plans(*, actor: Actor) -> QuerySet[PlacementPlan]:
    """Plans of the actor's organization, without the problem and the plan themselves (they are large)."""
    return PlacementPlan.objects.filter(organization_id=organization_wanted(actor)).defer("problem", "plan")


def plan_get(*, actor: Actor, plan_generation: str) -> PlacementPlan:
    """One plan, whole; ``latest`` is the newest. Raises Problem ``not_found``."""
    found = PlacementPlan.objects.filter(organization_id=organization_wanted(actor))
    row = None
    if plan_generation == "latest":
        row = found.order_by("-plan_generation").first()
    elif plan_generation.isascii() and plan_generation.isdigit() and len(plan_generation) <= 18:
        row = found.filter(plan_generation=int(plan_generation)).first()
    if row is None:
        raise not_found("plan", plan_generation)
    return row


#: What of a failed solve is told whoever does not operate the organization: why may be another project's.
FAILURE_TOLD = "The organization's operators see why. Until it is mended nothing new is placed."


def solve_failures_told(*, actor: Actor) -> tuple[str, ...]:
    """Why the newest solves of the actor's organization failed, by kind; none where they did not.

    Who does not operate it is only told that they did.
    """
    now = clock(organization_id=organization_wanted(actor))
    failures = now.failures if now else {}
    found = tuple(str(failures[kind]) for kind in SolveKind.values if kind in failures)
    return found if actor.can_operate else (FAILURE_TOLD,) * bool(found)


def rows_left_out() -> dict[UUID, str]:
    """What the newest solves of organizations could not plan with, by organization; of those that had any."""
    found = PlacementClock.objects.filter(failures__has_key=ROWS_LEFT_OUT)
    return {row.organization_id: row.failures[ROWS_LEFT_OUT] for row in found}


@dataclass(frozen=True)
class PlanBound:
    """What a plan costs by ``plan_cost``, and what any plan costs at least, proven at ``proven_at``."""

    objective_micro_usd_per_h: int
    lower_bound_micro_usd_per_h: int
    proven_at: datetime

    @property
    def gap_percent(self) -> float:
        """By how much the plan is dearer than the bound at most, in percent of the bound."""
        return gap_percent(self.objective_micro_usd_per_h, self.lower_bound_micro_usd_per_h)


_LAST_BOUND = "organization__placement_clock__lower_bound_micro_usd_per_h"
_LAST_FULL_SOLVE = "organization__placement_clock__full_solved_at"
_IN_FORCE = Q(plan_generation=F("organization__placement_clock__plan_generation"))

#: Plans in force since which a full solve began: its bound is one on them.
_PROVEN_SINCE = _IN_FORCE & Q(**{f"{_LAST_FULL_SOLVE}__gte": F("created_at")})


def plan_bound(*, plan: PlacementPlan) -> PlanBound | None:
    """A plan's own bound; of the plan in force else that of a full solve that began since it was made.

    None where none was proven: the bound of another world, of other prices say, says nothing about this plan.
    """
    bound, proven_at = plan.lower_bound_micro_usd_per_h, plan.created_at
    if bound is None:
        since = PlacementPlan.objects.filter(_PROVEN_SINCE, pk=plan.pk)
        bound, proven_at = since.values_list(_LAST_BOUND, _LAST_FULL_SOLVE).first() or (None, proven_at)
    if bound is None or plan.objective_micro_usd_per_h is None:
        return None
    return PlanBound(plan.objective_micro_usd_per_h, bound, proven_at)


def plan_newest(*, organization_id: UUID) -> PlacementPlan | None:
    """The newest plan without the problem it saw, for the control plane itself."""
    found = PlacementPlan.objects.filter(organization_id=organization_id).defer("problem")
    return found.order_by("-plan_generation").first()


def plan_generation_at(*, organization_id: UUID, moment: datetime) -> int:
    """Of the plan that was in force at a moment; 0 before the first, or where it is kept no more."""
    found = PlacementPlan.objects.filter(organization_id=organization_id, created_at__lte=moment)
    return found.order_by("-plan_generation").values_list("plan_generation", flat=True).first() or 0


def plans_between(*, organization_id: UUID, first: int, last: int) -> QuerySet[PlacementPlan]:
    """Plans of these generations, both included, the oldest first and without the problems they saw; for the control
    plane itself."""
    found = PlacementPlan.objects.filter(
        organization_id=organization_id, plan_generation__gte=first, plan_generation__lte=last
    )
    return found.defer("problem").order_by("plan_generation")


def plan_id_of_generation(*, organization_id: UUID, plan_generation: int) -> UUID | None:
    """The id of a plan, for the control plane itself: whether what it keeps of it is still the one."""
    found = PlacementPlan.objects.filter(organization_id=organization_id, plan_generation=plan_generation)
    return found.values_list("pk", flat=True).first()


def plan_ids_uncertified(*, organization_id: UUID) -> list[UUID]:
    """Plans of an organization whose certificates nobody has hashed yet, the newest first, twenty at most."""
    found = PlacementPlan.objects.filter(organization_id=organization_id, certificate_sha256="")
    return list(found.order_by("-plan_generation").values_list("pk", flat=True)[:20])


def plan_by_id(*, plan_id: UUID) -> PlacementPlan:
    """One plan, whole, for the control plane itself."""
    return PlacementPlan.objects.get(pk=plan_id)


def assignments_by_id(*, cluster_id: UUID, assignment_ids: Collection[UUID]) -> dict[UUID, Assignment]:
    """Those of these assignments that are or were in this cluster, ended ones included; project loaded."""
    found = Assignment.objects.filter(pk__in=assignment_ids, pool__cluster_id=cluster_id)
    return {row.pk: row for row in found.select_related("pool", "deployment__project")}


def gpus_by_assignment(*, assignment_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many GPUs a replica of each of these assignments holds."""
    return dict(Assignment.objects.filter(pk__in=assignment_ids).values_list("pk", "gpus_per_replica"))


def deployment_ids_changing_revision(*, deployment_ids: Collection[UUID]) -> set[UUID]:
    """Those of these deployments that have live assignments of more than one revision."""
    live = Assignment.objects.filter(ended_at=None, deployment_id__in=deployment_ids)
    counted = live.values("deployment_id").annotate(revisions=Count("revision_id", distinct=True))
    return set(counted.filter(revisions__gt=1).values_list("deployment_id", flat=True))


def organization_ids_uncertified() -> list[UUID]:
    """Organizations with a plan whose certificate nobody has hashed yet."""
    found = PlacementPlan.objects.filter(certificate_sha256="").order_by("organization_id")
    return list(found.values_list("organization_id", flat=True).distinct())


def plans_superseded() -> QuerySet[PlacementPlan]:
    """Plans that are not their organization's newest."""
    return PlacementPlan.objects.filter(
        plan_generation__lt=F("organization__placement_clock__plan_generation")
    )


@dataclass(frozen=True)
class PlacementTotals:
    """Of the whole installation.

    wishes_behind: changes that no plan has seen yet; plans: ever stored
    objective: of the plans in force
    bounded_objective, lower_bound: of those of them for which a bound was proven (``plan_bound``)
    refused, relaxed: deployments by the plans in force
    failing: organizations whose last solve of some kind failed
    solves: (kind, outcome) -> how many, and the seconds they took
    """

    wishes_behind: int
    plans: int
    objective_micro_usd_per_h: int
    bounded_objective_micro_usd_per_h: int
    lower_bound_micro_usd_per_h: int
    refused: int
    relaxed: int
    failing: int
    solves: Mapping[tuple[str, str], tuple[int, float]]


def placement_totals() -> PlacementTotals:
    """For the control plane's own metrics."""
    clocks = PlacementClock.objects.aggregate(
        wishes_behind=Sum(F("wanted") - F("solved")),
        plans=Sum("plan_generation"),
        failing=Count("pk", filter=~Q(failures={})),
    )
    proven = Coalesce("lower_bound_micro_usd_per_h", Case(When(_PROVEN_SINCE, then=F(_LAST_BOUND))))
    in_force = (
        PlacementPlan.objects.filter(_IN_FORCE)
        .annotate(proven=proven)
        .aggregate(
            objective=Sum("objective_micro_usd_per_h"),
            bounded=Sum("objective_micro_usd_per_h", filter=Q(proven__isnull=False)),
            bound=Sum("proven"),
            refused=Sum("refused"),
            relaxed=Sum("relaxed"),
        )
    )
    counts = SolveCount.objects.values_list("kind", "outcome").annotate(Sum("solves"), Sum("solve_s_sum"))
    return PlacementTotals(
        wishes_behind=clocks["wishes_behind"] or 0,
        plans=clocks["plans"] or 0,
        objective_micro_usd_per_h=in_force["objective"] or 0,
        bounded_objective_micro_usd_per_h=in_force["bounded"] or 0,
        lower_bound_micro_usd_per_h=in_force["bound"] or 0,
        refused=in_force["refused"] or 0,
        relaxed=in_force["relaxed"] or 0,
        failing=clocks["failing"],
        solves={(kind, outcome): (solves, seconds) for kind, outcome, solves, seconds in counts},
    )


class DemandHeld(NamedTuple):
    """A ``DeploymentDemand`` with the name of its origin."""

    deployment_id: UUID
    origin: str
    requests_per_s_p50: float
    requests_per_s_p95: float
    tokens_per_s_p50: float
    tokens_per_s_p95: float
    known_since: datetime


def demands_held(*, organization_id: UUID) -> list[DemandHeld]:
    """What usage says of the demand for an organization's deployments, by origin."""
    found = DeploymentDemand.objects.filter(deployment__project__organization_id=organization_id)
    return [
        DemandHeld(*row)
        for row in found.order_by("deployment_id", "origin__name").values_list(
            *("deployment_id", "origin__name", "requests_per_s_p50", "requests_per_s_p95"),
            *("tokens_per_s_p50", "tokens_per_s_p95", "known_since"),
        )
    ]
