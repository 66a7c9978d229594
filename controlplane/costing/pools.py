"""What GPUs of a pool cost per hour, with reservations as what they are: paid for whether used or not.

A replica is charged the share of the instance that its GPUs are. That errs low while an instance is not full (the rest
of it is paid for as well) and, because every share is rounded up, high by less than one micro-dollar a replica.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTariff:
    """What a pool's GPUs cost now.

    instance_micro_usd_per_h:          an instance rented by the hour
    reserved_instances:                instances paid for already
    reserved_instance_micro_usd_per_h: what one of those costs, used or not
    """

    gpus_per_instance: int
    instance_micro_usd_per_h: int
    reserved_instances: int = 0
    reserved_instance_micro_usd_per_h: int = 0

    @property
    def reserved_gpus(self) -> int:
        return self.reserved_instances * self.gpus_per_instance


@dataclass(frozen=True, slots=True)
class PoolCost:
    """``share_micro_usd_per_h``: what the GPUs are worth, reserved ones at their reservation's price.
    ``marginal_micro_usd_per_h``: what using them adds to the bill; nothing for reserved ones.
    """

    share_micro_usd_per_h: int
    marginal_micro_usd_per_h: int

    def __add__(self, other: "PoolCost") -> "PoolCost":
        return PoolCost(
            self.share_micro_usd_per_h + other.share_micro_usd_per_h,
            self.marginal_micro_usd_per_h + other.marginal_micro_usd_per_h,
        )


def replica_micro_usd_per_h(*, instance_micro_usd_per_h: int, gpus_per_instance: int, gpus: int) -> int:
    """The share of an instance's price that ``gpus`` of its ``gpus_per_instance`` are, rounded up."""
    return -(-instance_micro_usd_per_h * gpus // gpus_per_instance)


def pool_cost(tariff: PoolTariff, *, used_gpus: int, gpus_per_replica: int, replicas: int) -> PoolCost:
    """What ``replicas`` more cost in a pool of which ``used_gpus`` are in use: reserved GPUs are used up first.

    A replica that is only partly covered by what is left of a reservation counts as not covered: errs high.
    """
    covered = min(replicas, max(0, tariff.reserved_gpus - used_gpus) // gpus_per_replica)
    reserved_each = replica_micro_usd_per_h(
        instance_micro_usd_per_h=tariff.reserved_instance_micro_usd_per_h,
        gpus_per_instance=tariff.gpus_per_instance,
        gpus=gpus_per_replica,
    )
    rented_each = replica_micro_usd_per_h(
        instance_micro_usd_per_h=tariff.instance_micro_usd_per_h,
        gpus_per_instance=tariff.gpus_per_instance,
        gpus=gpus_per_replica,
    )
    rented = (replicas - covered) * rented_each
    return PoolCost(covered * reserved_each + rented, rented)


def pool_costs(tariff: PoolTariff, rooms: Sequence[tuple[int, int]]) -> tuple[PoolCost, ...]:
    """What rooms of (GPUs per replica, replicas) that share a pool cost, one by one; the sum depends on no order.

    Reserved GPUs go to the largest replicas first, and among equals to the first. A replica that is only partly covered
    counts as rented.
    """
    found = [PoolCost(0, 0)] * len(rooms)
    covered_gpus = 0
    for index in sorted(range(len(rooms)), key=lambda index: -rooms[index][0]):
        gpus, replicas = rooms[index]
        found[index] = pool_cost(tariff, used_gpus=covered_gpus, gpus_per_replica=gpus, replicas=replicas)
        covered_gpus += gpus * min(replicas, (tariff.reserved_gpus - covered_gpus) // gpus)
    return tuple(found)
