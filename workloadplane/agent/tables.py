"""The tables in force: verified, kept on disk before they are used, never replaced by an older one.

One that the disk refuses is used all the same, for others wait until it is: a hand-over for the cluster that stops
serving, a client for its key. It is written as soon as the disk takes it (``keep``). An agent that restarts before that
begins behind it, and is sent it again; what only one cluster may serve hangs on a lease that it then has to renew.
"""

import threading
from dataclasses import dataclass

import msgspec
import structlog

from workloadplane.agent.disk import AgentIdentity, StateDir, public_keys
from workloadplane.protocol.desired import DesiredAssignment, DesiredHeader
from workloadplane.protocol.envelope import refuse_older
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import KeySetHeader
from workloadplane.protocol.tables import TABLE_KINDS, Table, TableKind, TableUpdate, adopt

_log = structlog.get_logger(__name__)

#: The key set first: it may bring the key that signed the others.
_ADOPTION_ORDER: tuple[TableKind, ...] = ("keyset", "routing", "desired")


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``desired``, decoded."""

    generation: int
    header: DesiredHeader
    assignments: tuple[DesiredAssignment, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What came of a set of updates."""

    changed: tuple[TableKind, ...]
    refusals: tuple[Refusal, ...]


class Tables:
    """The tables of one cluster. Blocking (disk, signatures): call it from a worker thread."""

    def __init__(self, disk: StateDir) -> None:
        self._disk = disk
        self._held: dict[TableKind, Table] = {}
        self._refetch: set[TableKind] = set()
        self._unkept: set[TableKind] = set()
        self._writing = threading.Lock()
        self.desired: DesiredState | None = None

    @property
    def held_generations(self) -> dict[str, int]:
        """Kind -> generation in force."""
        return {kind: table.generation for kind, table in self._held.items()}

    @property
    def plane_epoch(self) -> int:
        """The highest in which a table in force was signed; 0 while there is none."""
        return max((table.plane_epoch for table in self._held.values()), default=0)

    @property
    def wanted_from(self) -> dict[str, int]:
        """Kind -> generation to ask newer ones of; 0 asks for the whole table."""
        return {
            kind: 0 if kind in self._refetch or kind not in self._held else self._held[kind].generation
            for kind in TABLE_KINDS
        }

    def held(self, kind: TableKind) -> Table | None:
        return self._held.get(kind)

    def load(self, identity: AgentIdentity) -> None:
        """Take what lies on the disk, as far as it is whole and signed by whom we trust."""
        for kind in _ADOPTION_ORDER:
            table = self._disk.read_table(kind)
            if table is None:
                continue
            update = TableUpdate(manifest=table.manifest, entries=table.entries)
            refusal = self._take(kind, update, identity, persist=False)
            if refusal is not None:
                _log.warning("table on disk not used", kind=kind, reason=str(refusal))

    def adopt_updates(self, updates: dict[str, TableUpdate], identity: AgentIdentity) -> Adoption:
        """Take what is newer, each table by itself; what is not taken comes back with its reason."""
        changed: list[TableKind] = []
        refusals: list[Refusal] = []
        with self._writing:
            for kind in _ADOPTION_ORDER:
                if kind not in updates:
                    continue
                before = self._held.get(kind)
                refusal = self._take(kind, updates[kind], identity, persist=True)
                if refusal is not None:
                    refusals.append(refusal)
                elif self._held.get(kind) is not before:
                    changed.append(kind)
        return Adoption(changed=tuple(changed), refusals=tuple(refusals))

    @property
    def has_unkept(self) -> bool:
        """Whether a table is in force that the disk has refused."""
        return bool(self._unkept)

    def keep(self) -> None:
        """Write what the disk has refused. Raises OSError if it still does."""
        with self._writing:
            for kind in sorted(self._unkept):
                self._disk.write_table(kind, self._held[kind])
                self._unkept.discard(kind)

    def signing_keys(self) -> dict[str, bytes]:
        """The keys that the key set in force names; empty while there is none."""
        table = self._held.get("keyset")
        if table is None:
            return {}
        return msgspec.json.decode(table.contents().header, type=KeySetHeader).signing_keys

    def forget(self) -> None:
        """Drop all tables: they are another cluster's."""
        with self._writing:
            for kind in TABLE_KINDS:
                self._disk.forget_table(kind)
            self._held.clear()
            self._unkept.clear()
            self.desired = None

    def _take(
        self, kind: TableKind, update: TableUpdate, identity: AgentIdentity, *, persist: bool
    ) -> Refusal | None:
        held = self._held.get(kind)
        if held is None and persist:
            older = refuse_older(
                held_epoch=identity.plane_epoch,
                held_generation=0,
                epoch=update.manifest.plane_epoch,
                generation=update.manifest.generation,
            )
            if older is not None:
                return older
        trusted = public_keys({**identity.signing_keys, **self.signing_keys()})
        table = adopt(held, update, kind=kind, audience=identity.cluster_id, trusted=trusted)
        if isinstance(table, Refusal):
            if table.rule == "table_incomplete":
                self._refetch.add(kind)
            return table
        self._refetch.discard(kind)
        if held is not None and held.manifest == table.manifest:
            return None
        try:
            desired = _decoded(table) if kind == "desired" else self.desired
            if kind == "keyset":
                msgspec.json.decode(table.contents().header, type=KeySetHeader)
        except msgspec.DecodeError as error:
            return Refusal(
                rule="table_shape",
                subject=kind,
                value=str(error)[:200],
                remedy="send entries of this wire version",
            )
        if persist:
            self._keep(kind, table)
        self._held[kind] = table
        self.desired = desired
        return None

    def _keep(self, kind: TableKind, table: Table) -> None:
        try:
            self._disk.write_table(kind, table)
        except OSError as error:
            self._unkept.add(kind)
            _log.warning("table in force is not on the disk", kind=kind, reason=str(error))
        else:
            self._unkept.discard(kind)


def _decoded(table: Table) -> DesiredState:
    header = msgspec.json.decode(table.contents().header, type=DesiredHeader)
    decoder = msgspec.json.Decoder(DesiredAssignment)
    assignments = tuple(decoder.decode(table.entries[key]) for key in sorted(table.entries))
    for assignment in assignments:
        _check_bounds(assignment)
    return DesiredState(generation=table.generation, header=header, assignments=assignments)


def _check_bounds(assignment: DesiredAssignment) -> None:
    """Raises msgspec.ValidationError for numbers that no decision could be made with."""
    bounds = assignment.autoscaling
    fields = {
        "min_replicas": bounds.min_replicas >= 0,
        "max_replicas": bounds.max_replicas >= bounds.min_replicas,
        "autoscaling_window_s": bounds.autoscaling_window_s > 0,
        "scale_down_delay_s": bounds.scale_down_delay_s >= 0,
        "concurrency_target": bounds.concurrency_target > 0,
    }
    wrong = [name for name, is_good in fields.items() if not is_good]
    if assignment.gpus_per_replica < 0:
        wrong.append("gpus_per_replica")
    if wrong:
        raise msgspec.ValidationError(
            f"assignment {assignment.assignment_id}: {', '.join(wrong)} out of range"
        )
