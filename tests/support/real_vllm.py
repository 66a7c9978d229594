"""Real vLLM engines for tests: started through the process runtime, stopped, continued and killed as faults would."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import psutil

from infra.embedded import example_model
from tests.support.gateway import endpoints
from tests.support.tables import AgentState
from workloadplane.engines.base import EngineReplica
from workloadplane.engines.vllm import ENGINE
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.statefile import write_state
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica
from workloadplane.runtimes.process import ProcessRuntime

ENGINES_DIR = Path(__file__).parents[2] / ".engines"
VERSION = "0.32.0"
KEY = "engine-secret"
IS_MISSING = isinstance(ENGINE.interpreter(ENGINES_DIR, VERSION), Refusal)


class Engines:
    """Engines of one tiny model in float32, where greedy answers are a function of their prompts."""

    def __init__(self, directory: Path, cache_dir: Path, **arguments: str) -> None:
        self.directory = directory
        self._cache_dir = cache_dir
        self._arguments = arguments
        self._started = 0
        self.runtime: ProcessRuntime
        self.client: httpx.AsyncClient

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Whatever still runs at the end is killed."""
        async with (
            ProcessRuntime(
                state_dir=self.directory / "runtime", engines_dir=ENGINES_DIR, cache_dir=self._cache_dir
            ) as self.runtime,
            httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as self.client,
        ):
            try:
                yield
            finally:
                for replica in await self.runtime.adopt():
                    await self.runtime.stop(replica.runtime_ref, grace_s=0)

    async def start(self) -> RunningReplica:
        """One more, ready."""
        self._started += 1
        replica = EngineReplica(
            served_model="chat",
            source_uri=example_model.ensure(self.directory).source_uri,
            precision="float32",
            max_context_tokens=512,
            engine_version=VERSION,
            arguments=self._arguments,
            engine_key=KEY,
            shutdown_timeout_s=5.0,
        )
        spec = ReplicaSpec(replica_id=f"real-{self._started}", engine="vllm", replica=replica)
        running = await self.runtime.start(spec)
        assert isinstance(running, RunningReplica), running
        ended = asyncio.create_task(self.runtime.wait(running.runtime_ref))
        while not (await ENGINE.probe(self.client, running.endpoint, timeout_s=30)).ready:
            await asyncio.wait({ended}, timeout=0.5)
            assert not ended.done(), await self.runtime.log_tail(running.runtime_ref)
        ended.cancel()
        return running

    async def kill(self, replica: RunningReplica) -> None:
        """``kill -9`` of all of it."""
        _send(replica, signal.SIGKILL)
        await self.runtime.stop(replica.runtime_ref, grace_s=0)


def speak_vllm(state: AgentState, *ports: int, seats: int = 0) -> None:
    """The endpoints as the agent would write them for this engine. ``seats``: none but where they matter."""
    engines = tuple(
        msgspec.structs.replace(each, engine="vllm", max_in_flight=seats)
        for each in endpoints(2, *ports).endpoints
    )
    known = EndpointSet(endpoint_generation=2, endpoints=engines)
    write_state(state.directory / "endpoints.json", msgspec.json.encode(known))


def freeze(replica: RunningReplica) -> None:
    """``SIGSTOP``: its machine hangs, its port still takes connections."""
    _send(replica, signal.SIGSTOP)


def thaw(replica: RunningReplica) -> None:
    """``SIGCONT``."""
    _send(replica, signal.SIGCONT)


def kill_core(replica: RunningReplica) -> None:
    """The process that computes dies, the one that speaks HTTP finds out."""
    for process in _processes(replica):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "EngineCore" in " ".join([process.name(), *process.cmdline()]):
                process.kill()


def _send(replica: RunningReplica, number: signal.Signals) -> None:
    for process in _processes(replica):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _processes(replica: RunningReplica) -> list[psutil.Process]:
    """All of its session, whose leader listens at its port; none if nobody does any more."""
    port = replica.endpoint.port
    listening = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.pid and each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,)
    ]
    if not listening:
        return []
    session = os.getsid(listening[0])
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found
