"""Changing and removing GPU pools. Prices are effective-dated: a new price is a new row, never an update."""

from typing import Any

from django.utils import timezone

from apps.api.actors import Actor
from apps.api.etags import etag_of_generation, precondition_check
from apps.api.problems import not_found
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import GpuPool, PoolPrice
from apps.fleet.services.announce import fleet_changed
from apps.fleet.services.pool_create import price_check

_COLUMNS = ("capacity_instances", "hazard_per_h", "obtainability", "schedulable")


@one_transaction
def pool_patch(
    *,
    actor: Actor,
    pool: GpuPool,
    capacity_instances: int | None = None,
    hazard_per_h: float | None = None,
    obtainability: float | None = None,
    schedulable: bool | None = None,
    price_micro_usd_per_h: int | None = None,
    if_match: str | None = None,
) -> GpuPool:
    """Change what is given; the generation rises only if something differs.

    Raises Problem ``not_found``, ``stale_etag``, ``invalid_document``.
    """
    locked = _locked(pool, if_match)
    before, after = _fields(locked), _fields(locked)
    given = {
        "capacity_instances": capacity_instances,
        "hazard_per_h": hazard_per_h,
        "obtainability": obtainability,
        "schedulable": schedulable,
        "price_micro_usd_per_h": price_micro_usd_per_h,
    }
    after.update({name: value for name, value in given.items() if value is not None})
    if after == before:
        return locked
    if price_micro_usd_per_h is not None:
        price_check(price_micro_usd_per_h, gpus=locked.instance_type.gpus)
    for name in _COLUMNS:
        setattr(locked, name, after[name])
    locked.generation += 1
    locked.save(update_fields=[*_COLUMNS, "generation"])
    if after["price_micro_usd_per_h"] != before["price_micro_usd_per_h"]:
        price = after["price_micro_usd_per_h"]
        PoolPrice.objects.create(pool=locked, instance_micro_usd_per_h=price, effective_from=timezone.now())
    audit_record(actor=actor, action="changed", subject=locked, before=before, after=after)
    fleet_changed(organization_id=locked.cluster.organization_id, cluster_ids=[locked.cluster_id])
    return locked


@one_transaction
def pool_delete(*, actor: Actor, pool: GpuPool, if_match: str | None = None) -> None:
    """Remove a pool that nothing ever ran on. Raises Problem ``not_found``, ``in_use``, ``stale_etag``."""
    locked = _locked(pool, if_match)
    cluster = locked.cluster
    audit_record(actor=actor, action="deleted", subject=locked, before=_fields(locked))
    locked.delete()
    fleet_changed(organization_id=cluster.organization_id, cluster_ids=[cluster.pk])


def _locked(pool: GpuPool, if_match: str | None) -> GpuPool:
    """Without its key: whoever stores a row that refers to it, late in a transaction, must not wait for us."""
    rows = GpuPool.objects.select_for_update(of=("self",), no_key=True).select_related(
        "cluster", "instance_type"
    )
    locked = rows.filter(pk=pool.pk).first()
    if locked is None:  # somebody else was quicker
        raise not_found("pool", pool.name)
    precondition_check(if_match, etag_of_generation(locked.generation))
    return locked


def _fields(pool: GpuPool) -> dict[str, Any]:
    newest = pool.prices.filter(effective_from__lte=timezone.now()).order_by("-effective_from").first()
    return {
        **{name: getattr(pool, name) for name in _COLUMNS},
        "price_micro_usd_per_h": newest.instance_micro_usd_per_h if newest else None,
    }
