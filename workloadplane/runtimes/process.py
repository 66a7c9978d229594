"""Replicas as processes of this machine.

A replica is the leader of its own session, so neither its agent's death nor a signal to its agent's group
reaches it. State lies under the state directory::

    replicas/<id>.json      who it is, its port and key (0600), see ``process_records``
    replicas/lock           held for as long as a runtime is open
    logs/replicas/<id>.log  its output

Starting forks and flushes files, looking for processes reads the whole process table: all such work is done
in threads, one start at a time.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import structlog

from workloadplane.engines import engine_named
from workloadplane.engines.base import EngineCommand, EngineEndpoint, EnginePlace
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes import processes
from workloadplane.runtimes.base import (
    LogPiece,
    LogPosition,
    ReplicaExit,
    ReplicaSpec,
    RunningReplica,
    RuntimeBusyError,
)
from workloadplane.runtimes.event_sockets import event_address, forget_event_address
from workloadplane.runtimes.ports import free_port
from workloadplane.runtimes.process_records import ProcessRecord, ProcessRecords
from workloadplane.runtimes.replica_logs import ReplicaLogs

HOST = "127.0.0.1"
# Past its own shutdown time-out an engine gets this long to close what it holds: on a busy machine vLLM takes
# more than ten seconds from its last token to its end.
STOP_MARGIN_S = 20.0
HOUSEKEEPING_S = 5.0
# A child that a killed agent was just starting holds its lock until it has become the replica.
LOCK_WITHIN_S = 2.0
_LOCK_AGAIN_S = 0.02

_REF_PREFIX = "process:"
_REPLICA_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What a replica may see of our own environment: never a credential that happens to be in it.
_INHERITED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}
)
_INHERITED_PREFIXES = ("CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_")

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Held:
    """A replica in hand. ``child`` is there only if this very process started it."""

    running: RunningReplica
    pid: int
    child: subprocess.Popen[bytes] | None
    watching: asyncio.Task[int | None]
    stopping: asyncio.Task[ReplicaExit] | None = None
    force_at_s: float = float("inf")
    hurried: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessRuntime:
    """A ``Runtime``. One per state directory; use it from one event loop."""

    def __init__(self, *, state_dir: Path, engines_dir: Path, cache_dir: Path) -> None:
        self._state_dir = state_dir
        self._engines_dir = engines_dir
        self._cache_dir = cache_dir
        self._records = ProcessRecords(state_dir / "replicas")
        self._logs = ReplicaLogs(state_dir / "logs" / "replicas")
        self._held: dict[str, _Held] = {}
        self._starting = asyncio.Lock()
        self._lock_descriptor: int | None = None
        self._housekeeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Take the state directory. Raises RuntimeBusyError, or OSError where it cannot be written."""
        self._lock_descriptor = await asyncio.to_thread(_lock, self._state_dir / "replicas")
        self._housekeeping = asyncio.create_task(self._keep_house())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Let go; replicas stay."""
        tasks: list[asyncio.Task[Any]] = []
        for held in self._held.values():
            tasks += [held.watching] if held.stopping is None else [held.watching, held.stopping]
        if self._housekeeping is not None:
            tasks.append(self._housekeeping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    async def adopt(self) -> tuple[RunningReplica, ...]:
        """Hold every replica of this state directory that runs; clear away what is left of others."""
        async with self._starting:
            for record, pid in await asyncio.to_thread(self._find_living):
                if record.spec.replica_id not in self._held:
                    self._hold(record, pid, child=None)
        return tuple(held.running for held in self._held.values())

    async def start(self, spec: ReplicaSpec) -> RunningReplica | Refusal:
        """Start a replica, or give back the one that runs under this id."""
        # Shielded: a caller that is cancelled half-way must not leave a process that nobody holds.
        return await asyncio.shield(asyncio.create_task(self._start(spec)))

    async def wait(self, runtime_ref: str) -> ReplicaExit:
        """Return when the replica has ended. One that is not held has ended."""
        held = self._held.get(runtime_ref.removeprefix(_REF_PREFIX))
        if held is None:
            return ReplicaExit(exit_code=None, killed=False)
        if held.stopping is not None:
            return await asyncio.shield(held.stopping)
        exit_code = await asyncio.shield(held.watching)
        if held.stopping is not None:
            return await asyncio.shield(held.stopping)
        return ReplicaExit(exit_code=exit_code, killed=False)

    async def stop(self, runtime_ref: str, *, grace_s: float | None = None) -> ReplicaExit:
        """SIGTERM, patience, SIGKILL for the whole session; then forget it. See ``Runtime``."""
        held = self._held.get(runtime_ref.removeprefix(_REF_PREFIX))
        if held is None:
            return ReplicaExit(exit_code=None, killed=False)
        patience_s = (
            held.running.spec.replica.shutdown_timeout_s + STOP_MARGIN_S if grace_s is None else grace_s
        )
        held.force_at_s = min(held.force_at_s, time.monotonic() + patience_s)
        if held.stopping is None:
            held.stopping = asyncio.create_task(self._stop(held))
        else:
            held.hurried.set()
        return await asyncio.shield(held.stopping)

    async def log_tail(self, runtime_ref: str, *, max_bytes: int = 65536) -> str:
        """The end of the log; empty if there is none."""
        replica_id = runtime_ref.removeprefix(_REF_PREFIX)
        if not _REPLICA_ID.fullmatch(replica_id):
            return ""
        return await asyncio.to_thread(self._logs.tail, replica_id, max_bytes)

    async def log_after(
        self, runtime_ref: str, position: LogPosition | None, *, max_bytes: int
    ) -> LogPiece | None:
        """What the log has after a position; None if there is none."""
        replica_id = runtime_ref.removeprefix(_REF_PREFIX)
        if not _REPLICA_ID.fullmatch(replica_id):
            return None
        return await asyncio.to_thread(self._logs.after, replica_id, position, max_bytes)

    async def _start(self, spec: ReplicaSpec) -> RunningReplica | Refusal:
        if not _REPLICA_ID.fullmatch(spec.replica_id):
            return _refusal("replica_id", "replica_id", spec.replica_id, "use 1-63 of a-z, 0-9 and inner '-'")
        async with self._starting:
            held = self._held.get(spec.replica_id)
            if held is not None:
                return held.running
            taken = frozenset(other.running.endpoint.port for other in self._held.values())
            spawned = await asyncio.to_thread(self._spawn, spec, taken)
            if isinstance(spawned, Refusal):
                return spawned
            record, child = spawned
            return self._hold(record, child.pid, child=child)

    def _hold(
        self, record: ProcessRecord, pid: int, *, child: subprocess.Popen[bytes] | None
    ) -> RunningReplica:
        running = RunningReplica(
            spec=record.spec,
            runtime_ref=_REF_PREFIX + record.spec.replica_id,
            endpoint=EngineEndpoint(
                host=HOST,
                port=record.port,
                served_model=record.spec.replica.served_model,
                engine_key=record.spec.replica.engine_key,
                kv_events=event_address(record.spec.replica_id),
            ),
            started_at=record.started_at,
            adopted=child is None,
        )
        watching = asyncio.create_task(_exit_code(pid, child))
        self._held[record.spec.replica_id] = _Held(running=running, pid=pid, child=child, watching=watching)
        return running

    def _spawn(
        self, spec: ReplicaSpec, taken: frozenset[int]
    ) -> tuple[ProcessRecord, subprocess.Popen[bytes]] | Refusal:
        engine = engine_named(spec.engine)
        if isinstance(engine, Refusal):
            return engine
        interpreter = engine.interpreter(self._engines_dir.absolute(), spec.replica.engine_version)
        if isinstance(interpreter, Refusal):
            return interpreter
        port = free_port(spec.replica_id, host=HOST, taken=taken)
        if port is None:
            return _refusal("port_free", "port", HOST, "end some replicas: every port for them is in use")
        cache_dir = str(self._cache_dir.absolute())
        place = EnginePlace(
            host=HOST,
            port=port,
            interpreter=str(interpreter),
            cache_dir=cache_dir,
            kv_events=event_address(spec.replica_id),
        )
        command = engine.command(spec.replica, place)
        if isinstance(command, Refusal):
            return command
        record = ProcessRecord(spec=spec, port=port, started_at=time.time())
        try:
            self._records.save(record)
            child = self._begin(spec.replica_id, command)
        except OSError as error:
            self._forget(spec.replica_id)
            return _refusal(
                "replica_spawn",
                spec.replica_id,
                str(error),
                "give the machine disk, memory or processes to spare",
            )
        started_s = processes.start_since_boot_s(child.pid)
        record = ProcessRecord(
            spec=spec, port=port, started_at=record.started_at, pid=child.pid, start_since_boot_s=started_s
        )
        try:
            self._records.save(record)
        except OSError as error:
            # The first record and the mark in the replica's environment are enough to find it again.
            _log.warning("replica record incomplete", replica_id=spec.replica_id, error=str(error))
        return record, child

    def _begin(self, replica_id: str, command: EngineCommand) -> subprocess.Popen[bytes]:
        """Raises OSError."""
        environment = {
            **_inherited_environment(),
            **command.environment,
            **command.secrets,
            **processes.marks(self._state_dir, replica_id),
        }
        log = self._logs.open(replica_id)
        try:
            return subprocess.Popen(
                command.argv,
                env=environment,
                cwd=self._state_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _find_living(self) -> list[tuple[ProcessRecord, int]]:
        loaded = self._records.load()
        marked = processes.marked_leaders(self._state_dir)
        living: list[tuple[ProcessRecord, int]] = []
        for replica_id, record in loaded.whole.items():
            if replica_id in self._held:
                marked.pop(replica_id, None)
                continue
            pid = self._living_pid(record, marked.get(replica_id, []))
            if pid is not None:
                marked[replica_id] = [other for other in marked.get(replica_id, []) if other != pid]
                living.append((record, pid))
                continue
            if record.pid is not None:
                self._kill_session(record.pid, replica_id)
            self._forget(replica_id)
        for replica_id, leaders in marked.items():
            for leader in leaders:
                _log.warning("replica without a record ended", replica_id=replica_id, pid=leader)
                self._kill_session(leader, replica_id)
        for replica_id in loaded.damaged:
            self._forget(replica_id)
        return living

    def _living_pid(self, record: ProcessRecord, marked: list[int]) -> int | None:
        replica_id, started_s = record.spec.replica_id, record.start_since_boot_s
        if record.pid is not None:
            is_same = processes.is_replica(
                record.pid, state_dir=self._state_dir, replica_id=replica_id, started_s=started_s
            )
            return record.pid if is_same else None
        return marked[0] if marked else None

    def _forget(self, replica_id: str) -> None:
        try:
            self._records.remove(replica_id)
        except OSError as error:
            # Harmless: its process is gone, so the next adopt drops the record.
            _log.warning("replica record not removed", replica_id=replica_id, error=str(error))
        with contextlib.suppress(OSError):
            forget_event_address(replica_id)

    def _kill_session(self, leader: int, replica_id: str) -> bool:
        return processes.kill_session(leader, state_dir=self._state_dir, replica_id=replica_id)

    async def _stop(self, held: _Held) -> ReplicaExit:
        replica_id = held.running.spec.replica_id
        killed = False
        if not held.watching.done():
            processes.send(held.pid, signal.SIGTERM)
            # One that was halted could not hear it.
            processes.send(held.pid, signal.SIGCONT)
            killed = not await self._ends_in_time(held)
        if killed:
            await asyncio.to_thread(self._kill_session, held.pid, replica_id)
        exit_code = await held.watching
        leftover = await asyncio.to_thread(self._kill_session, held.pid, replica_id)
        await asyncio.to_thread(self._forget, replica_id)
        self._held.pop(replica_id, None)
        return ReplicaExit(exit_code=exit_code, killed=killed or leftover)

    async def _ends_in_time(self, held: _Held) -> bool:
        """Wait until ``force_at_s``, which a later stop may bring forward."""
        while not held.watching.done():
            remaining_s = held.force_at_s - time.monotonic()
            if remaining_s <= 0:
                return False
            held.hurried.clear()
            hurried = asyncio.create_task(held.hurried.wait())
            try:
                await asyncio.wait(
                    {held.watching, hurried}, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                hurried.cancel()
        return True

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await asyncio.to_thread(self._logs.rotate)
                await asyncio.to_thread(self._logs.prune, frozenset(self._held))
            except OSError as error:
                _log.warning("replica logs not kept short", error=str(error))


async def stop_all(state_dir: Path, *, grace_s: float | None = None) -> int:
    """End every replica of a state directory whose agent is gone; how many there were.

    Raises RuntimeBusyError while an agent still holds it.
    """
    # Nothing is started here, so the folders for that do not matter.
    async with ProcessRuntime(state_dir=state_dir, engines_dir=state_dir, cache_dir=state_dir) as runtime:
        replicas = await runtime.adopt()
        await asyncio.gather(*(runtime.stop(replica.runtime_ref, grace_s=grace_s) for replica in replicas))
        return len(replicas)


async def _exit_code(pid: int, child: subprocess.Popen[bytes] | None) -> int | None:
    await processes.ended(pid)
    # Of an adopted replica somebody else is the parent, and only a parent is told how its child ended.
    return None if child is None else child.wait()


def _lock(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + LOCK_WITHIN_S
    while not _is_locked(descriptor):
        if time.monotonic() >= until_s:
            os.close(descriptor)
            raise RuntimeBusyError(f"{directory}: another process holds it; end that agent first")
        time.sleep(_LOCK_AGAIN_S)
    return descriptor


def _is_locked(descriptor: int) -> bool:
    """Lock it for us, if nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _inherited_environment() -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    # A module lying in the working directory must never shadow an engine's own.
    return inherited | {"PYTHONSAFEPATH": "1"}


def _refusal(rule: str, subject: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject=subject, value=value, remedy=remedy)
