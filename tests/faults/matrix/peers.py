"""The same replicas, the same clients, the same loss: this gateway, SkyServe's balancer and Envoy, one after the other.

Each is started as its own operator would: SkyServe's balancer with a stand-in for its controller that probes replicas
and tells them as the real one does (every 10 s; the balancer asks it every 20 s), Envoy with outlier detection as it
comes, and once more with retries. This gateway has no agent beside it that would see the loss before it does.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from tests.benchmarks.gateway.peers import CHECKOUT, environment
from tests.faults.matrix.clients import EDGE, Load
from tests.support.gateway import SECRET, agent_state
from tests.support.gateway_program import program
from tests.support.simulators import Simulator, simulator
from tests.support.waiting import eventually_async

LOCK = Path(__file__).with_name("peers.lock")
MERIDIAN, SKYSERVE, ENVOY, ENVOY_RETRIES = "Meridian", "SkyServe's balancer", "Envoy", "Envoy with retries"
NAMES = (MERIDIAN, ENVOY, ENVOY_RETRIES, SKYSERVE)
CLIENTS = 30
_ENGINE_KEY = "engine-secret"
_QUICK = ("--decode-step-s", "0.04", "--max-num-seqs", "64")
_PROBES_EVERY_S = 10.0
#: Longer than any of them takes to find that a replica is stuck, and shorter than what clients usually have.
_PATIENCE_S = 30.0
#: Until it is known what a replica usually takes.
_WARM_S = 8.0
_STARTS_WITHIN_S = 240.0  # SkyServe's balancer imports for a minute where there is much to do
_TYPES = "type.googleapis.com/envoy.extensions.filters"


@dataclass
class Loss:
    """What clients of one saw of one loss; seconds. ``waited_s``: the longest that an answer took, ``lag_s``: ours."""

    name: str
    fault: str
    asked: int
    last_failed_s: float
    errors: int
    broken_streams: int
    waited_s: float
    lag_s: float


def python() -> Path:
    """The peers' interpreter. Raises CalledProcessError."""
    folder = os.environ.get("MERIDIAN_FAULT_PEERS")
    return environment(LOCK, Path(folder) if folder else CHECKOUT / ".engines" / "fault-peers")


async def compare(directory: Path, names: tuple[str, ...], hold_s: float) -> AsyncIterator[Loss]:
    """Each of them loses a replica of three by SIGKILL, then one by SIGSTOP."""
    for number, name in enumerate(names):
        for fault, sent in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
            yield await _lose(directory / f"{number}-{fault}", name, fault, sent, hold_s)


async def _lose(directory: Path, name: str, fault: str, sent: int, hold_s: float) -> Loss:
    await asyncio.to_thread(directory.mkdir, parents=True)
    with ExitStack() as engines:
        replicas = [engines.enter_context(simulator(*_QUICK, key=_ENGINE_KEY)) for _ in range(3)]
        async with AsyncExitStack() as stack:
            port, key = await stack.enter_async_context(_started(name, directory, replicas))
            load = Load({EDGE: port}, key, ("chat",), rest_s=(0.2, 1.0))
            load.first_byte_within_s = load.silence_s_max = _PATIENCE_S
            load.start(CLIENTS)
            await asyncio.sleep(_WARM_S)
            load.lag_s = 0.0
            began_s = monotonic()
            os.kill(replicas[0].process.pid, sent)
            await asyncio.sleep(hold_s)
            await load.stop()
            if sent == signal.SIGSTOP:
                os.kill(replicas[0].process.pid, signal.SIGCONT)
    firsts = [one.attempts[0] for one in load.asked if one.attempts and one.attempts[0].ended_s > began_s]
    failed = [one for one in firsts if one.failed and one.end != "cut"]
    return Loss(
        name=name,
        fault=fault,
        asked=len(firsts),
        last_failed_s=max((one.began_s - began_s for one in firsts if one.failed), default=0.0),
        errors=len(failed),
        broken_streams=sum(one.end == "cut" for one in firsts),
        waited_s=max(one.ended_s - one.began_s for one in firsts),
        lag_s=load.lag_s,
    )


@contextlib.asynccontextmanager
async def _started(name: str, directory: Path, replicas: list[Simulator]) -> AsyncIterator[tuple[int, str]]:
    """Its port, and the key that its clients send."""
    ports = [one.port for one in replicas]
    async with AsyncExitStack() as stack:
        if name == MERIDIAN:
            state = agent_state(directory / "agent", *ports)
            running = await stack.enter_async_context(program(state.directory, directory / "gateway"))
            port, key = running.port, SECRET
        elif name == SKYSERVE:
            controller = await stack.enter_async_context(_controller(ports))
            port, key = _free_port(), _ENGINE_KEY
            command = [python(), "-m", "sky.serve.load_balancer", "--controller-addr"]
            command += [f"http://127.0.0.1:{controller}", "--load-balancer-port", str(port)]
            home = {**os.environ, "HOME": str(directory), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
            stack.enter_context(_process(command, directory, home))
        else:
            port, key = _free_port(), _ENGINE_KEY
            config = directory / "envoy.json"
            config.write_text(json.dumps(_envoy(port, ports, retries=name == ENVOY_RETRIES)))
            command = [python().with_name("envoy"), "-c", config, "--concurrency", "1", "-l", "error"]
            stack.enter_context(_process(command, directory, dict(os.environ)))
        await eventually_async(lambda: _serves(port, key), within_s=_STARTS_WITHIN_S, what=f"{name} serves")
        yield port, key


@contextlib.contextmanager
def _process(command: list[Any], directory: Path, environ: dict[str, str]) -> Iterator[None]:
    with (directory / "log").open("wb") as log:
        made = subprocess.Popen(
            [str(each) for each in command], stdout=log, stderr=log, env=environ, cwd=directory
        )
    try:
        yield
    finally:
        made.kill()
        made.wait()


async def _serves(port: int, key: str) -> bool:
    body = {"model": "chat", "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        try:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            answer = await client.post(url, json=body, headers={"authorization": f"Bearer {key}"})
        except httpx.HTTPError:
            return False
    return answer.status_code == 200


@contextlib.asynccontextmanager
async def _controller(ports: list[int]) -> AsyncIterator[int]:
    """What SkyServe's controller tells its balancer: replicas whose last probe was answered well."""
    ready = set(ports)

    async def probe(port: int) -> None:
        async with httpx.AsyncClient(timeout=15.0, trust_env=False) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health")
                is_ready = answer.status_code == 200
            except httpx.HTTPError:
                is_ready = False
        (ready.add if is_ready else ready.discard)(port)

    async def probe_for_ever() -> None:
        while True:
            await asyncio.gather(*(probe(port) for port in ports))
            await asyncio.sleep(_PROBES_EVERY_S)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        told = {f"http://127.0.0.1:{port}": {"gpu_type": "unknown"} for port in sorted(ready)}
        body = json.dumps({"replica_info": told}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    probing = asyncio.create_task(probe_for_ever())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        probing.cancel()
        server.close()


def _envoy(port: int, replicas: list[int], *, retries: bool) -> dict[str, Any]:
    """One listener, one cluster, outlier detection with Envoy's own defaults; of three hosts one may be put out."""
    route: dict[str, Any] = {"cluster": "replicas", "timeout": "0s"}
    if retries:
        route["retry_policy"] = {"retry_on": "5xx,reset,connect-failure", "num_retries": 2}
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": route}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{_TYPES}.http.router.v3.Router"}}],
    }  # fmt: skip
    cluster = {
        "name": "replicas",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": {"max_ejection_percent": 50},
        "load_assignment": {"cluster_name": "replicas", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": _address(each)}} for each in replicas]}]},
    }  # fmt: skip
    listener = {
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])
