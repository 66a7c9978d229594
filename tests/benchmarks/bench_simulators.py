"""A hundred simulated replicas on one machine: start, memory, idle cost, streams. Prints a Markdown table.

``python -m tests.benchmarks.bench_simulators [--replicas 100]``
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import uvloop

from workloadplane.engines.base import EngineReplica
from workloadplane.engines.simulator.engine import ENGINE
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica
from workloadplane.runtimes.process import ProcessRuntime

_IDLE_S = 5.0
_STREAM_TOKENS = 100


def _spec(number: int) -> ReplicaSpec:
    replica = EngineReplica(
        served_model="chat",
        source_uri="",
        precision="bfloat16",
        max_context_tokens=4096,
        engine_version="",
        arguments={"decode_step_s": "0.05"},
        engine_key=f"key-{number}",
        shutdown_timeout_s=1.0,
    )
    return ReplicaSpec(replica_id=f"bench-{number}", engine="simulator", replica=replica)


async def _until_ready(client: httpx.AsyncClient, running: RunningReplica) -> float:
    while not (await ENGINE.probe(client, running.endpoint, timeout_s=30)).ready:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    return time.time() - running.started_at


async def _stream(client: httpx.AsyncClient, running: RunningReplica) -> float:
    """Seconds for one answer of ``_STREAM_TOKENS`` tokens."""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Tell me of the sea"}],
        "stream": True,
        "ignore_eos": True,
        "max_tokens": _STREAM_TOKENS,
    }
    headers = {"authorization": f"Bearer {running.endpoint.engine_key}"}
    url = f"{running.endpoint.base_url}/v1/chat/completions"
    began_s = time.monotonic()
    async with client.stream("POST", url, json=body, headers=headers, timeout=120) as answer:
        async for _ in answer.aiter_raw():
            pass
    return time.monotonic() - began_s


def _processes(state_dir: Path) -> list[psutil.Process]:
    """The simulators among our children."""
    directory = str(state_dir)
    return [
        child
        for child in psutil.Process(os.getpid()).children()
        if child.environ().get("MERIDIAN_REPLICA_DIRECTORY") == directory
    ]


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def _measure(replicas: int, state_dir: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        ProcessRuntime(state_dir=state_dir, engines_dir=state_dir, cache_dir=state_dir) as runtime,
        httpx.AsyncClient(limits=limits) as client,
    ):
        alone = await runtime.start(_spec(0))
        assert isinstance(alone, RunningReplica), alone
        rows.append(("one replica: spawn to first token", f"{await _until_ready(client, alone):.2f} s"))
        began_s = time.monotonic()
        started = [await runtime.start(_spec(number)) for number in range(1, replicas)]
        running = [alone, *(replica for replica in started if isinstance(replica, RunningReplica))]
        await asyncio.gather(*(_until_ready(client, replica) for replica in running))
        rows.append((f"{len(running)} replicas: all ready after", f"{time.monotonic() - began_s:.1f} s"))
        processes = _processes(state_dir)
        resident = [process.memory_info().rss / 2**20 for process in processes]
        own = sum(process.memory_full_info().pss for process in processes) / 2**20
        rows.append(
            (
                "resident memory of one (median, max)",
                f"{statistics.median(resident):.0f}, {max(resident):.0f} MB",
            )
        )
        rows.append(("memory of all, shared pages counted once", f"{own:.0f} MB"))
        before_s = _cpu_s(processes)
        await asyncio.sleep(_IDLE_S)
        rows.append(
            ("CPU of all while idle", f"{(_cpu_s(processes) - before_s) / _IDLE_S * 100:.1f} % of a core")
        )
        before_s = _cpu_s(processes)
        took_s = await asyncio.gather(*(_stream(client, replica) for replica in running))
        ideal_s = _STREAM_TOKENS * 0.05
        rows.append(
            (
                f"a stream of {_STREAM_TOKENS} tokens on each (median; model {ideal_s:.1f} s)",
                f"{statistics.median(took_s):.2f} s",
            )
        )
        rows.append(
            (
                "CPU of one token",
                f"{(_cpu_s(processes) - before_s) / len(running) / _STREAM_TOKENS * 1e6:.0f} µs",
            )
        )
        await asyncio.gather(*(runtime.stop(replica.runtime_ref) for replica in running))
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=100)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        rows = runner.run(_measure(options.replicas, Path(directory).resolve()))
    sys.stdout.write("| measure | value |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
