"""Whole GPUs, inside one instance."""

import pytest

from controlplane.placement.rules.capacity import Ledger, packs
from tests.controlplane.placement.worlds import pool


@pytest.mark.parametrize(
    ("instances", "sizes", "fits"),
    [
        (1, {8: 1}, True),
        (2, {8: 1, 4: 2}, True),
        (1, {4: 1, 2: 1, 1: 2}, True),
        (1, {4: 1, 2: 1, 1: 3}, False),
        (2, {4: 3, 8: 1}, False),
        (0, {1: 1}, False),
        (0, {}, True),
        (100_000, {1: 799_993, 4: 1}, True),
    ],
)
def test_replicas_are_packed_whole(instances: int, sizes: dict[int, int], fits: bool) -> None:
    """Free GPUs in different instances do not add up to one replica."""
    assert packs(instances=instances, gpus_per_instance=8, replicas_by_gpus=sizes) is fits


def test_headroom_sees_fragmentation() -> None:
    """A replica of 5 in an instance of 8 keeps all of it from others of its size: it counts as the whole."""
    one = pool("eu", gpus_per_instance=8, capacity_instances=2)
    ledger = Ledger([one])
    ledger.add(one.pool_id, 5, 2)
    assert (
        ledger.headroom(one.pool_id, 4),
        ledger.headroom(one.pool_id, 3),
        ledger.headroom(one.pool_id, 1),
    ) == (0, 0, 0)
    assert ledger.headroom(one.pool_id, 4, more_instances=1) == 2
    ledger.add(one.pool_id, 5, -1)
    assert ledger.headroom(one.pool_id, 4) == 2


def test_odd_mixtures_are_packed() -> None:
    """In instances of 12, three replicas of 4 GPUs and two of 3 leave no instance whole though 6 GPUs more are free."""
    one = pool("eu", gpus_per_instance=12, capacity_instances=2)
    ledger = Ledger([one])
    ledger.add(one.pool_id, 4, 3)
    ledger.add(one.pool_id, 3, 2)
    assert (ledger.headroom(one.pool_id, 4), ledger.headroom(one.pool_id, 3)) == (1, 2)
    ledger.add(one.pool_id, 3, 1)
    assert ledger.headroom(one.pool_id, 4) == 0
