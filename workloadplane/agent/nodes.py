"""The machines of this cluster's pools, and on which of them a replica is put. Pure.

A runtime of processes has no machines of its own: a pool of so many instances is so many nodes here, ``spot-1`` and so
on, each with the GPUs of one instance. What a replica holds of which node is kept with it as a label.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from workloadplane.health.notices import Departure
from workloadplane.protocol.desired import PoolBound

#: GPUs by node, as a replica holds them.
NodeShares = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine."""

    name: str
    pool_id: str
    gpus: int


def nodes_of(pools: Iterable[PoolBound]) -> tuple[Node, ...]:
    """All machines of these pools, in order."""
    return tuple(
        Node(name=f"{pool.name}-{number}", pool_id=pool.pool_id, gpus=pool.gpus_per_instance)
        for pool in pools
        for number in range(1, pool.capacity_gpus // max(1, pool.gpus_per_instance) + 1)
    )


def closed_nodes(
    nodes: Iterable[Node],
    pools: Iterable[PoolBound],
    cordoned: Collection[str],
    departures: Sequence[Departure],
) -> frozenset[str]:
    """Those that take no new replica: being emptied, or taken back."""
    pool_names = {pool.pool_id: pool.name for pool in pools}
    leaving = {(each.notice.pool, each.notice.node) for each in departures}
    return frozenset(
        node.name
        for node in nodes
        if node.name in cordoned
        or (pool_names[node.pool_id], None) in leaving
        or (pool_names[node.pool_id], node.name) in leaving
    )


def open_gpus(
    pools: Iterable[PoolBound], nodes: Iterable[Node], closed: Collection[str]
) -> Mapping[str, int]:
    """What each pool has without its closed nodes."""
    left = {pool.pool_id: pool.capacity_gpus for pool in pools}
    for node in nodes:
        if node.name in closed:
            left[node.pool_id] -= node.gpus
    return left


def place(
    nodes: Iterable[Node], held: Iterable[NodeShares], closed: Collection[str], gpus: int
) -> NodeShares:
    """Where a replica goes: the fullest node that has room for all of it, else over as few as will do."""
    used: Counter[str] = Counter()
    for name, count in chain.from_iterable(held):
        used[name] += count
    free = {node.name: node.gpus - used[node.name] for node in nodes if node.name not in closed}
    fitting = [name for name, count in free.items() if count >= gpus]
    if fitting:
        return ((min(fitting, key=lambda name: free[name]), gpus),)
    shares: list[tuple[str, int]] = []
    for name in sorted(free, key=lambda name: -free[name]):
        taken = min(gpus, free[name])
        if taken > 0:
            shares.append((name, taken))
            gpus -= taken
    return tuple(shares)


def written(shares: NodeShares) -> str:
    """As a label."""
    return ",".join(f"{name}={gpus}" for name, gpus in shares)


def read(label: str) -> NodeShares:
    """From a label; a replica that an older agent started has none. Raises ValueError for what is none."""
    pairs = (entry.split("=") for entry in label.split(",") if entry)
    return tuple((name, int(gpus)) for name, gpus in pairs)
