"""Reading drills and their schedules."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.accounts.selectors import project_wanted
from apps.api.actors import Actor
from apps.api.rows import row_by_id
from apps.drills.models import Drill, DrillSamples, DrillSchedule
from controlplane.failover import DRILL_OPEN, DrillCourse, DrillFault, DrillLimits, DrillPromise, Sample

#: Of a drill that ended longer ago nothing new is to be seen.
_LATELY = timedelta(minutes=5)


def drills(
    *, actor: Actor, deployment: str | None = None, kind: str | None = None, state: str | None = None
) -> QuerySet[Drill]:
    """Of the actor's project."""
    found = Drill.objects.filter(project_id=project_wanted(actor))
    found = found if deployment is None else found.filter(deployment=deployment)
    found = found if kind is None else found.filter(kind=kind)
    return found if state is None else found.filter(state=state)


def drill_get(*, actor: Actor, drill_id: str) -> Drill:
    """Raises Problem ``not_found``."""
    return row_by_id(drills(actor=actor), "drill", drill_id)


def schedules(*, actor: Actor) -> QuerySet[DrillSchedule]:
    """Of the actor's project."""
    return DrillSchedule.objects.filter(project_id=project_wanted(actor)).select_related("last_drill")


def schedule_get(*, actor: Actor, schedule_id: str) -> DrillSchedule:
    """Raises Problem ``not_found``."""
    return row_by_id(schedules(actor=actor), "drill schedule", schedule_id)


def clusters_withheld(*, organization_id: UUID) -> Mapping[UUID, frozenset[str]]:
    """Deployment id -> ids of the clusters that are to get none of its traffic now."""
    found: dict[UUID, frozenset[str]] = {}
    rows = Drill.objects.filter(organization_id=organization_id, state="during", method="weights")
    for deployment_id, cluster_ids in rows.values_list("deployment_id", "lost_cluster_ids"):
        found[deployment_id] = found.get(deployment_id, frozenset()) | frozenset(cluster_ids)
    return found


def faults_lately(
    *, organization_id: UUID, cluster_names: Mapping[str, str], drill_ids: Collection[UUID], now: datetime
) -> dict[UUID, DrillFault]:
    """What drills have broken that are under way or have ended lately, and these; cluster ids get their names."""
    lately = Q(ended_at=None) | Q(ended_at__gt=now - _LATELY) | Q(pk__in=drill_ids)
    rows = Drill.objects.filter(
        lately, organization_id=organization_id, method="faults", injected_at_s__isnull=False
    )
    return {
        row.pk: DrillFault(
            drill_id=str(row.pk),
            kind=row.kind,  # type: ignore[arg-type]
            clusters=frozenset(cluster_names.get(name, "") for name in row.lost_cluster_ids),
            began_at=row.started_at + timedelta(seconds=row.injected_at_s or 0.0),
            ended_at=None
            if row.repaired_at_s is None
            else row.started_at + timedelta(seconds=row.repaired_at_s),
        )
        for row in rows.order_by("started_at", "pk")
    }


def open_drills() -> list[Drill]:
    """Of all organizations, for the control plane itself."""
    return list(Drill.objects.filter(state__in=sorted(DRILL_OPEN)).order_by("created_at", "pk"))


def schedules_due(*, now: datetime) -> list[DrillSchedule]:
    """Of all organizations, for the control plane itself."""
    return list(DrillSchedule.objects.filter(next_at__lte=now).order_by("next_at", "pk"))


def samples(*, drill: Drill) -> list[Sample]:
    """All that its clients have told, in the order in which the requests began."""
    batches = DrillSamples.objects.filter(drill=drill).order_by("sequence").values_list("samples", flat=True)
    told = [Sample(**one) for batch in batches for one in batch]
    return sorted(told, key=lambda sample: sample.at_s)


def samples_count(*, drill: Drill) -> int:
    """Of batches, not of single samples."""
    return DrillSamples.objects.filter(drill=drill).count()


def limits_of(drill: Drill) -> DrillLimits:
    return DrillLimits(**drill.limits)


def promise_of(drill: Drill) -> DrillPromise:
    return DrillPromise(**{**drill.promise, "regions": tuple(drill.promise["regions"])})


def course_of(drill: Drill) -> DrillCourse:
    """Of a drill whose fault is over."""
    ended_at_s = drill.ended_at_s or 0.0
    repaired_at_s = ended_at_s if drill.repaired_at_s is None else drill.repaired_at_s
    return DrillCourse(
        method=drill.method,  # type: ignore[arg-type]
        injected_at_s=repaired_at_s if drill.injected_at_s is None else drill.injected_at_s,
        repaired_at_s=repaired_at_s,
        ended_at_s=ended_at_s,
        detected_at_s=drill.detected_at_s,
        lost_regions=tuple(drill.lost_regions),
        idle_micro_usd_per_h=drill.idle_micro_usd_per_h,
    )
