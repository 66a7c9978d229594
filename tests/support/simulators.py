"""Real simulator processes for tests: started with arguments, ended with the test."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workloadplane.engines.base import EngineEndpoint
from workloadplane.engines.simulator.settings import ENGINE_KEY_VARIABLE

KEY = "key-of-this-replica"


@dataclass
class Simulator:
    """A running simulator."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {KEY}"}

    @property
    def endpoint(self) -> EngineEndpoint:
        return EngineEndpoint(host="127.0.0.1", port=self.port, served_model="chat", engine_key=KEY)


@contextmanager
def simulator(*arguments: str, key: str = KEY) -> Iterator[Simulator]:
    """Start one and wait until it takes requests. ``key``: the engine's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workloadplane.engines.simulator", "--served-model-name", "chat", *arguments],
        env={**os.environ, ENGINE_KEY_VARIABLE: key},
        stdout=subprocess.PIPE,
        # A process that is stopped in a group that nobody leads any more has all of that group hung up by the kernel.
        start_new_session=True,
    )
    try:
        yield Simulator(process, _port(process))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert process.stdout is not None
        process.stdout.close()


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(timeout=20):
            line = process.stdout.readline()
            if not line:
                break
            entry = json.loads(line)
            if entry["event"] == "ready":
                return int(entry["port"])
    raise AssertionError(f"the simulator did not become ready; exit code {process.poll()}")
