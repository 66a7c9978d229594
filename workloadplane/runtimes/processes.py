"""Which processes of this machine are a replica, and how to see and force their end.

Every replica is the leader of a session of its own, and carries two marks in its environment that all its
descendants inherit. By the marks a replica is found again even if nobody wrote its process id down, and a
foreign process that was given the id of a dead replica is told from it.

Some engines' helper processes overwrite their environment with a title. One without a readable environment
counts as ours only where its session or its start time says so; start times are compared relative to the
machine's own start, because the wall clock may be set in between.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

REPLICA_MARK = "MERIDIAN_REPLICA_ID"
DIRECTORY_MARK = "MERIDIAN_REPLICA_DIRECTORY"
_START_TOLERANCE_S = 1.0
_POLL_S = 0.25


def marks(state_dir: Path, replica_id: str) -> dict[str, str]:
    """The environment variables that mark a replica and all its descendants."""
    return {REPLICA_MARK: replica_id, DIRECTORY_MARK: str(state_dir.resolve())}


def start_since_boot_s(pid: int) -> float | None:
    """When a process started, counted from the machine's start; ``None`` if there is none."""
    try:
        return psutil.Process(pid).create_time() - psutil.boot_time()
    except psutil.Error:
        return None


def is_replica(pid: int, *, state_dir: Path, replica_id: str, started_s: float | None) -> bool:
    """Whether ``pid`` runs (a zombie does not) and is this replica, not a stranger with the same id."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = _environment(process)
        if environment:
            return marks(state_dir, replica_id).items() <= environment.items()
        since_boot_s = process.create_time() - psutil.boot_time()
        return started_s is not None and abs(since_boot_s - started_s) <= _START_TOLERANCE_S
    except psutil.Error:
        return False


def marked_leaders(state_dir: Path) -> dict[str, list[int]]:
    """Replica id -> ids of the session leaders that carry its mark for this state directory."""
    directory = str(state_dir.resolve())
    leaders: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != process.pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = _environment(process)
        except (psutil.Error, OSError):
            continue
        if environment.get(DIRECTORY_MARK) == directory and REPLICA_MARK in environment:
            leaders.setdefault(environment[REPLICA_MARK], []).append(process.pid)
    return leaders


def kill_session(leader: int, *, state_dir: Path, replica_id: str) -> bool:
    """SIGKILL everything that lives in a replica's session. True if there was anything.

    Repeated until nothing new is found, for a process may fork while it is being looked at.
    """
    killed = False
    seen: set[int] = set()
    while True:
        fresh = set(_session_members(leader, state_dir=state_dir, replica_id=replica_id)) - seen
        if not fresh:
            return killed
        for pid in fresh:
            try:
                os.kill(pid, signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                continue
        seen |= fresh


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


async def ended(pid: int) -> None:
    """Return when the process has ended. The caller has made sure whose process it is.

    Linux tells at once through a process descriptor, also of processes that are no children; elsewhere it is
    asked four times a second.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while _is_alive(pid):  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(_POLL_S)
        return
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(descriptor)
        if not over.done():
            over.set_result(None)

    loop.add_reader(descriptor, on_readable)
    try:
        await over
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _session_members(leader: int, *, state_dir: Path, replica_id: str) -> Iterator[int]:
    wanted = marks(state_dir, replica_id).items()
    for pid in psutil.pids():
        try:
            if os.getsid(pid) != leader:
                continue
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = _environment(process)
        except (psutil.Error, OSError):
            continue
        if not environment or wanted <= environment.items():
            yield pid


def _environment(process: psutil.Process) -> dict[str, str]:
    """Empty where it cannot be read or was overwritten."""
    try:
        return process.environ()
    except psutil.AccessDenied:
        return {}
