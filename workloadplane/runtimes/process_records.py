"""What the process runtime writes down about each replica: ``replicas/<replica id>.json``, mode 0600.

Written before the process is made, without its id, and again after. So whatever moment the agent dies in,
either the record leads to the process or the mark in the process's environment leads to the record.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.statefile import read_state, write_state
from workloadplane.runtimes.base import ReplicaSpec


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. ``start_since_boot_s`` tells its process from a later one with the same id."""

    spec: ReplicaSpec
    port: int
    started_at: float  # seconds since 1970
    pid: int | None = None
    start_since_boot_s: float | None = None


@dataclass(frozen=True, slots=True)
class LoadedRecords:
    """What lay on the disk; ``damaged`` are ids whose file cannot be read any more."""

    whole: dict[str, ProcessRecord]
    damaged: tuple[str, ...]


class ProcessRecords:
    """The records of one state directory. Everything here blocks for as long as a disk takes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, record: ProcessRecord) -> None:
        """Write or replace. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_state(self._path(record.spec.replica_id), msgspec.json.encode(record))

    def remove(self, replica_id: str) -> None:
        """Forget; fine if there is none."""
        self._path(replica_id).unlink(missing_ok=True)

    def load(self) -> LoadedRecords:
        """All records. Raises OSError where the folder cannot be read."""
        whole: dict[str, ProcessRecord] = {}
        damaged: list[str] = []
        for path in sorted(self._directory.glob("*.json")):
            content = read_state(path)
            if content is None:
                continue
            record = None if isinstance(content, Refusal) else _decoded(content)
            if record is None:
                damaged.append(path.stem)
            else:
                whole[record.spec.replica_id] = record
        return LoadedRecords(whole=whole, damaged=tuple(damaged))

    def _path(self, replica_id: str) -> Path:
        return self._directory / f"{replica_id}.json"


def _decoded(content: bytes) -> ProcessRecord | None:
    try:
        return msgspec.json.decode(content, type=ProcessRecord)
    except msgspec.DecodeError:
        return None
