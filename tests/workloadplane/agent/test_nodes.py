"""The machines of pools, and on which of them replicas are put."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.agent.nodes import NodeShares, closed_nodes, nodes_of, open_gpus, place, read, written
from workloadplane.health.notices import departure
from workloadplane.protocol.desired import PoolBound
from workloadplane.protocol.observed import Notice


def pool(name: str = "spot", *, gpus: int = 8, instances: int = 3) -> PoolBound:
    return PoolBound(
        pool_id=f"id-of-{name}",
        name=name,
        procurement="spot",
        instance_type="h100.8",
        gpus_per_instance=gpus,
        capacity_gpus=gpus * instances,
    )


@given(
    gpus=st.lists(st.sampled_from([1, 2, 4, 8, 16]), max_size=12),
    closed=st.sets(st.sampled_from(["spot-1", "spot-2", "spot-3"])),
)
def test_a_replica_gets_what_it_needs_of_open_nodes_and_no_node_is_overfilled(
    gpus: list[int], closed: set[str]
) -> None:
    """As long as the pool has room for it; what fits on one node is on one where one has room."""
    nodes = nodes_of([pool()])
    left = open_gpus([pool()], nodes, closed)["id-of-spot"]
    held: list[NodeShares] = []
    for count in gpus:
        if count > left:
            continue
        left -= count
        before = Counter[str]()
        for shares in held:
            before.update(dict(shares))
        shares = place(nodes, held, closed, count)
        assert sum(taken for _, taken in shares) == count
        assert not {name for name, _ in shares} & closed
        room = any(8 - before[node.name] >= count for node in nodes if node.name not in closed)
        assert not room or len(shares) == 1
        assert read(written(shares)) == shares
        held.append(shares)
    used = Counter[str]()
    for shares in held:
        used.update(dict(shares))
    assert max(used.values(), default=0) <= 8


def test_what_is_emptied_or_taken_back_is_closed() -> None:
    """A node by order or notice; all of a pool by its notice."""
    pools = [pool(), pool("reserved", instances=1)]
    nodes = nodes_of(pools)
    assert [node.name for node in nodes] == ["spot-1", "spot-2", "spot-3", "reserved-1"]
    taken = Notice(pool="spot", node="spot-2", deadline_at=0.0, reason="", provider="aws")
    some = [departure(taken, left_s=30, now=0)]
    assert closed_nodes(nodes, pools, ["spot-1"], some) == {"spot-1", "spot-2"}
    assert open_gpus(pools, nodes, ["spot-1", "spot-2"]) == {"id-of-spot": 8, "id-of-reserved": 8}
    whole = Notice(pool="reserved", node=None, deadline_at=0.0, reason="", provider="aws")
    assert closed_nodes(nodes, pools, [], [departure(whole, left_s=30, now=0)]) == {"reserved-1"}
