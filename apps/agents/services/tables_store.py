"""Sign and store the tables that came out different, as entries that a delta can be made of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from apps.agents.contents import Contents
from apps.agents.models import ClusterTable, ClusterTableEntry, TableKind
from apps.agents.signing import Signer
from workloadplane.protocol.tables import Manifest

#: The channel on which agents' long polls are woken; the payload is a cluster's id.
CHANNEL = "meridian_tables"


@dataclass(frozen=True)
class _Change:
    table: ClusterTable
    contents: Contents
    digests: Mapping[str, str]
    changed_keys: Collection[str]
    gone_keys: Collection[str]


def tables_store(
    *, tables: Mapping[tuple[UUID, TableKind], Contents], signer: Signer, plane_epoch: int
) -> None:
    """Raise the generation of each table that differs from what is stored, and wake its agent on commit."""
    held = {
        (row.cluster_id, row.kind): row
        for row in ClusterTable.objects.filter(cluster_id__in={cluster_id for cluster_id, _ in tables})
    }
    changes = []
    for (cluster_id, kind), contents in tables.items():
        change = _changed(
            held.get((cluster_id, kind)), cluster_id, kind, contents, signer=signer, plane_epoch=plane_epoch
        )
        if change is not None:
            changes.append(change)
    if changes:
        _write(changes)


def _changed(
    held: ClusterTable | None,
    cluster_id: UUID,
    kind: TableKind,
    contents: Contents,
    *,
    signer: Signer,
    plane_epoch: int,
) -> _Change | None:
    before = msgspec.json.decode(bytes(held.payload), type=Manifest) if held is not None else None
    known = before.entries if before is not None else {}
    digests = contents.digests(known)
    if held is not None and (bytes(held.payload), held.plane_epoch, held.key_id) == (
        contents.manifest(before.issued_at if before is not None else None, digests),
        plane_epoch,
        signer.key_id,
    ):
        return None
    payload = contents.manifest(round(timezone.now().timestamp(), 3), digests)
    table = _sealed(held, cluster_id, kind, payload, signer=signer, plane_epoch=plane_epoch)
    return _Change(
        table=table,
        contents=contents,
        digests=digests,
        changed_keys=[key for key, sha256 in contents.entries.digests.items() if known.get(key) != sha256],
        gone_keys=[key for key in known if key not in digests],
    )


def _sealed(
    held: ClusterTable | None,
    cluster_id: UUID,
    kind: TableKind,
    payload: bytes,
    *,
    signer: Signer,
    plane_epoch: int,
) -> ClusterTable:
    table = held if held is not None else ClusterTable(cluster_id=cluster_id, kind=kind, generation=0)
    envelope = signer.sealed(
        payload,
        kind=str(kind),
        audience=str(cluster_id),
        plane_epoch=plane_epoch,
        generation=table.generation + 1,
    )
    table.generation = envelope.generation
    table.plane_epoch = plane_epoch
    table.payload = payload
    table.key_id = envelope.key_id
    table.signature = envelope.signature
    table.updated_at = timezone.now()
    return table


def _write(changes: Collection[_Change]) -> None:
    stored: list[ClusterTable] = ClusterTable.objects.bulk_create(
        [change.table for change in changes],
        update_conflicts=True,
        unique_fields=["cluster", "kind"],
        update_fields=["generation", "plane_epoch", "payload", "key_id", "signature", "updated_at"],
    )
    gone = Q(pk__in=[])
    entries = []
    for change, table in zip(changes, stored, strict=True):
        if change.gone_keys:
            gone |= Q(table_id=table.pk, key__in=change.gone_keys)
        entries += [
            ClusterTableEntry(
                table_id=table.pk,
                key=key,
                sha256=change.digests[key],
                payload=change.contents.entries.payloads[key],
                changed_generation=table.generation,
            )
            for key in change.changed_keys
        ]
    if any(change.gone_keys for change in changes):
        ClusterTableEntry.objects.filter(gone).delete()
    ClusterTableEntry.objects.bulk_create(
        entries,
        batch_size=2000,
        update_conflicts=True,
        unique_fields=["table", "key"],
        update_fields=["sha256", "payload", "changed_generation"],
    )
    _wake([change.table for change in changes])


def _wake(tables: Collection[Any]) -> None:
    cluster_ids = sorted({str(table.cluster_id) for table in tables})
    with connection.cursor() as cursor:  # delivered by PostgreSQL when, and only if, this transaction commits
        cursor.execute(
            "SELECT pg_notify(%s, cluster) FROM unnest(%s::text[]) AS cluster", [CHANNEL, cluster_ids]
        )
