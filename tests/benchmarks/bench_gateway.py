"""What the gateway adds to a request, and how many it carries on one core.

    python -m tests.benchmarks.bench_gateway [--seconds 3] [--runs 5]

The gateway runs with everything on (keys, routing, usage, windows, metrics, access log) on a core of its own;
load and upstream share the other cores. Each figure is the median of the runs, direct and through the gateway
in turn, so that a busy machine touches both alike; ``CPU µs`` is what the gateway's process spent a request.

Two upstreams: ``canned`` answers at once with fixed bytes, so that it shows the gateway's own cost and limit;
``simulator`` is the simulated engine, one step a millisecond, so that it shows what a client would notice.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from tests.support.gateway import SECRET, SSE_HEAD, agent_state, chunk, json_answer

ENGINE_KEY = "engine-secret"  # the one that the tests' tables name
PROMPT = "word " * 200
TOKENS = 64
_SMALL = json.dumps(
    {
        "choices": [{"message": {"content": "x" * 200}}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 8},
    }
).encode()
_EVENT = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "word"}}]}).encode() + b"\n\n"


@dataclass
class Sample:
    """One run's answers. Times in seconds."""

    durations_s: list[float] = field(default_factory=list)
    gateway_cpu_s: float = 0.0
    first_bytes_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def requests_per_s(self) -> float:
        return len(self.durations_s) / self.elapsed_s


def quantile_ms(values_s: list[float], share: float) -> float:
    return sorted(values_s)[min(int(len(values_s) * share), len(values_s) - 1)] * 1000


class LoadConnection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is complete."""

    def __init__(self, request: bytes, sample: Sample, until_s: float, done: asyncio.Future[None]) -> None:
        self._request = request
        self._sample = sample
        self._until_s = until_s
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._expected = 0
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_s = time.perf_counter()
        if self._sent_s >= self._until_s:
            self._transport.close()
            return
        self._received = b""
        self._expected = 0
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._sample.first_bytes_s.append(time.perf_counter() - self._sent_s)
            self._received = data
        else:
            self._received += data
        if self._complete():
            self._sample.durations_s.append(time.perf_counter() - self._sent_s)
            self._send()

    def _complete(self) -> bool:
        received = self._received
        if not self._expected:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return False
            if not received.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(received[:500])
            head = received[:end].lower()
            place = head.find(b"content-length: ")
            self._expected = -1
            if place >= 0:
                self._expected = end + 4 + int(head[place + 16 :].split(b"\r\n", 1)[0])
        return received.endswith(b"0\r\n\r\n") if self._expected < 0 else len(received) >= self._expected

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def load(port: int, request: bytes, connections: int, seconds: float) -> Sample:
    """A closed loop of ``connections`` for ``seconds``."""
    loop = asyncio.get_running_loop()
    sample = Sample()
    started_s = time.perf_counter()
    waiting = [loop.create_future() for _ in range(connections)]
    for done in waiting:
        await loop.create_connection(
            lambda done=done: LoadConnection(request, sample, started_s + seconds, done),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*waiting)
    sample.elapsed_s = time.perf_counter() - started_s
    return sample


class Canned(asyncio.Protocol):
    """Answers each request at once; a request's end is known by its length, which is always the same."""

    def __init__(self, requests: dict[bytes, bytes]) -> None:
        self._requests = requests
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        if self._buffer.endswith(b"}"):
            stream = b'"stream":true' in self._buffer or b'"stream": true' in self._buffer
            self._buffer = b""
            self._transport.write(self._requests[b"stream" if stream else b"small"])


async def serve_canned() -> None:
    loop = asyncio.get_running_loop()
    stream = (
        SSE_HEAD + b"".join(chunk(_EVENT) for _ in range(TOKENS)) + chunk(b"data: [DONE]\n\n") + chunk(b"")
    )
    answers = {b"small": json_answer(_SMALL), b"stream": stream}
    server = await loop.create_server(lambda: Canned(answers), "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def program(
    *command: str, cores: set[int], stderr: bool = False
) -> AsyncIterator[tuple[int, psutil.Process]]:
    """A program that says its port in a line of JSON, kept to these cores."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        stdout=subprocess.DEVNULL if stderr else subprocess.PIPE,
        stderr=subprocess.PIPE if stderr else None,
        env={**os.environ, "MERIDIAN_ENGINE_KEY": ENGINE_KEY},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    output = process.stderr if stderr else process.stdout
    assert output is not None
    try:
        while line := await output.readline():
            told = json.loads(line)
            if "port" in told:
                break
        yield told["port"], psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


def request_bytes(authorization: str, *, stream: bool, max_tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": "chat",
            "max_tokens": max_tokens,
            "stream": stream,
            "messages": [{"role": "user", "content": PROMPT}],
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"user-agent: bench\r\nauthorization: Bearer {authorization}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def compare(
    name: str,
    ports: tuple[int, int],
    gateway: psutil.Process,
    options: argparse.Namespace,
    *,
    stream: bool,
    connections: int,
) -> None:
    """One row of the table."""
    tokens = TOKENS if stream else 8
    runs: dict[str, list[Sample]] = {"direct": [], "gateway": []}
    for _ in range(options.runs):
        for side, port, key in zip(runs, ports, (ENGINE_KEY, SECRET), strict=True):
            request = request_bytes(key, stream=stream, max_tokens=tokens)
            before = gateway.cpu_times()
            sample = await load(port, request, connections, options.seconds)
            after = gateway.cpu_times()
            sample.gateway_cpu_s = after.user + after.system - before.user - before.system
            runs[side].append(sample)

    def median(side: str, figure: str) -> float:
        return statistics.median(
            {
                "rate": sample.requests_per_s(),
                "cpu": sample.gateway_cpu_s / len(sample.durations_s) * 1e6,
                "p50": quantile_ms(sample.durations_s, 0.5),
                "p99": quantile_ms(sample.durations_s, 0.99),
                "first50": quantile_ms(sample.first_bytes_s, 0.5),
                "first99": quantile_ms(sample.first_bytes_s, 0.99),
            }[figure]
            for sample in runs[side]
        )

    cells = [name, f"stream of {TOKENS}" if stream else "small POST", str(connections)]
    cells += [f"{median(side, 'rate'):,.0f}" for side in runs]
    cells.append(f"{median('gateway', 'rate') / median('direct', 'rate'):.2f}")
    cells.append(f"{median('gateway', 'cpu'):.0f}")
    for figure in ("p50", "p99", "first50", "first99"):
        cells.append(f"{median('direct', figure):.2f} → {median('gateway', figure):.2f}")
    sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.flush()


async def measure(options: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0))
    own, others = {cores[0]}, set(cores[1:]) or {cores[0]}
    os.sched_setaffinity(0, others)
    canned = ("tests.benchmarks.bench_gateway", "--serve-canned")
    simulator = ("workloadplane.engines.simulator", "--served-model-name", "chat", "--decode-step-s", "0.001",
                 "--decode-step-per-sequence-s", "0", "--prefill-tokens-per-s", "1000000")  # fmt: skip
    sys.stdout.write(
        "| upstream | request | connections | req/s direct | req/s gateway | ratio | CPU µs"
        " | p50 ms | p99 ms | first byte p50 ms | first byte p99 ms |\n|" + "---|" * 11 + "\n"
    )
    for name, command in (("canned", canned), ("simulator", simulator)):
        with tempfile.TemporaryDirectory() as directory:
            async with program(*command, cores=others) as (direct, _):
                state = agent_state(Path(directory) / "agent", direct)
                gateway = ("workloadplane.gateway", "--agent-state-dir", str(state.directory), "--state-dir",
                           str(Path(directory) / "gateway"), "--port", "0")  # fmt: skip
                async with program(*gateway, cores=own, stderr=True) as (through, process):
                    for stream in (False, True):
                        for connections in (1, 32):
                            await compare(
                                name,
                                (direct, through),
                                process,
                                options,
                                stream=stream,
                                connections=connections,
                            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is told")
    parser.add_argument("--serve-canned", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    uvloop.run(serve_canned() if options.serve_canned else measure(options))


if __name__ == "__main__":
    main()
