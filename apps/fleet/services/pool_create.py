"""Adding GPU pools to a cluster."""

from django.utils import timezone

from apps.api.actors import Actor
from apps.api.money import MICRO, usd
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import Cluster, GpuPool, InstanceType, PoolPrice
from apps.fleet.services.announce import fleet_changed
from workloadplane.words import counted

#: A GPU costs a hundredth of that: what is above was meant per month, or in another currency's cents.
GPU_USD_PER_H_MAX = 1000


def price_check(instance_micro_usd_per_h: int, *, gpus: int) -> None:
    """Raises Problem ``invalid_document`` for a price of an instance that no machine costs."""
    if instance_micro_usd_per_h > GPU_USD_PER_H_MAX * MICRO * gpus:
        detail = f"is over {GPU_USD_PER_H_MAX:,} USD an hour for each of {counted(gpus, 'GPU')}"
        remedy = "give the price of one instance for one hour"
        raise field_problem("/price_usd_per_h", detail, value=usd(instance_micro_usd_per_h), remedy=remedy)


@one_transaction
def pool_create(
    *,
    actor: Actor,
    cluster: Cluster,
    name: str,
    instance_type: str,
    procurement: str,
    capacity_instances: int,
    price_micro_usd_per_h: int,
    hazard_per_h: float = 0.0,
    obtainability: float = 1.0,
    schedulable: bool = True,
) -> GpuPool:
    """Machines of one type, procured one way, in one cluster; the price holds from now on.

    price_micro_usd_per_h: of one instance. Raises Problem ``invalid_document``, ``name_taken``, ``already_exists``.
    """
    kind = InstanceType.objects.filter(provider_id=cluster.region.provider_id, name=instance_type).first()
    if kind is None:
        offered = InstanceType.objects.filter(provider_id=cluster.region.provider_id).order_by("name")
        known = ", ".join(offered.values_list("name", flat=True)[:50])
        detail = "is not offered by the cluster's provider"
        remedy = f"offered are: {known or 'none'}"
        raise field_problem("/instance_type", detail, value=instance_type[:80], remedy=remedy)
    price_check(price_micro_usd_per_h, gpus=kind.gpus)
    pool = GpuPool.objects.create(
        cluster=cluster,
        instance_type=kind,
        procurement=procurement,
        name=name,
        capacity_instances=capacity_instances,
        hazard_per_h=hazard_per_h,
        obtainability=obtainability,
        schedulable=schedulable,
    )
    pool.refresh_from_db()
    PoolPrice.objects.create(
        pool=pool, instance_micro_usd_per_h=price_micro_usd_per_h, effective_from=timezone.now()
    )
    after = {
        "cluster": cluster.name,
        "name": name,
        "instance_type": instance_type,
        "procurement": procurement,
        "capacity_instances": capacity_instances,
        "price_micro_usd_per_h": price_micro_usd_per_h,
        "hazard_per_h": hazard_per_h,
        "obtainability": obtainability,
        "schedulable": schedulable,
    }
    audit_record(
        actor=actor, action="created", subject=pool, after=after, organization_id=cluster.organization_id
    )
    fleet_changed(organization_id=cluster.organization_id, cluster_ids=[cluster.pk])
    return pool
