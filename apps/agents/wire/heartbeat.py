"""The short path of a sync: one UPDATE that finds its row by all that must be true of the sender.

What is new is read by a statement of its own, after the lease is written. So of an answer that does not bring a table
it is sure that whoever stored that table, and looks afterwards, sees the lease which the answer renews.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from apps.agents.leases import lease_after_sync
from workloadplane.protocol.envelope import Envelope
from workloadplane.protocol.logs import LogWanted
from workloadplane.protocol.sync import SyncRequest
from workloadplane.protocol.tables import TableUpdate

_GENERATIONS = """
    (SELECT coalesce(plane_epoch, 1) FROM agents_planestate WHERE id = 1),
    (SELECT array_agg(t.kind ORDER BY t.kind) FROM agents_clustertable t WHERE t.cluster_id = s.cluster_id),
    (SELECT array_agg(t.generation ORDER BY t.kind) FROM agents_clustertable t WHERE t.cluster_id = s.cluster_id),
    (SELECT array_agg(ARRAY[w.id::text, w.runtime_ref]) FROM agents_logwatch w
     WHERE w.cluster_id = s.cluster_id AND w.wanted_until > now())
"""

_HEARTBEAT = """
UPDATE agents_agentsession AS s
SET last_sequence = %(sequence)s, last_sync_at = now(), lease_expires_at = now() + %(lease)s, epoch_confirmed = true
WHERE s.cluster_id = %(cluster_id)s AND s.instance_id = %(instance_id)s AND s.cluster_epoch = %(cluster_epoch)s
  AND s.last_sequence < %(sequence)s AND s.fenced_at IS NULL AND s.public_key = %(public_key)s
  AND %(plane_epoch)s <= coalesce((SELECT plane_epoch FROM agents_planestate WHERE id = 1), 1)
"""

_STANDING = f"""
SELECT s.observed_generation, s.state_hash = '', {_GENERATIONS}
FROM agents_agentsession s
WHERE s.cluster_id = %(cluster_id)s AND s.instance_id = %(instance_id)s AND s.cluster_epoch = %(cluster_epoch)s
  AND s.fenced_at IS NULL AND s.public_key = %(public_key)s
"""  # noqa: S608  (nothing of a request is in the text)

_PUBLIC_KEY = "SELECT public_key FROM agents_agentsession WHERE cluster_id = %s"

_MANIFESTS = """
SELECT id, kind, payload, key_id, signature, plane_epoch, generation
FROM agents_clustertable WHERE cluster_id = %s AND kind = ANY(%s)
"""

_ENTRIES = "SELECT key, payload FROM agents_clustertableentry WHERE table_id = %s AND changed_generation > %s"


@dataclass(frozen=True)
class Beat:
    """What a heartbeat learns. ``generations``: table kind -> newest generation."""

    observed_generation: int
    full_wanted: bool
    plane_epoch: int
    generations: dict[str, int]
    logs_wanted: tuple[LogWanted, ...] = ()


async def heartbeat(
    connection: AsyncConnection[Any], *, request: SyncRequest, cluster_id: UUID, public_key: bytes
) -> Beat | None:
    """Keep the lease of the instance that holds the cluster; None if the sender is not exactly that."""
    parameters = _parameters(request, cluster_id, public_key)
    cursor = await connection.execute(_HEARTBEAT, parameters)
    if cursor.rowcount != 1:
        return None
    cursor = await connection.execute(_STANDING, parameters)
    return _beat(await cursor.fetchone())


async def standing(
    connection: AsyncConnection[Any],
    *,
    instance_id: str,
    cluster_epoch: int,
    cluster_id: UUID,
    public_key: bytes,
) -> Beat | None:
    """The same facts without a write; None if this instance does not hold the cluster any more."""
    parameters = {
        "cluster_id": cluster_id,
        "instance_id": instance_id,
        "cluster_epoch": cluster_epoch,
        "public_key": public_key,
    }
    cursor = await connection.execute(_STANDING, parameters)
    return _beat(await cursor.fetchone())


def _parameters(request: SyncRequest, cluster_id: UUID, public_key: bytes) -> dict[str, Any]:
    return {
        "cluster_id": cluster_id,
        "instance_id": request.instance_id,
        "cluster_epoch": request.cluster_epoch,
        "plane_epoch": request.plane_epoch,
        "sequence": request.sequence,
        "public_key": public_key,
        "lease": lease_after_sync(request.wait_s),
    }


def _beat(row: tuple[Any, ...] | None) -> Beat | None:
    if row is None:
        return None
    observed_generation, full_wanted, plane_epoch, kinds, generations, watched = row
    return Beat(
        observed_generation=observed_generation,
        full_wanted=full_wanted,
        plane_epoch=plane_epoch or 1,
        generations=dict(zip(kinds or (), generations or (), strict=True)),
        logs_wanted=tuple(LogWanted(watch_id=name, runtime_ref=ref) for name, ref in watched or ()),
    )


async def public_key_of(connection: AsyncConnection[Any], cluster_id: UUID) -> bytes | None:
    """The key that speaks for a cluster, None if nobody does."""
    cursor = await connection.execute(_PUBLIC_KEY, [cluster_id])
    row = await cursor.fetchone()
    return None if row is None else bytes(row[0])


async def table_updates(
    connection: AsyncConnection[Any], *, cluster_id: UUID, since: dict[str, int]
) -> dict[str, TableUpdate]:
    """The newest tables of these kinds, each with the entries that changed since a generation (0: all).

    Read in one snapshot, so that entries and manifest belong together.
    """
    updates = {}
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor = await connection.execute(_MANIFESTS, [cluster_id, list(since)])
        for table_id, kind, payload, key_id, signature, plane_epoch, generation in await cursor.fetchall():
            entries = await connection.execute(_ENTRIES, [table_id, since[kind]])
            manifest = Envelope(
                kind=kind,
                payload=bytes(payload),
                key_id=key_id,
                signature=bytes(signature),
                audience=str(cluster_id),
                plane_epoch=plane_epoch,
                generation=generation,
            )
            changed = {key: bytes(entry) for key, entry in await entries.fetchall()}
            updates[kind] = TableUpdate(manifest=manifest, entries=changed)
    return updates
