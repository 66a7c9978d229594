"""Instances that are paid for whether used or not."""

from datetime import datetime

from apps.api.actors import Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import GpuPool, Procurement, Reservation
from apps.fleet.services.announce import fleet_changed


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
    if ends_at <= starts_at:
        raise field_problem(
            "/ends_at", "is not after starts_at", value=ends_at.isoformat(), remedy="end it later"
        )
    reservation = Reservation.objects.create(
        pool=pool,
        instances=instances,
        instance_micro_usd_per_h=price_micro_usd_per_h,
        starts_at=starts_at,
        ends_at=ends_at,
    )
    reservation.refresh_from_db()
    after = {
        "pool": pool.name,
        "instances": instances,
        "price_micro_usd_per_h": price_micro_usd_per_h,
        "starts_at": starts_at,
        "ends_at": ends_at,
    }
    audit_record(actor=actor, action="created", subject=reservation, after=after)
    fleet_changed(organization_id=pool.cluster.organization_id, cluster_ids=[pool.cluster_id])
    return reservation


@one_transaction
def reservation_delete(*, actor: Actor, reservation: Reservation) -> None:
    """Forget a reservation."""
    pool = reservation.pool
    before = {"pool": pool.name, "instances": reservation.instances}
    audit_record(actor=actor, action="deleted", subject=reservation, before=before)
    reservation.delete()
    fleet_changed(organization_id=pool.cluster.organization_id, cluster_ids=[pool.cluster_id])
