"""Three gateways, six simulated replicas and an agent's socket, each of which can be killed and comes back."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.support.gateway import Agent, agent, agent_state, raw
from tests.support.tables import AgentState, endpoint
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.spool import SpoolBatch, SpoolReader
from workloadplane.protocol.statefile import write_state

GATEWAYS = 3
REPLICAS = 6
#: How long until the agent sees that a replica has ended.
_NOTICED_AFTER_S = 0.3
_STEP = ("--decode-step-s", "0.08", "--decode-step-per-sequence-s", "0")


@dataclass
class Gateway:
    """One gateway: its port stays, its process does not. ``killed_s``: from when till when it died, each time."""

    directory: Path
    process: asyncio.subprocess.Process | None = None
    port: int = 0
    killed_s: list[tuple[float, float]] = field(default_factory=list)

    async def metrics(self) -> str:
        """What ``/metrics`` says now."""
        asked = b"GET /metrics HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"
        head, _, text = (await raw(self.port, asked)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return text.decode()


@dataclass
class World:
    """See the module. ``replicas``: those that the agent believes alive, by replica id."""

    directory: Path
    state: AgentState
    gateways: list[Gateway]
    replicas: dict[str, tuple[asyncio.subprocess.Process, int]] = field(default_factory=dict)
    agent: Agent | None = None
    _agent_alive: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _made: int = 0
    _generation: int = 1

    async def start(self) -> None:
        await asyncio.gather(*(self.start_replica() for _ in range(REPLICAS)))
        await self.start_agent()
        await asyncio.gather(*(self.start_gateway(gateway) for gateway in self.gateways))

    async def start_replica(self) -> None:
        self._made += 1
        name = f"replica-{self._made}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workloadplane.engines.simulator", "--served-model-name", "chat", *_STEP,
            stdout=subprocess.PIPE, env={**os.environ, "MERIDIAN_ENGINE_KEY": "engine-secret"},
        )  # fmt: skip
        assert process.stdout is not None
        self.replicas[name] = (process, json.loads(await process.stdout.readline())["port"])
        self._tell()

    async def kill_replica(self, name: str) -> None:
        """End it at once; the agent notices a little later, and another one takes its place."""
        process, _ = self.replicas[name]
        process.kill()
        await process.wait()
        await asyncio.sleep(_NOTICED_AFTER_S)  # in which only the gateways can know
        del self.replicas[name]
        self._tell()
        await self.start_replica()

    async def start_gateway(self, gateway: Gateway) -> None:
        gateway.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(self.state.directory),
            "--state-dir", str(gateway.directory), "--port", str(gateway.port),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert gateway.process.stderr is not None
        told: list[bytes] = []
        while line := await gateway.process.stderr.readline():
            told.append(line)
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry["event"] == "gateway serves":
                    gateway.port = entry["port"]
                    log = gateway.directory / "log"
                    asyncio.create_task(_drain(gateway.process.stderr, log))  # noqa: RUF006 (ends with it)
                    return
        raise AssertionError(f"the gateway did not start: {b''.join(told).decode()}")

    async def kill_gateway(self, gateway: Gateway) -> None:
        """End it at once, with all connections it has, and start it again on the same port and directory."""
        assert gateway.process is not None
        began_s = time.monotonic()
        gateway.killed_s.append((began_s, float("inf")))
        gateway.process.kill()
        await gateway.process.wait()
        gateway.killed_s[-1] = (began_s, time.monotonic())
        await self.start_gateway(gateway)

    async def start_agent(self) -> None:
        self._agent_alive = contextlib.AsyncExitStack()
        (self.state.directory / "agent.sock").unlink(missing_ok=True)
        self.agent = await self._agent_alive.enter_async_context(agent(self.state.directory))
        self._tell()

    async def kill_agent(self, away_s: float) -> None:
        """For this long nobody tells the gateways, or the disk, what has ended and what has begun."""
        self.agent = None
        await self._agent_alive.aclose()
        await asyncio.sleep(away_s)
        await self.start_agent()

    def _tell(self) -> None:
        if self.agent is None:
            return
        self._generation += 1
        told = EndpointSet(
            endpoint_generation=self._generation,
            endpoints=tuple(endpoint(port, replica_id=name) for name, (_, port) in self.replicas.items()),
        )
        write_state(self.state.directory / "endpoints.json", msgspec.json.encode(told))
        self.agent.push(told)

    async def written(self) -> SpoolBatch:
        """What the gateways have written down. They end for it."""
        for gateway in self.gateways:
            assert gateway.process is not None
            gateway.process.terminate()
            await asyncio.wait_for(gateway.process.wait(), 60)
        found = [SpoolReader(gateway.directory / "spool").pending(1_000_000) for gateway in self.gateways]
        return SpoolBatch(
            usage=tuple(record for batch in found for record in batch.usage),
            windows=tuple(window for batch in found for window in batch.windows),
        )

    async def end(self) -> None:
        await self._agent_alive.aclose()
        running = [process for process, _ in self.replicas.values()]
        running += [gateway.process for gateway in self.gateways if gateway.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _drain(stream: asyncio.StreamReader, log: Path) -> None:
    with log.open("ab") as file:
        while line := await stream.readline():
            file.write(line)


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """All of it, running, until the block ends."""
    gateways = [Gateway(directory / f"gateway-{number}") for number in range(GATEWAYS)]
    for gateway in gateways:
        gateway.directory.mkdir(parents=True)
    made = World(directory, agent_state(directory / "agent"), gateways)
    try:
        await made.start()
        yield made
    finally:
        await made.end()
