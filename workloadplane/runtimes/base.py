"""What Meridian asks of whatever runs replicas.

A runtime starts a replica from a ``ReplicaSpec`` and hands back a ``RunningReplica``. Its ``runtime_ref`` is
opaque to everyone else: a process here, a set of pods elsewhere. A replica outlives whoever started it: after
a crash of the agent, ``adopt`` finds every replica again, none doubled, none forgotten and none that is not ours.

Calls never block the event loop. What an operator or a full machine can cause comes back as a ``Refusal``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from workloadplane.engines.base import EngineEndpoint, EngineReplica
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """A replica to start.

    replica_id: chosen by the agent; 1-63 of ``a-z``, ``0-9`` and ``-``. Starting one twice gives the first.
    labels:     the agent's own notes (assignment, revision, pool ...), kept with the replica and given back by adopt
    """

    replica_id: str
    engine: str
    replica: EngineReplica
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReplica:
    """A replica that a runtime holds. ``started_at`` is seconds since 1970, of the spawn itself."""

    spec: ReplicaSpec
    runtime_ref: str
    endpoint: EngineEndpoint
    started_at: float
    adopted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaExit:
    """How a replica ended.

    exit_code: negative = the signal that ended it; ``None`` where it cannot be known, as for a
               process that was adopted
    killed:    stop had to end it by force, or found parts of it still running
    """

    exit_code: int | None
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """How far a log was read. ``rotation`` names the emptying after which ``offset`` bytes were read."""

    rotation: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """A stretch of a log, and where the next begins."""

    text: str
    position: LogPosition


class Runtime(Protocol):
    """Starts, watches and stops replicas. ``async with`` opens it; leaving it leaves the replicas running."""

    async def __aenter__(self) -> Self:
        """Take the state directory. Raises ``RuntimeBusyError`` if another agent holds it."""

    async def __aexit__(self, *exc_info: object) -> None:
        """Let go of the state directory; replicas stay."""

    async def adopt(self) -> tuple[RunningReplica, ...]:
        """Every replica of this state directory that still runs. Traces of others are cleared away."""

    async def start(self, spec: ReplicaSpec) -> RunningReplica | Refusal:
        """Start a replica, or give back the one that runs under this id."""

    async def wait(self, runtime_ref: str) -> ReplicaExit:
        """Return as soon as the replica has ended by itself or by ``stop``; may be awaited by several."""

    async def stop(self, runtime_ref: str, *, grace_s: float | None = None) -> ReplicaExit:
        """End a replica and forget it; its log stays. Also clears up after one that has already ended.

        SIGTERM, then up to ``grace_s`` (default: the replica's own shutdown time-out and a margin), then
        force on all that belongs to it. Drain at the gateways first. A second stop waits for the first; with
        a shorter
        ``grace_s`` it shortens it.
        """

    async def log_tail(self, runtime_ref: str, *, max_bytes: int = 65536) -> str:
        """The end of the replica's log; empty if there is none. Works after ``stop`` until the log is pruned."""

    async def log_after(
        self, runtime_ref: str, position: LogPosition | None, *, max_bytes: int
    ) -> LogPiece | None:
        """What a log has after ``position`` (None: its end), in whole lines; None if there is no log.

        What was missed, as it came too fast or was rotated away, is said in a line of its own. Raises OSError.
        """


class RuntimeBusyError(RuntimeError):
    """Another live process holds the state directory."""
