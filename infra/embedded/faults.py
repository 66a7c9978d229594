"""Breaking parts of this set-up on purpose, for a while: what a drill does to processes.

``kill``     SIGKILL of a region's agent, gateway and replicas; none of them is started again before the end
``freeze``   SIGSTOP of the same: connections stay open and nobody answers
``slow``     a region's replicas run for a tenth of the time, in turns that no token is longer than
``control``  SIGKILL of the whole control plane, its database and broker included
``links``    gateways are told to call one another through ports where calls can be made late or cut (``links``): agents
             start anew with the other addresses, and with their own ones at the end

The supervisor does it and ends it: when it is told to, and at the latest when the time is over that was given at the
beginning. It writes down first what it breaks, so that the next supervisor mends what a killed one has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT, Layout, read_json, write_private
from infra.embedded.part import PartSpec
from infra.embedded.ports import HOST, free_port
from infra.embedded.processes import ProcessIdentity
from workloadplane.runtimes.processes import kill_session, marked_leaders

KINDS = ("kill", "freeze", "slow", "control", "links")
CONTROL_PARTS = ("web", "worker", "beat", "valkey", "postgres")
LONGEST_S = 3600.0

LINKS = "links"
_OWN_ADDRESS = "--gateway-url"
#: Until every gateway has been told the others' own addresses again.
_LINKS_LINGER_S = 15.0

_STOPPED_S = 0.09
_RUNNING_S = 0.01

_log = logging.getLogger("faults")


class Breakable(Protocol):
    """A part as the supervisor holds it. ``may_start``: unset, it is not started again."""

    spec: PartSpec
    process: ProcessIdentity | None
    may_start: asyncio.Event


@dataclass(frozen=True)
class Fault:
    """What is broken. ``specs``: of the parts that are held, or that run otherwise meanwhile."""

    kind: str
    clusters: tuple[str, ...]
    specs: tuple[PartSpec, ...]


class Faults:
    """One fault at a time. ``start``: starts parts, or replaces those that run otherwise; ``stop``: ends one."""

    def __init__(
        self,
        layout: Layout,
        parts: dict[str, Any],
        start: Callable[[Sequence[PartSpec]], Awaitable[None]],
        stop: Callable[[str], Awaitable[None]],
    ) -> None:
        self._layout = layout
        self._parts = parts
        self._start = start
        self._stop = stop
        self._fault: Fault | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lingering: asyncio.Task[None] | None = None

    @property
    def _file(self) -> Path:
        return self._layout.run / "fault.json"

    async def recover(self) -> None:
        """Mend what a supervisor that was killed has left."""
        await self._stop(LINKS)
        left = read_json(self._file)
        if not left:
            return
        fault = Fault(left["kind"], tuple(left["clusters"]), tuple(map(PartSpec.from_json, left["specs"])))
        _log.info("mending %s of %s, left by another supervisor", fault.kind, ", ".join(fault.clusters))
        await self._mend(fault)
        await self._start(fault.specs)

    async def begin(self, kind: str, clusters: Iterable[str], for_s: float) -> None:
        """Break it now, and mend it by itself after ``for_s``. Raises EmbeddedError."""
        fault = self._checked(kind, tuple(clusters), for_s)
        self._fault = fault
        document = {
            "kind": kind,
            "clusters": list(fault.clusters),
            "specs": [spec.to_json() for spec in fault.specs],
            "until": time.time() + for_s,
        }
        write_private(self._file, json.dumps(document))
        _log.info(
            "%s of %s for %.0f s at most", kind, ", ".join(fault.clusters) or "the control plane", for_s
        )
        self._tasks = [asyncio.create_task(self._end_after(for_s))]
        if kind == "links":
            await self._start(linked(self._layout, fault.specs))
        elif kind == "slow":
            self._tasks.append(asyncio.create_task(self._slow(fault)))
        elif kind == "freeze":
            await asyncio.to_thread(self._signal, fault, signal.SIGSTOP)
        else:
            for part in self._held(fault):
                part.may_start.clear()
            await asyncio.to_thread(self._kill, fault)

    async def end(self) -> bool:
        """Mend it; whether anything was broken. What was killed is started again by whoever keeps it."""
        fault, self._fault = self._fault, None
        if fault is None:
            return False
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await self._mend(fault)
        if fault.kind == "links":
            await self._start(fault.specs)
            self._lingering = asyncio.create_task(self._end_links())
        return True

    def set_links(self, kind: str, clusters: Iterable[str], delay_s: float) -> None:
        """What is wrong between regions from now on, until the fault ends. Raises EmbeddedError."""
        if self._fault is None or self._fault.kind != "links":
            raise EmbeddedError("the ways between regions are not held: begin with links")
        until = read_json(self._file)["until"]
        document = {"kind": kind, "clusters": list(clusters), "delay_s": delay_s, "until": until}
        write_private(link_file(self._layout), json.dumps(document))

    async def _end_links(self) -> None:
        await asyncio.sleep(_LINKS_LINGER_S)
        if self._fault is None:
            await self._stop(LINKS)

    def _checked(self, kind: str, clusters: tuple[str, ...], for_s: float) -> Fault:
        if self._fault is not None:
            raise EmbeddedError("something is broken already: mend it first")
        if kind not in KINDS or not 0 < for_s <= LONGEST_S:
            raise EmbeddedError(
                f"{kind} for {for_s:g} s: give one of {', '.join(KINDS)}, {LONGEST_S:.0f} s at most"
            )
        names = CONTROL_PARTS if kind == "control" else _region_parts(clusters)
        if kind == "links":
            names = tuple(name for name in self._parts if name.startswith("agent-"))
        unknown = sorted(name for name in names if name not in self._parts)
        if unknown or not names:
            raise EmbeddedError(f"no part {', '.join(unknown) or 'is named'}: see `meridian status`")
        held = () if kind in ("freeze", "slow") else names
        return Fault(kind, clusters, tuple(self._parts[name].spec for name in held))

    async def _end_after(self, for_s: float) -> None:
        await asyncio.sleep(for_s)
        _log.info("nobody mended it in time: it is mended now")
        await self.end()

    async def _mend(self, fault: Fault) -> None:
        await asyncio.to_thread(self._signal, fault, signal.SIGCONT)
        for part in self._held(fault):
            part.may_start.set()
        link_file(self._layout).unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)

    def _held(self, fault: Fault) -> list[Breakable]:
        return [self._parts[spec.name] for spec in fault.specs if spec.name in self._parts]

    def _kill(self, fault: Fault) -> None:
        """Agents first: they start again what they see die."""
        for part in self._held(fault):
            _signal_group(part.process, signal.SIGKILL)
        for cluster in fault.clusters:
            directory = self._layout.plane(cluster) / "agent"
            for replica_id, leaders in marked_leaders(directory).items():
                for leader in leaders:
                    kill_session(leader, state_dir=directory, replica_id=replica_id)

    def _signal(self, fault: Fault, number: int) -> None:
        """To the parts and replicas of its regions."""
        for name in _region_parts(fault.clusters):
            if name in self._parts:
                _signal_group(self._parts[name].process, number)
        for leader in self._replicas(fault):
            _signal_session(leader, number)

    def _replicas(self, fault: Fault) -> list[int]:
        """Session leaders, by their marks."""
        return [
            leader
            for cluster in fault.clusters
            for leaders in marked_leaders(self._layout.plane(cluster) / "agent").values()
            for leader in leaders
        ]

    async def _slow(self, fault: Fault) -> None:
        """In turns; replicas that come meanwhile are slow as well."""
        while True:
            leaders = await asyncio.to_thread(self._replicas, fault)
            for _ in range(20):
                for leader in leaders:
                    _signal_session(leader, signal.SIGSTOP)
                try:
                    await asyncio.sleep(_STOPPED_S)
                finally:
                    for leader in leaders:
                        _signal_session(leader, signal.SIGCONT)
                await asyncio.sleep(_RUNNING_S)


def link_file(layout: Layout) -> Path:
    """What is wrong between regions now, for the part that carries their calls."""
    return layout.run / "links.json"


def linked(layout: Layout, agents: Iterable[PartSpec]) -> list[PartSpec]:
    """The part in front of the gateways, and the agents that tell its addresses instead of their gateways'."""
    command = [sys.executable, "-m", "infra.embedded.links", str(link_file(layout))]
    taken: set[int] = set(map(int, read_json(layout.ports).values()))
    through = []
    for spec in agents:
        argv = list(spec.argv)
        at = argv.index(_OWN_ADDRESS) + 1
        own, port = argv[at], free_port(frozenset(taken))
        taken.add(port)
        command += ["--way", f"{spec.name.removeprefix('agent-')}={port}:{own.rpartition(':')[2]}"]
        argv[at] = f"http://{HOST}:{port}"
        through.append(replace(spec, argv=tuple(argv)))
    carries = PartSpec(name=LINKS, argv=tuple(command), cwd=str(CHECKOUT), env={"PYTHONUNBUFFERED": "1"})
    return [carries, *through]


def _region_parts(clusters: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{part}-{cluster}" for cluster in clusters for part in ("agent", "gateway"))


def _signal_group(process: ProcessIdentity | None, number: int) -> None:
    """To a part and its children: each part leads a session of its own."""
    if process is not None and process.is_alive():
        _signal_session(process.pid, number)


def _signal_session(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
