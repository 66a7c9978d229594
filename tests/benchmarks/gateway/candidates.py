"""What is measured: this gateway and its peers, each started as its own operator would, on one core."""

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.gateway import peers
from tests.support.gateway import SECRET, agent_state
from workloadplane.engines.simulator.settings import ENGINE_KEY_VARIABLE

ENGINE_KEY = "engine-secret"  # the one that the tests' tables name
MERIDIAN = "meridian"
#: Those that a goal is measured against: the peers as their users run them, with the cache-aware policy.
CACHE_AWARE = ("vllm-router cache-aware", "sglang-router cache-aware")
ROUND_ROBIN = ("vllm-router round-robin", "sglang-router round-robin")
PEERS = (*CACHE_AWARE, *ROUND_ROBIN)
_STARTS_WITHIN_S = 90.0
_PROBE = b'{"model":"chat","max_tokens":1,"stream":true,"messages":[{"role":"user","content":"ready?"}]}'


@dataclass(frozen=True)
class Cores:
    """The gateway's core, and those of load and upstream."""

    gateway: frozenset[int]
    others: frozenset[int]


def cores() -> Cores:
    """The first core for the gateway; all others for what surrounds it."""
    have = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(have[:1]), frozenset(have[1:] or have))


@dataclass
class Candidate:
    """One that runs. ``key``: what a client must say to it."""

    name: str
    port: int
    key: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor seconds so far, of all its processes."""
        return sum(t.user + t.system for t in (each.cpu_times() for each in self._processes()))

    def rss_mb(self) -> float:
        return sum(each.memory_info().rss for each in self._processes()) / 1e6

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def spawn(
    command: Sequence[str],
    on: frozenset[int],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """A program of ours or theirs, kept to these cores from its first moment: what they inherit from us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environment = {**os.environ, ENGINE_KEY_VARIABLE: ENGINE_KEY}
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, on)
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
    finally:
        os.sched_setaffinity(0, own)


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Ends it after the block, whatever happens."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def told(stream: int, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """The first line of JSON that is wanted, read unbuffered so that nothing more is taken."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(timeout=_STARTS_WITHIN_S):
            byte = os.read(stream, 1)
            if not byte:
                break
            line += byte
            if byte == b"\n":
                with contextlib.suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict) and wanted(found):
                        return found
                line = b""
    raise RuntimeError(f"the program did not say that it serves; its last words: {line!r}")


@contextlib.contextmanager
def candidate(name: str, upstream_ports: Sequence[int], on: frozenset[int]) -> Iterator[Candidate]:
    """Start one and wait until a request through it is answered."""
    start = _meridian if name == MERIDIAN else _peer
    with start(name, upstream_ports, on) as made:
        _wait_until_it_serves(made)
        yield made


@contextlib.contextmanager
def _meridian(name: str, upstream_ports: Sequence[int], on: frozenset[int]) -> Iterator[Candidate]:
    """Everything on: keys, routing, queue, usage, windows, metrics, and the access log."""
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as directory:
        state = agent_state(Path(directory) / "agent", *upstream_ports)
        command = (
            sys.executable,
            "-m",
            "workloadplane.gateway",
            "--agent-state-dir",
            str(state.directory),
            "--state-dir",
            str(Path(directory) / "gateway"),
            "--port",
            "0",
            "--drain-timeout-s",
            "1",
        )
        process = spawn(command, on, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with running(process):
            assert process.stderr is not None
            port = told(process.stderr.fileno(), lambda line: "port" in line)["port"]
            assert isinstance(port, int)
            yield Candidate(name, port, SECRET, psutil.Process(process.pid))


@contextlib.contextmanager
def _peer(name: str, upstream_ports: Sequence[int], on: frozenset[int]) -> Iterator[Candidate]:
    router, policy = name.split(" ")
    port, metrics_port = _free_port(), _free_port()
    command = [
        str(peers.python()),
        "-m",
        f"{router.replace('-', '_')}.launch_router",
        "--worker-urls",
        *(f"http://127.0.0.1:{each}" for each in upstream_ports),
        "--policy",
        policy.replace("-", "_"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--prometheus-host",
        "127.0.0.1",
        "--prometheus-port",
        str(metrics_port),
        "--log-level",
        "error",
        "--worker-startup-check-interval",
        "1",
    ]
    process = spawn(command, on, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with running(process):
        yield Candidate(name, port, ENGINE_KEY, psutil.Process(process.pid))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_it_serves(made: Candidate) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    ) % (made.key.encode(), len(_PROBE))
    deadline_s = time.monotonic() + _STARTS_WITHIN_S
    last = b""
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port), 5) as client:
            client.settimeout(5)
            client.sendall(head + _PROBE)
            last = client.recv(4096)
            if last.startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.2)
    raise RuntimeError(f"{made.name} did not serve within {_STARTS_WITHIN_S:.0f} s; it said {last!r}")
