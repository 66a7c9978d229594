"""A gateway with a simulated engine behind it, beside the test: clients here are other people's programs."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from tests.support.gateway import SECRET, Running, agent_state, gateway
from tests.support.simulators import simulator
from tests.support.waiting import eventually
from workloadplane.protocol.usage import UsageRecord


@dataclass
class Served:
    """What a client needs to know, and what the gateway has written down of it."""

    running: Running
    key: str = SECRET
    model: str = "chat"

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def v1(self) -> str:
        return self.running.url + "/v1"

    def usage_of(self, request_id: str | None) -> UsageRecord:
        """What was written down of a request."""

        def found() -> list[UsageRecord]:
            return [record for record in self.running.usage() if record.request_id == request_id]

        return eventually(found, what=f"a usage record of {request_id}")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests of a module. The gateway has an event loop and a thread of its own."""
    directory = tmp_path_factory.mktemp("served")
    made: list[Running] = []
    stop = threading.Event()
    with simulator("--decode-step-s=0.002", key="engine-secret") as engine:
        thread = threading.Thread(target=uvloop.run, args=(_serve(directory, engine.port, made, stop),))
        thread.start()
        try:
            yield Served(eventually(lambda: made, what="the gateway")[0])
        finally:
            stop.set()
            thread.join(timeout=20)


async def _serve(directory: Path, port: int, made: list[Running], stop: threading.Event) -> None:
    state = agent_state(directory / "agent", port)
    async with gateway(directory / "gateway", state) as running:
        made.append(running)
        await asyncio.to_thread(stop.wait)
