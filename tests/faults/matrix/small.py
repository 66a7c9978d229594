"""Three regions without a control plane, up in seconds: gateways as programs, an engine each, an edge, and proxies.

For what has to be measured often or for long, and for a slice that every run of the tests can afford. One deployment is
served everywhere, one in the EU alone.
"""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from infra.embedded.edge import Backend, Edge
from tests.faults.matrix.clients import EDGE, Load
from tests.faults.matrix.world import ACTIVE_ACTIVE, EU_ONLY
from tests.support.fault_proxy import FaultProxy
from tests.support.gateway import SECRET
from tests.support.gateway_program import Program, program
from tests.support.simulators import Simulator, simulator
from tests.support.tables import api_key, endpoint, header, revision, route
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_peering import REGIONS, World
from workloadplane.protocol.local import EndpointSet

EU, US, JP = REGIONS
_ENGINE = ("--decode-step-s", "0.03", "--max-num-seqs", "128")
_PROJECT = "project-1"
_NO_TLS = ssl.create_default_context()  # made once: it takes longer than a request


@dataclass
class Place:
    """One region. ``entry``: in front of its gateway, for its peers; ``way``: in front of its engine."""

    gateway: Program
    engine: Simulator
    entry: FaultProxy
    way: FaultProxy

    def signal(self, number: int) -> None:
        for pid in (self.gateway.process.pid, self.engine.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.entry.goes_down()


@dataclass
class Small:
    """See the module. ``clusters_of``: by replica."""

    places: dict[str, Place] = field(default_factory=dict)
    backends: list[Backend] = field(default_factory=list)
    edge_port: int = 0
    clusters_of: dict[str, str] = field(default_factory=dict)

    def load(self, seed: int = 0, **facts: Any) -> Load:
        """Clients of both deployments, at the edge and at each gateway."""
        doors = {EDGE: self.edge_port, **{name: place.gateway.port for name, place in self.places.items()}}
        return Load(doors, SECRET, (ACTIVE_ACTIVE, EU_ONLY), seed, **facts)

    async def states(self, observer: str) -> dict[str, str]:
        """Cluster -> its state, to one of them."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False, verify=_NO_TLS) as client:
            answer = await client.get(f"{self.places[observer].gateway.url}/debug/regions")
        return {each["cluster_id"]: each["state"] for each in answer.json()["regions"]}

    async def all_healthy(self) -> bool:
        """To each of them, and to the edge."""
        seen = [await self.states(name) for name in self.places]
        return all(set(each.values()) == {"healthy"} for each in seen) and all(
            b.healthy for b in self.backends
        )

    async def count(self, metric: str, **labels: str) -> int:
        """The sum of a counter, over all gateways."""
        total = 0.0
        async with httpx.AsyncClient(timeout=5.0, trust_env=False, verify=_NO_TLS) as client:
            for place in self.places.values():
                text = (await client.get(f"{place.gateway.url}/metrics")).text
                for family in text_string_to_metric_families(text):
                    for each in family.samples:
                        if each.name == metric and labels.items() <= each.labels.items():
                            total += each.value
        return int(total)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@contextlib.asynccontextmanager
async def small(
    directory: Path, *options: str, hesitates: Callable[[], float] | None = None
) -> AsyncIterator[Small]:
    """All of it, everybody healthy to everybody. ``options``: of the gateways; ``hesitates``: the engines' proxies."""
    made = Small()
    async with AsyncExitStack() as stack:
        known = World(directory, stack)
        ports = {name: _free_port() for name in REGIONS}
        entries = {name: FaultProxy(("127.0.0.1", port)) for name, port in ports.items()}
        for entry in entries.values():
            await entry.listen()
            stack.callback(entry.close)
        for name in REGIONS:
            engine = stack.enter_context(simulator(*_ENGINE, key="engine-secret"))
            way = FaultProxy(("127.0.0.1", engine.port))
            way.hesitates = hesitates
            await way.listen()
            stack.callback(way.close)
            _write(made, known, name, way.port, {other: entry.port for other, entry in entries.items()})
            state = known.states[name].directory
            started = program(
                state,
                directory / name / "gateway",
                "--port",
                str(ports[name]),
                *options,
                stdout=subprocess.DEVNULL,
            )
            running = await stack.enter_async_context(started)
            made.places[name] = Place(running, engine, entries[name], way)
        made.backends = [Backend("127.0.0.1", place.gateway.port) for place in made.places.values()]
        edge = Edge(made.backends)
        server = await edge.serve("127.0.0.1", 0)
        made.edge_port = server.sockets[0].getsockname()[1]
        await eventually_async(made.all_healthy, within_s=90.0, what="everybody is healthy")
        try:
            yield made
        finally:
            server.close()
            await edge.drain()


def _write(made: Small, known: World, name: str, engine_port: int, entries: dict[str, int]) -> None:
    """The state of an agent that runs a replica of what may be served there."""
    region, jurisdiction, _ = REGIONS[name]
    state = known.states[name]
    routes = [
        route(ACTIVE_ACTIVE, revisions=(revision(tuple(REGIONS), revision_id="a-1"),)),
        route(EU_ONLY, residency=("eu",), revisions=(revision((EU,), revision_id="e-1"),)),
    ]
    peers = tuple(known.peer(other, entries[other]) for other in REGIONS if other != name)
    served = [(ACTIVE_ACTIVE, "a-1"), *([(EU_ONLY, "e-1")] if name == EU else [])]
    replicas = tuple(
        endpoint(
            engine_port,
            replica_id=f"{name}-{deployment}",
            deployment_id=f"{_PROJECT}-{deployment}",
            revision_id=revision_id,
        )
        for deployment, revision_id in served
    )
    made.clusters_of |= {each.replica_id: name for each in replicas}
    state.write(
        routing=state.signer.routing(
            header(name, region=region, jurisdiction=jurisdiction, peers=peers), routes, audience=name
        ),
        keyset=state.signer.keyset([api_key(SECRET)], audience=name),
        endpoints=EndpointSet(endpoint_generation=1, endpoints=replicas),
    )
