"""The system of ``make up`` with ways that can be cut, clocks that can be set and disks that can be filled.

Between each caller and each gateway, each agent and the control plane, and the control plane and PostgreSQL lies a
proxy; agents keep their state on a small file system of their own; every process reads its wall clock through a library
that can move it. The programs are the real ones and know nothing of it.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import msgspec

from infra.embedded import parts
from infra.embedded.layout import Layout
from infra.embedded.part import PartSpec
from infra.embedded.parts import CLUSTERS, SIMULATOR
from infra.embedded.ports import DEFAULT_PORTS, HOST
from infra.embedded.supervisor_client import SupervisorClient
from tests.e2e.system import System, start, stop
from tests.faults.matrix.clients import EDGE
from tests.support.clock_offset import Clock, library
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import eventually_async
from workloadplane.protocol.statefile import read_state

EU, US, JP = CLUSTERS
CONTROL = ("web", "worker", "beat", "postgres", "valkey")
EU_ONLY, ACTIVE_ACTIVE, ACTIVE_PASSIVE = "eu-only", "everywhere", "pair"
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    EU_ONLY: {"residency": ["eu"], "autoscaling": {"min_replicas": 2, "max_replicas": 2}},
    ACTIVE_ACTIVE: {"survivability": "region", "autoscaling": {"min_replicas": 2, "max_replicas": 3}},
    ACTIVE_PASSIVE: {
        "posture": "active_passive",
        "survivability": "region",
        "autoscaling": {"min_replicas": 1, "max_replicas": 2},
    },
}
REPLICAS = {EU_ONLY: 2, ACTIVE_ACTIVE: 3, ACTIVE_PASSIVE: 2}
#: A token every 64 ms, so that streams last and a hundred of them are no load to speak of.
TEMPO = 8.0
_DISK_MIB = 24
_RUNG_S = "0.5"


@dataclass(frozen=True)
class Replica:
    """A running engine, as its agent's record names it."""

    replica_id: str
    cluster: str
    deployment: str
    pid: int
    port: int
    engine_key: str


@dataclass
class World:
    """See the module. ``clusters_of``: every replica that ever ran -> its cluster, by whose machine it was on."""

    system: System
    client: SupervisorClient
    parts_world: parts.World
    gateways: dict[str, FaultProxy] = field(default_factory=dict)
    homes: dict[str, FaultProxy] = field(default_factory=dict)
    database: FaultProxy | None = None
    clocks: dict[str, Clock] = field(default_factory=dict)
    has_disks: bool = False
    clusters_of: dict[str, str] = field(default_factory=dict)
    stale_tables: dict[str, bytes] = field(default_factory=dict)
    tempo: dict[str, float] = field(default_factory=dict)
    _set: dict[str, dict[str, Any]] = field(default_factory=dict)
    supervisor_held: int = 0

    # -- what is there -------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self.parts_world.layout

    def agent_dir(self, cluster: str) -> Path:
        return self.layout.plane(cluster) / "agent"

    def pid(self, part: str) -> int | None:
        """Of a part that runs."""
        pid = self.system.endpoints()["pids"].get(part)
        return int(pid) if pid else None

    def pids(self, *names: str) -> list[int]:
        """Of those parts that run."""
        return [pid for name in names if (pid := self.pid(name)) is not None]

    def doors(self) -> dict[str, int]:
        """Where clients ask: the edge, and each gateway."""
        return {
            EDGE: self.parts_world.ports["edge"],
            **{name: proxy.port for name, proxy in self.gateways.items()},
        }

    def replicas(self, cluster: str | None = None) -> list[Replica]:
        """Those that run, by the agents' own records and the kernel."""
        found = []
        for name in CLUSTERS:
            for file in (self.agent_dir(name) / "replicas").glob("*.json"):
                content = read_state(file)
                if not isinstance(content, bytes):
                    continue
                record = msgspec.json.decode(content)
                replica = record["spec"]["replica"]
                one = Replica(
                    replica_id=record["spec"]["replica_id"],
                    cluster=name,
                    deployment=replica["served_model"],
                    pid=record.get("pid") or 0,
                    port=record.get("port") or 0,
                    engine_key=replica["engine_key"],
                )
                self.clusters_of[one.replica_id] = name
                if one.pid and Path(f"/proc/{one.pid}").exists() and cluster in (None, name):
                    found.append(one)
        return found

    # -- processes -----------------------------------------------------------------------------------

    def signal(self, pids: Iterable[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_parts(self, *names: str) -> None:
        """``kill -9``; whoever is in front of a gateway refuses from now on."""
        self.signal(self.pids(*names), signal.SIGKILL)
        for name in names:
            if name.startswith("gateway-"):
                self.gateways[name.removeprefix("gateway-")].goes_down()

    def hold_supervisor(self) -> None:
        """What is dead stays dead."""
        self.supervisor_held += 1
        if self.supervisor_held == 1 and (identity := self.client.identity()):
            os.kill(identity.pid, signal.SIGSTOP)

    def let_supervisor(self) -> None:
        self.supervisor_held -= 1
        if self.supervisor_held == 0 and (identity := self.client.identity()):
            os.kill(identity.pid, signal.SIGCONT)

    async def restart_dead(self) -> None:
        """Start at once what the supervisor would start after its pause; while it is held, whoever lets it does so."""
        if self.supervisor_held:
            return
        for part in await asyncio.to_thread(self.client.status):
            if part.state != "running":
                await asyncio.to_thread(self.client.restart, part.name)

    async def set_faults(self, replicas: Iterable[Replica], **faults: Any) -> None:
        """The engines' own switches, and the tempo of all of them."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            for one in replicas:
                wanted = {"slow_factor": TEMPO, **faults}
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.put(
                        f"http://127.0.0.1:{one.port}/simulator/faults",
                        json=wanted,
                        headers={"authorization": f"Bearer {one.engine_key}"},
                    )
                    if answer.status_code == 200:
                        self._set[one.replica_id] = faults

    async def keep_tempo(self) -> None:
        """Give those that have started the tempo of the others; for ever."""
        while True:
            new = [one for one in await asyncio.to_thread(self.replicas) if one.replica_id not in self._set]
            if new:
                await self.set_faults(new)
            await asyncio.sleep(0.5)

    # -- what it tells of itself ---------------------------------------------------------------------

    def api(self, path: str) -> dict[str, Any] | None:
        """What the API answers; None where it does not. Blocks."""
        endpoints = self.system.endpoints()
        try:
            answer = httpx.get(
                f"{endpoints['api']}/api/v1{path}",
                headers={"authorization": f"Bearer {endpoints['api_key']}"},
                timeout=5.0,
                trust_env=False,
            )
        except httpx.HTTPError:
            return None
        told: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return told

    def unsettled(self) -> str:
        """What is not yet as it was before any fault; empty when all is. Blocks."""
        if self.supervisor_held:
            return "the supervisor is held"
        missing = parts.NAMES - self.system.endpoints()["pids"].keys()
        if missing:
            return f"{', '.join(sorted(missing))} not running"
        for name, count in REPLICAS.items():
            told = self.api(f"/deployments/{name}/replicas")
            if told is None:
                return "the API does not answer"
            ready = [one for one in told["items"] if one["state"] == "ready"]
            if len(ready) != count:
                return f"{len(ready)} replicas of {name} are ready, not {count}"
        for cluster in CLUSTERS:
            try:
                page = httpx.get(
                    f"{self.parts_world.gateway_url(cluster)}/debug/regions", timeout=2.0, trust_env=False
                ).json()
            except (httpx.HTTPError, ValueError):
                return f"the gateway of {cluster} does not answer"
            states = {each["cluster"]: each["state"] for each in page["regions"]}
            if sorted(states.values()) != ["healthy", "healthy"]:
                return f"{cluster} sees {states}"
        return ""

    async def settle(self, within_s: float = 60.0, waited_for: dict[str, float] | None = None) -> float:
        """Wait until all is as before, then how long it took. ``waited_for``: to write down for what, and how long.

        Raises AssertionError.
        """
        began_s, looked = monotonic(), 0
        waited = {} if waited_for is None else waited_for
        while last := await asyncio.to_thread(self.unsettled):
            if monotonic() - began_s > within_s:
                raise AssertionError(f"not settled after {within_s:.0f} s: {last}")
            looked += 1
            if looked % 8 == 0 and "not running" in last:
                await self.restart_dead()
            await asyncio.sleep(0.2)
            waited[last] = monotonic() - began_s
        return monotonic() - began_s

    # -- making it -----------------------------------------------------------------------------------

    def _specs(self) -> list[PartSpec]:
        """All that is behind proxies and clocks."""
        own = self.parts_world
        entry = {f"gateway-{name}": proxy.port for name, proxy in self.gateways.items()}
        assert self.database is not None
        control = replace(own, ports={**own.ports, "postgres": self.database.port})
        specs = []
        for cluster in CLUSTERS:
            gateway = parts.gateway(own, cluster)
            specs.append(
                self._timed(replace(gateway, argv=(*gateway.argv, "--ramp-rung-s", _RUNG_S)), cluster)
            )
        specs += [self._timed(part(control), "control") for part in (parts.web, parts.worker, parts.beat)]
        for cluster in CLUSTERS:
            ports = {**own.ports, **entry, "web": self.homes[cluster].port}
            specs.append(self._timed(parts.agent(replace(own, ports=ports), cluster), cluster))
        return [*specs, parts.edge(replace(own, ports={**own.ports, **entry}))]

    def _timed(self, spec: PartSpec, clock: str) -> PartSpec:
        if clock not in self.clocks:
            return spec
        return replace(spec, env={**spec.env, **self.clocks[clock].environment})

    async def put_in_place(self) -> None:
        """Proxies in front, clocks beneath, the three deployments, and nothing else."""
        ports = self.parts_world.ports
        self.gateways = {name: FaultProxy(("127.0.0.1", ports[f"gateway-{name}"])) for name in CLUSTERS}
        self.homes = {name: FaultProxy(("127.0.0.1", ports["web"])) for name in CLUSTERS}
        self.database = FaultProxy(("127.0.0.1", ports["postgres"]))
        for proxy in self.proxies():
            await proxy.listen()
        made = await asyncio.to_thread(library, self.layout.state)
        if made is not None:
            self.clocks = {n: Clock(made, self.layout.state / f"clock-{n}") for n in (*CLUSTERS, "control")}
            for clock in self.clocks.values():
                clock.set(0.0)
        await asyncio.to_thread(self.client.start, self._specs())
        await asyncio.to_thread(self.system.control_plane_answers)
        await asyncio.to_thread(self.system.delete, "chat")
        for name, document in DEPLOYMENTS.items():
            await asyncio.to_thread(
                self.system.deploy, name=name, model="tiny-llama", engine="simulator", **document
            )
            if not self.stale_tables:
                for cluster in CLUSTERS:
                    file = self.agent_dir(cluster) / "tables" / "routing.json"
                    self.stale_tables[cluster] = file.read_bytes()

    def proxies(self) -> list[FaultProxy]:
        assert self.database is not None
        return [*self.gateways.values(), *self.homes.values(), self.database]


@contextlib.asynccontextmanager
async def world(state: Path) -> AsyncIterator[World]:
    """All of it, settled, until the block ends."""
    mounted = [each for name in CLUSTERS if (each := _small_disk(state / "planes" / name / "agent"))]
    try:
        layout = Layout(state=state)
        await asyncio.to_thread(_choose_ports, layout)
        system = System(state, SIMULATOR)
        try:
            await asyncio.to_thread(start, state, SIMULATOR)
        except BaseException:
            await asyncio.to_thread(stop, system)
            raise
        ports = json.loads(layout.ports.read_text())
        made = World(system, SupervisorClient(layout), parts.World(layout, ports, SIMULATOR))
        made.has_disks = len(mounted) == len(CLUSTERS)
        tempo: asyncio.Task[None] | None = None
        try:
            await made.put_in_place()
            await made.settle()
            tempo = asyncio.create_task(made.keep_tempo())
            await eventually_async(lambda: len(made._set) >= sum(REPLICAS.values()), what="the tempo of all")
            yield made
        finally:
            if tempo is not None:
                tempo.cancel()
            while made.supervisor_held:
                made.let_supervisor()
            await asyncio.to_thread(stop, system)
            for proxy in made.proxies():
                proxy.close()
    finally:
        await asyncio.to_thread(_put_away, mounted)


def _choose_ports(layout: Layout) -> None:
    """Others than the usual ones, so that a system that runs or begins beside this one is left alone."""
    with contextlib.ExitStack() as held:
        free = {name: held.enter_context(socket.create_server((HOST, 0))) for name in DEFAULT_PORTS}
        chosen = {name: int(one.getsockname()[1]) for name, one in free.items()}
    layout.ports.write_text(json.dumps(chosen))
    layout.ports.chmod(0o600)


def _put_away(mounted: list[Path]) -> None:
    """The small disks, and what was laid over them."""
    for folder in mounted:
        while subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0:
            pass


def _small_disk(folder: Path) -> Path | None:
    """A file system of its own at this place, where we may make one."""
    folder.mkdir(mode=0o700, parents=True)
    for made in (folder.parent, folder.parents[1]):
        made.chmod(0o700)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=700", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    return folder if done.returncode == 0 else None
