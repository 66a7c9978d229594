"""What the agent keeps in its state directory, and the lock on it.

::

    agent.lock            held while an agent runs: two never share a state directory
    agent_key             its Ed25519 private key, PEM (the gateway signs with it too)
    identity.json         who this cluster is (``AgentIdentity``; a gateway reads it as ``Identity``)
    tables/<kind>.json    the tables in use, as they came, with their signatures
    endpoints.json        the last EndpointSet
    observed.json         what was reported last (``ObservedFile``)
    scaling.json          what the autoscaler has seen and decided
    notices.json          written by others: capacity that is taken back (``agent.notices``); no state file
    replicas/             the runtime's

All JSON files are state files (``protocol.statefile``). A damaged file is treated as absent and said so.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workloadplane.agent.work_meter import WorkMemory
from workloadplane.autoscaling import ColdStarts, LoadHistory, ScalingState
from workloadplane.protocol.local import EndpointSet, Identity
from workloadplane.protocol.observed import ObservedReplica
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.statefile import read_state, write_state
from workloadplane.protocol.tables import Table, TableKind

_log = structlog.get_logger(__name__)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class StateDirBusyError(RuntimeError):
    """Another live agent holds the state directory."""


class AgentIdentity(Identity, frozen=True, kw_only=True, tag="identity"):
    """The identity as the agent keeps it.

    cluster_epoch: the last that the control plane gave to an instance of this agent
    plane_epoch:   the highest seen: tables of an older one are refused
    token_sha256:  of the enrolment token that was used, so that a new one is noticed
    """

    cluster_epoch: int
    plane_epoch: int
    token_sha256: str


class ObservedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed last, so that a restart goes on counting and remembers cold starts."""

    observed_generation: int
    replicas: tuple[ObservedReplica, ...]


class RevisionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One revision's load as it was seen, and the decision it is at."""

    deployment_id: str
    revision_id: str
    history: LoadHistory
    state: ScalingState
    work: WorkMemory


class ScalingFile(msgspec.Struct, frozen=True, kw_only=True):
    """What scaling goes by after a restart. Times are seconds since 1970.

    cold_starts: deployment -> seconds that its replicas took until they served
    """

    saved_at: float
    revisions: tuple[RevisionMemory, ...]
    cold_starts: dict[str, ColdStarts]


class StateDir:
    """The files of one agent. Methods may block on the disk; writing raises OSError when it refuses."""

    def __init__(self, path: Path) -> None:
        """Make the directory if need be and lock it. Raises StateDirBusyError, OSError."""
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "tables").mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateDirBusyError(
                f"state directory {path}: another agent runs on it; stop that one or give another directory"
            ) from None

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)

    def private_key(self) -> Ed25519PrivateKey:
        """The agent's key; made at the first call. Raises ValueError if the file holds something else."""
        path = self.path / "agent_key"
        try:
            pem = path.read_bytes()
        except FileNotFoundError:
            return self._new_private_key(path)
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path}: not an Ed25519 private key; remove it and enrol again")  # noqa: TRY004
        return key

    def _new_private_key(self, path: Path) -> Ed25519PrivateKey:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        temporary = path.with_name(".agent_key.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return key

    def read_identity(self) -> AgentIdentity | None:
        """None too where it is damaged: then the agent enrols anew, with the same key."""
        found = self._read("identity.json", AgentIdentity)
        if found is None and (self.path / "identity.json").exists():
            _log.error(
                "the identity is damaged: what runs serves on, and this agent enrols anew, with the same key",
                file=str(self.path / "identity.json"),
                remedy="nothing if the token file still holds the token of the last 24 h, else put a new one there",
            )
        return found

    def write_identity(self, identity: AgentIdentity) -> None:
        self._write("identity.json", identity)

    def read_table(self, kind: TableKind) -> Table | None:
        """The table as it lies there; its signatures are for the caller to check."""
        return self._read(f"tables/{kind}.json", Table)

    def write_table(self, kind: TableKind, table: Table) -> None:
        self._write(f"tables/{kind}.json", table)

    def forget_table(self, kind: TableKind) -> None:
        (self.path / "tables" / f"{kind}.json").unlink(missing_ok=True)

    def write_endpoints(self, endpoints: EndpointSet) -> None:
        self._write("endpoints.json", endpoints)

    def read_endpoints(self) -> EndpointSet | None:
        return self._read("endpoints.json", EndpointSet)

    def read_observed(self) -> ObservedFile | None:
        return self._read("observed.json", ObservedFile)

    def write_observed(self, observed: ObservedFile) -> None:
        self._write("observed.json", observed)

    def read_scaling(self) -> ScalingFile | None:
        return self._read("scaling.json", ScalingFile)

    def write_scaling(self, scaling: ScalingFile) -> None:
        self._write("scaling.json", scaling)

    def _read(self, name: str, type_: type[_Struct]) -> _Struct | None:
        content = read_state(self.path / name)
        if content is None:
            return None
        if isinstance(content, Refusal):
            _log.warning("state file passed over", file=name, reason=str(content))
            return None
        try:
            return msgspec.json.decode(content, type=type_)
        except msgspec.DecodeError as error:
            _log.warning("state file passed over", file=name, reason=str(error)[:200])
            return None

    def _write(self, name: str, value: msgspec.Struct) -> None:
        write_state(self.path / name, msgspec.json.encode(value))


def public_keys(raw: Mapping[str, bytes]) -> dict[str, Ed25519PublicKey]:
    """Raw Ed25519 public keys by id, those that are none left out."""
    keys: dict[str, Ed25519PublicKey] = {}
    for key_id, value in raw.items():
        try:
            keys[key_id] = Ed25519PublicKey.from_public_bytes(value)
        except ValueError:
            _log.warning("signing key passed over: not 32 bytes of Ed25519", key_id=key_id)
    return keys


def raw_public_key(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
