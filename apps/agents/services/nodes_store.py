"""The machines of a cluster's pools, as its agent tells them."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from apps.agents.models import AgentSession, Node
from apps.fleet import selectors as fleet
from workloadplane.protocol.observed import ObservedNode

#: What can be named in a path or a command. Others are left out.
NODE_NAME: Final = r"[a-z0-9][a-z0-9.-]{0,62}"
_NODES_MAX: Final = 1024
_REPLICAS_MAX: Final = 256
_GPUS_MAX: Final = 1024
_FIELDS = ("pool_id", "gpus", "cordoned", "replica_ids")


def nodes_store(*, session: AgentSession, nodes: Sequence[ObservedNode]) -> None:
    """Bring the rows in line with what is told, in the caller's transaction. ``session`` is locked."""
    if not nodes and not session.facts.get("nodes"):
        return
    held = {row.name: row for row in Node.objects.filter(cluster_id=session.cluster_id)}
    told = {row.name: row for row in _rows(session, nodes)}
    changed = [row for name, row in told.items() if name not in held or _values(row) != _values(held[name])]
    if changed:
        Node.objects.bulk_create(
            changed, update_conflicts=True, unique_fields=["cluster", "name"], update_fields=_FIELDS
        )
    if gone := held.keys() - told.keys():
        Node.objects.filter(cluster_id=session.cluster_id, name__in=gone).delete()


def _rows(session: AgentSession, nodes: Sequence[ObservedNode]) -> Iterable[Node]:
    pools = {str(pool_id): pool_id for pool_id in fleet.pool_ids_of_cluster(cluster_id=session.cluster_id)}
    for node in nodes[:_NODES_MAX]:
        if node.pool_id in pools and re.fullmatch(NODE_NAME, node.name) and 0 < node.gpus <= _GPUS_MAX:
            yield Node(
                cluster_id=session.cluster_id,
                pool_id=pools[node.pool_id],
                name=node.name,
                gpus=node.gpus,
                cordoned=node.cordoned,
                replica_ids=[name for name in node.replicas[:_REPLICAS_MAX] if len(name) <= 64],
            )


def _values(row: Node) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _FIELDS)
