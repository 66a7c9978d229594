"""Pools of which something else than their rows has changed for placement, as when they are being emptied."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import F

from apps.fleet import selectors
from apps.fleet.models import GpuPool


def pools_touch(*, pool_ids: Collection[UUID]) -> None:
    """Let their generations rise, so that no plan made before sends anything there. Locks them, in one order."""
    selectors.pool_generations_locked(pool_ids=[str(pool_id) for pool_id in pool_ids])
    GpuPool.objects.filter(pk__in=pool_ids).update(generation=F("generation") + 1)
