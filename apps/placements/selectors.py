"""Reading plans and assignments."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Count, QuerySet

from apps.placements.models import Assignment


def assignments_live(*, cluster_ids: Collection[UUID]) -> QuerySet[Assignment]:
    """Assignments of these clusters that have not ended, with all that a desired state says of them."""
    return (
        Assignment.objects.filter(ended_at=None, pool__cluster_id__in=cluster_ids)
        .select_related(
            "pool",
            "deployment__autoscaling",
            "revision__model_version__model",
            "revision__engine_image",
        )
        .order_by("created_at", "id")
    )


def assignments_by_id(*, cluster_id: UUID, assignment_ids: Collection[UUID]) -> dict[UUID, Assignment]:
    """Those of these assignments that are or were in this cluster, ended ones included."""
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
