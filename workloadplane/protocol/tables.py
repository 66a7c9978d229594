"""Tables: a signed manifest that names its entries by digest, and the entries.

A table (DesiredState, RoutingTable, KeySet) is sent as a delta: the whole manifest, small and signed, and only
those entries that changed since the generation which the receiver holds. The receiver keeps each entry's bytes
as they came; an entry is genuine because the manifest carries its SHA-256. So a delta needs no trust in what it
is a delta of, and a missing entry is noticed at once (the receiver then asks from generation 0).
"""

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from workloadplane.protocol.envelope import Envelope, open_envelope, refuse_older
from workloadplane.protocol.refusal import Refusal

TableKind = Literal["desired", "routing", "keyset"]
TABLE_KINDS: tuple[TableKind, ...] = ("desired", "routing", "keyset")
#: Those that an agent hands to its gateways; what is desired is its own business.
FOR_GATEWAYS: tuple[TableKind, ...] = ("routing", "keyset")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a table's envelope.

    header:  the facts that belong to no entry (``DesiredHeader``, ``RoutingHeader``, ``KeySetHeader``), encoded
    entries: key -> lower-case hexadecimal SHA-256 of the entry's bytes
    issued_at: when it was made, in seconds since 1970 by the control plane's clock. For people to read: no decision
               leans on it, as clocks differ; how old a table is counts from its receipt, on the monotonic clock
    """

    header: msgspec.Raw
    entries: dict[str, str]
    issued_at: float | None = None


class TableUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A newer table on the wire: the manifest and the entries that changed."""

    manifest: Envelope
    entries: dict[str, bytes]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A complete table as held in memory and on disk: every entry that the manifest names."""

    manifest: Envelope
    entries: dict[str, bytes]

    @property
    def generation(self) -> int:
        return self.manifest.generation

    @property
    def plane_epoch(self) -> int:
        return self.manifest.plane_epoch

    def contents(self) -> Manifest:
        """The manifest, decoded. Raises msgspec.DecodeError if a trusted key signed something else."""
        return msgspec.json.decode(self.manifest.payload, type=Manifest)


def digest(entry: bytes) -> str:
    """How a manifest names an entry."""
    return hashlib.sha256(entry).hexdigest()


def adopt(
    held: Table | None,
    update: TableUpdate,
    *,
    kind: TableKind,
    audience: str,
    trusted: Mapping[str, Ed25519PublicKey],
) -> Table | Refusal:
    """The table after an update, or why the update is not taken. Nothing of ``held`` is changed.

    A refusal by ``table_incomplete`` asks the receiver to fetch the whole table (from generation 0).
    """
    if held is not None:
        older = refuse_older(
            held_epoch=held.plane_epoch,
            held_generation=held.generation,
            epoch=update.manifest.plane_epoch,
            generation=update.manifest.generation,
        )
        if older is not None:
            return older
    payload = open_envelope(update.manifest, kind=kind, audience=audience, trusted=trusted)
    if isinstance(payload, Refusal):
        return payload
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except msgspec.DecodeError as error:
        return Refusal(
            rule="table_shape",
            subject=kind,
            value=str(error)[:200],
            remedy="send a manifest of this wire version",
        )
    entries: dict[str, bytes] = {}
    for key, wanted in manifest.entries.items():
        entry = update.entries.get(key)
        if entry is None and held is not None:
            entry = held.entries.get(key)
        if entry is None or digest(entry) != wanted:
            return Refusal(
                rule="table_incomplete",
                subject=f"{kind} entry {key}",
                value="missing" if entry is None else "other bytes than the manifest names",
                remedy="ask for the whole table, from generation 0",
            )
        entries[key] = entry
    return Table(manifest=update.manifest, entries=entries)
