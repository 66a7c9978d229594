"""A full replica is given no more; who waits for it is served in a fair order, in time, or told at once."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.support.gateway import (
    AUTHORIZED,
    Received,
    Running,
    agent,
    agent_state,
    gateway,
    json_answer,
    run,
    upstream,
)
from tests.support.tables import endpoint
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import EndpointSet, LoadReport

URL = "/v1/chat/completions"


class Seats:
    """An engine whose requests end when the test says so, each by its body's ``user``."""

    def __init__(self) -> None:
        self.at_work: dict[str, asyncio.Event] = {}
        self.order: list[str] = []

    async def script(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name = json.loads(received.body)["user"]
        self.order.append(name)
        self.at_work[name] = asyncio.Event()
        await self.at_work[name].wait()
        del self.at_work[name]
        usage = {"prompt_tokens": 10, "completion_tokens": 10}
        writer.write(json_answer(json.dumps({"usage": usage}).encode()))

    async def end(self, name: str) -> None:
        await eventually_async(lambda: name in self.at_work, what=f"{name} at work")
        self.at_work[name].set()


def seats_for(port: int, max_in_flight: int, generation: int = 1) -> EndpointSet:
    return EndpointSet(
        endpoint_generation=generation, endpoints=(endpoint(port, max_in_flight=max_in_flight),)
    )


def chat(name: str, **more: object) -> dict[str, object]:
    return {"model": "chat", "messages": [], "user": name, **more}


def waiting(running: Running) -> int:
    return len(running.process._context.room)


def test_a_full_replica_gets_the_next_request_when_one_has_ended(tmp_path: Path) -> None:
    """Never more than it computes side by side; the agent hears of those that wait; each end lets one in."""

    async def scenario() -> None:
        seats = Seats()
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(seats.script) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            await plane.hears(lambda m: isinstance(m, LoadReport), "the gateway")
            plane.push(seats_for(engine.port, 2, generation=2))
            await plane.hears(lambda m: getattr(m, "generation", 0) == 2, "acknowledgement")
            asked = []
            for number in range(5):
                asked.append(asyncio.create_task(client.post(URL, json=chat(str(number)))))
                await eventually_async(lambda n=number: len(seats.order) + waiting(running) == n + 1)
            assert seats.order == ["0", "1"]
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting == 3 for d in m.deployments),
                "three waiting requests",
            )
            await seats.end("1")
            await eventually_async(lambda: seats.order == ["0", "1", "2"])
            assert waiting(running) == 2
            for name in ("0", "2", "3", "4"):
                await seats.end(name)
            assert [(await each).status_code for each in asked] == [200] * 5
            assert seats.order == ["0", "1", "2", "3", "4"]
            records = await running.usage_of(5)
            assert sorted(record.queue_s > 0.001 for record in records) == [False] * 2 + [True] * 3

    run(scenario())
