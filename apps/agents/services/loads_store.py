"""The replicas' loads, as last scraped by their agent."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection

from workloadplane.protocol.observed import ReplicaLoad

#: One statement, whatever the number of replicas; shared with the path of heartbeats, which has no ORM.
LOADS_UPDATE = """
UPDATE agents_replica AS r SET load = v.load::jsonb
FROM unnest(%(ids)s::text[], %(loads)s::text[]) AS v(id, load)
WHERE r.id = v.id::uuid AND r.cluster_id = %(cluster_id)s AND r.gone_at IS NULL
"""


def loads_store(*, cluster_id: UUID, loads: Sequence[ReplicaLoad]) -> None:
    """Keep the newest load of each replica of this cluster."""
    if loads:
        with connection.cursor() as cursor:
            cursor.execute(LOADS_UPDATE, loads_parameters(cluster_id, loads))


def loads_parameters(cluster_id: UUID, loads: Sequence[ReplicaLoad]) -> dict[str, Any]:
    """The parameters of ``LOADS_UPDATE``; a load whose id is no UUID is left out."""
    good = [load for load in loads if _is_uuid(load.replica_id)]
    return {
        "cluster_id": cluster_id,
        "ids": [load.replica_id for load in good],
        "loads": [_document(load) for load in good],
    }


def _document(load: ReplicaLoad) -> str:
    fields = {name: getattr(load, name) for name in load.__struct_fields__ if name != "replica_id"}
    return msgspec.json.encode(fields).decode()


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
