"""What was learned of pools, stored where it has moved far enough for plans."""

from collections.abc import Mapping

from django.db.models import F

from apps.fleet import selectors
from apps.fleet.models import GpuPool
from controlplane.procurement.learning import Learned

#: A hazard has moved when it differs by more than this share of the greater one, and by more than so much per hour ...
MOVED_SHARE, MOVED_PER_H = 0.2, 0.002
#: ... and an obtainability when it differs by more than this.
MOVED_OBTAINABILITY = 0.05
#: What placement takes (``controlplane.placement.checks``).
HAZARD_MOST_PER_H, OBTAINABILITY_LEAST = 60.0, 0.001


def pools_learned_store(*, learned: Mapping[str, Learned]) -> list[GpuPool]:
    """Take over what has moved, in the caller's transaction; the pools whose generation rose. Locks them."""
    selectors.pool_generations_locked(pool_ids=list(learned))
    moved = []
    for pool in GpuPool.objects.filter(pk__in=learned).select_related("cluster").order_by("pk"):
        hazard, obtainability = _bounded(learned[str(pool.pk)])
        if not _has_moved(pool, hazard, obtainability):
            continue
        GpuPool.objects.filter(pk=pool.pk).update(
            hazard_learned_per_h=hazard,
            obtainability_learned=obtainability,
            generation=F("generation") + 1,
        )
        pool.hazard_learned_per_h, pool.obtainability_learned = hazard, obtainability
        moved.append(pool)
    return moved


def _bounded(found: Learned) -> tuple[float | None, float | None]:
    hazard, obtainability = found.hazard_per_h, found.obtainability
    return (
        None if hazard is None else min(HAZARD_MOST_PER_H, hazard),
        None if obtainability is None else max(OBTAINABILITY_LEAST, obtainability),
    )


def _has_moved(pool: GpuPool, hazard: float | None, obtainability: float | None) -> bool:
    """Against what placement reckons with now. What is not known any more is as it is stated."""
    before, after = pool.hazard_believed_per_h, pool.hazard_per_h if hazard is None else hazard
    if abs(after - before) > max(MOVED_PER_H, MOVED_SHARE * max(before, after)):
        return True
    had = pool.obtainability if obtainability is None else obtainability
    return abs(had - pool.obtainability_believed) > MOVED_OBTAINABILITY
