"""What was learned of pools, stored where it has moved far enough for plans."""

from collections.abc import Mapping

from django.db.models import F

from apps.fleet import selectors
from apps.fleet.models import GpuPool
from controlplane.procurement.learning import Believed, Learned, taken_over


def pools_learned_store(*, learned: Mapping[str, Learned]) -> list[GpuPool]:
    """Take over what has moved, in the caller's transaction; the pools whose generation rose. Locks them."""
    selectors.pool_generations_locked(pool_ids=list(learned))
    moved = []
    for pool in GpuPool.objects.filter(pk__in=learned).select_related("cluster").order_by("pk"):
        found = taken_over(
            learned[str(pool.pk)],
            stated=Believed(pool.hazard_per_h, pool.obtainability),
            believed=Believed(pool.hazard_believed_per_h, pool.obtainability_believed),
        )
        if found is None:
            continue
        GpuPool.objects.filter(pk=pool.pk).update(
            hazard_learned_per_h=found.hazard_per_h,
            obtainability_learned=found.obtainability,
            generation=F("generation") + 1,
        )
        pool.hazard_learned_per_h, pool.obtainability_learned = found.hazard_per_h, found.obtainability
        moved.append(pool)
    return moved
