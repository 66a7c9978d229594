"""Which process is which, and how to end it and nothing else.

A pid alone is not an identity: it is reused. A process is known by its pid and its start time, counted
by the kernel since boot (wall-clock start times move when the clock is set). Besides, everything started
for one state folder carries that folder's mark in its environment, which children inherit: so even what
a killed supervisor had no time to write down is found.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

INSTANCE_VARIABLE = "MERIDIAN_INSTANCE"

_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, never confused with a later one that got the same pid."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has this pid now; None when there is none (a zombie is none)."""
        started = _started(pid)
        return None if started is None else cls(pid=pid, started=started)

    @classmethod
    def own(cls) -> ProcessIdentity:
        """The calling process."""
        pid = os.getpid()
        return cls(pid=pid, started=_started(pid) or 0.0)

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send a signal, unless the process has gone."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _started(pid: int) -> float | None:
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] in "ZX" else float(fields[19])
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def marked(instance: str) -> Iterator[ProcessIdentity]:
    """All living processes that carry this state folder's mark, but never the caller's own."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(INSTANCE_VARIABLE) != instance:
                continue
        except (psutil.Error, OSError):
            continue
        identity = ProcessIdentity.of(process.pid)
        if identity is not None:
            yield identity


def group_of(leader_pid: int, instance: str) -> list[ProcessIdentity]:
    """The marked processes of the group that ``leader_pid`` leads or led."""
    members = []
    for identity in marked(instance):
        try:
            if os.getpgid(identity.pid) == leader_pid:
                members.append(identity)
        except ProcessLookupError:
            continue
    return members


def wait_gone(identities: Iterable[ProcessIdentity], within_s: float) -> list[ProcessIdentity]:
    """Wait until all have ended; return those that have not when the time is over."""
    deadline = time.monotonic() + within_s
    left = [identity for identity in identities if identity.is_alive()]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [identity for identity in left if identity.is_alive()]
    return left


def stop(leader: ProcessIdentity, instance: str, *, signal_number: int, grace_s: float) -> bool:
    """End one part: its own signal to its leader, after the grace SIGKILL to what is left of its group.

    Returns whether the leader ended by itself within the grace.
    """
    members = group_of(leader.pid, instance)
    leader.send(signal_number)
    graceful = not wait_gone([leader], grace_s)
    leader.send(signal.SIGKILL)
    for identity in {*members, *group_of(leader.pid, instance)}:
        identity.send(signal.SIGKILL)
    wait_gone([leader, *members], 5.0)
    return graceful
