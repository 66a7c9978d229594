"""Instances that are paid for whether used or not."""

from datetime import datetime
from typing import Any

from apps.api.actors import Actor
from apps.api.problems import field_problem, not_found
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import GpuPool, Procurement, Reservation
from apps.fleet.services.announce import fleet_changed
from apps.fleet.services.pool_create import price_check


@one_transaction
def reservation_create(
    *,
    actor: Actor,
    pool: GpuPool,
    instances: int,
    price_micro_usd_per_h: int,
    starts_at: datetime,
    ends_at: datetime,
) -> Reservation:
    """Note a reservation of a reserved pool. Raises Problem ``invalid_document``."""
    if pool.procurement != Procurement.RESERVED:
        detail = f"is a pool of {pool.procurement} instances"
        raise field_problem(
            "/pool", detail, value=pool.name, remedy="name a pool whose procurement is reserved"
        )
    _ordered_check(starts_at, ends_at)
    price_check(price_micro_usd_per_h, gpus=pool.instance_type.gpus)
    reservation = Reservation.objects.create(
        pool=pool,
        instances=instances,
        instance_micro_usd_per_h=price_micro_usd_per_h,
        starts_at=starts_at,
        ends_at=ends_at,
    )
    reservation.refresh_from_db()
    audit_record(actor=actor, action="created", subject=reservation, after=_fields(reservation))
    fleet_changed(organization_id=pool.cluster.organization_id, cluster_ids=[pool.cluster_id])
    return reservation


@one_transaction
def reservation_patch(
    *,
    actor: Actor,
    reservation: Reservation,
    instances: int | None = None,
    price_micro_usd_per_h: int | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Reservation:
    """Change what is given, as when a commitment is enlarged, renewed or ended early.

    Raises Problem ``not_found``, ``invalid_document``.
    """
    rows = Reservation.objects.select_for_update(of=("self",)).select_related(
        "pool__cluster", "pool__instance_type"
    )
    locked = rows.filter(pk=reservation.pk).first()
    if locked is None:  # somebody else was quicker
        raise not_found("reservation", str(reservation.pk))
    before = _fields(locked)
    given = {
        "instances": instances,
        "instance_micro_usd_per_h": price_micro_usd_per_h,
        "starts_at": starts_at,
        "ends_at": ends_at,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        setattr(locked, name, value)
    _ordered_check(locked.starts_at, locked.ends_at)
    price_check(locked.instance_micro_usd_per_h, gpus=locked.pool.instance_type.gpus)
    after = _fields(locked)
    if after == before:
        return locked
    locked.save(update_fields=list(changes))
    audit_record(actor=actor, action="changed", subject=locked, before=before, after=after)
    fleet_changed(organization_id=locked.pool.cluster.organization_id, cluster_ids=[locked.pool.cluster_id])
    return locked


@one_transaction
def reservation_delete(*, actor: Actor, reservation: Reservation) -> None:
    """Forget a reservation."""
    pool = reservation.pool
    audit_record(actor=actor, action="deleted", subject=reservation, before=_fields(reservation))
    reservation.delete()
    fleet_changed(organization_id=pool.cluster.organization_id, cluster_ids=[pool.cluster_id])


def _ordered_check(starts_at: datetime, ends_at: datetime) -> None:
    if ends_at <= starts_at:
        raise field_problem(
            "/ends_at", "is not after starts_at", value=ends_at.isoformat(), remedy="end it later"
        )


def _fields(reservation: Reservation) -> dict[str, Any]:
    return {
        "pool": reservation.pool.name,
        "instances": reservation.instances,
        "price_micro_usd_per_h": reservation.instance_micro_usd_per_h,
        "starts_at": reservation.starts_at,
        "ends_at": reservation.ends_at,
    }
