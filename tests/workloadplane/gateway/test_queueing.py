"""A full replica is given no more; who waits for it is served in a fair order, in time, or told at once."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    SSE_HEAD,
    Received,
    Running,
    agent,
    agent_state,
    chunk,
    gateway,
    json_answer,
    run,
    upstream,
)
from tests.support.tables import AgentState, api_key, endpoint
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import EndpointSet, LoadReport
from workloadplane.protocol.routing import RateLimits
from workloadplane.protocol.statefile import write_state

URL = "/v1/chat/completions"


class Seats:
    """An engine whose requests end when the test says so, each by its body's ``user``."""

    def __init__(self) -> None:
        self.at_work: dict[str, asyncio.Event] = {}
        self.order: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.began_s: dict[str, float] = {}

    async def script(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name = json.loads(received.body)["user"]
        self.order.append(name)
        self.bodies[name] = received.body
        self.began_s[name] = time.monotonic()
        self.at_work[name] = asyncio.Event()
        await self.at_work[name].wait()
        del self.at_work[name]
        usage = {"prompt_tokens": 10, "completion_tokens": 10}
        writer.write(json_answer(json.dumps({"usage": usage}).encode()))

    async def end(self, name: str, *, taking_s: float = 0.0) -> None:
        """Answer it, once it is at work and has been so for as long as it shall be seen to take."""

        def due() -> bool:
            return name in self.at_work and time.monotonic() - self.began_s[name] >= taking_s

        await eventually_async(due, what=f"{name} at work for {taking_s} s")
        self.at_work[name].set()


def seats_for(port: int, max_in_flight: int, generation: int = 1) -> EndpointSet:
    return EndpointSet(
        endpoint_generation=generation, endpoints=(endpoint(port, max_in_flight=max_in_flight),)
    )


def chat(name: str, **more: object) -> dict[str, object]:
    return {"model": "chat", "messages": [], "user": name, **more}


def waiting(running: Running) -> int:
    return len(running.process._context.room)


@contextlib.asynccontextmanager
async def full_gateway(
    tmp_path: Path, state: AgentState, seats: Seats, **limits: Any
) -> AsyncIterator[Running]:
    """A gateway in front of one engine that computes one request at a time."""
    async with upstream(seats.script) as engine:
        write_state(state.directory / "endpoints.json", msgspec.json.encode(seats_for(engine.port, 1)))
        async with gateway(tmp_path / "gateway", state, **limits) as running:
            yield running


async def ask(
    running: Running, name: str, headers: dict[str, str] | None = None, **more: object
) -> "asyncio.Task[httpx.Response]":
    """Send a request and wait until the gateway has taken it in or answered it."""

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED, timeout=20) as client:
            return await client.post(URL, json=chat(name, **more), headers=headers)

    context = running.process._context
    before = context.requests_met
    task = asyncio.create_task(send())
    await eventually_async(lambda: context.requests_met > before, what=f"{name} at the gateway")
    return task


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

            def has_met(requests: int) -> bool:
                return len(seats.order) + waiting(running) == requests

            for number in range(5):
                asked.append(asyncio.create_task(client.post(URL, json=chat(str(number)))))
                await eventually_async(partial(has_met, number + 1))
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
            assert sum(record.queue_s > 0.001 for record in records) >= 3

    run(scenario())


def test_what_a_stopping_replica_refuses_waits_for_a_seat_elsewhere(tmp_path: Path) -> None:
    """The others are full: that one replica is shutting down is nobody's answer."""

    async def scenario() -> None:
        seats, refused = Seats(), []

        async def stops(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            refused.append(received)
            writer.write(json_answer(b'{"error":{}}', "503 Service Unavailable"))

        state = agent_state(tmp_path / "agent")
        async with (
            upstream(seats.script) as engine,
            upstream(stops) as ends,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
        ):

            async def holds(told: EndpointSet) -> None:
                plane.push(told)
                generation = told.endpoint_generation
                await plane.hears(lambda m: getattr(m, "generation", 0) == generation, "acknowledgement")

            await plane.hears(lambda m: isinstance(m, LoadReport), "the gateway")
            await holds(seats_for(engine.port, 1, generation=2))
            first = await ask(running, "first")
            await eventually_async(lambda: seats.order == ["first"])
            both = (
                endpoint(engine.port, max_in_flight=1),
                endpoint(ends.port, replica_id="r-2", max_in_flight=1),
            )
            await holds(EndpointSet(endpoint_generation=3, endpoints=both))
            second = await ask(running, "second")
            await eventually_async(lambda: len(refused) == 1 and waiting(running) == 1)
            await holds(seats_for(engine.port, 1, generation=4))
            await seats.end("first")
            await seats.end("second")
            assert [(await each).status_code for each in (first, second)] == [200, 200]
            assert len(refused) == 1

    run(scenario())


def test_who_asks_once_does_not_wait_behind_who_asks_always(tmp_path: Path) -> None:
    """Ten requests of one key wait; the first of another key is the next to be served."""

    async def scenario() -> None:
        seats = Seats()
        keys = [api_key(SECRET), api_key("sk-other", api_key_id="key-2")]
        state = agent_state(tmp_path / "agent", keys=keys)
        async with full_gateway(tmp_path, state, seats) as running:
            greedy = [await ask(running, f"greedy {n}") for n in range(11)]
            modest = await ask(running, "modest", headers={"authorization": "Bearer sk-other"})
            await seats.end("greedy 0")
            await eventually_async(lambda: len(seats.order) == 2)
            assert seats.order[1] == "modest"
            await seats.end("modest")
            began_s = time.monotonic()
            for number in range(1, 11):
                await seats.end(f"greedy {number}")
            assert time.monotonic() - began_s < 6, "each end lets the next in at once, not at the next tick"
            assert {response.status_code for response in await asyncio.gather(modest, *greedy)} == {200}
            assert seats.order[2:] == [f"greedy {number}" for number in range(1, 11)]

    run(scenario())


def test_low_priority_waits_longer_and_makes_room_first(tmp_path: Path) -> None:
    """By header, service tier or vLLM's number, as far as the key may; the engine is told of none of it."""

    async def scenario() -> None:
        seats = Seats()
        keys = [
            api_key(SECRET, max_priority="high"),
            api_key("sk-plain", api_key_id="key-2", max_priority="normal"),
        ]
        state = agent_state(tmp_path / "agent", keys=keys)
        async with full_gateway(tmp_path, state, seats, hold_requests_max=4) as running:
            await ask(running, "first")
            await ask(running, "low", service_tier="flex")
            displaced = await ask(running, "lowest", priority=3)
            await ask(running, "normal")
            plain = {"authorization": "Bearer sk-plain", "x-meridian-priority": "high"}
            await ask(running, "capped", headers=plain)
            urgent = await ask(running, "high", priority=-1)
            told = await displaced
            assert (told.status_code, told.json()["error"]["code"]) == (429, "queue_full")
            assert int(told.headers["retry-after"]) >= 1
            for name in ("first", "high"):
                await seats.end(name)
            assert json.loads(seats.bodies["high"])["priority"] == 0
            for name in ("capped", "normal", "low"):
                await seats.end(name)
            assert (await urgent).status_code == 200
            assert seats.order[:2] == ["first", "high"]
            assert set(seats.order[2:4]) == {"normal", "capped"}
            assert seats.order[4:] == ["low"]

    run(scenario())


def test_a_deadline_that_cannot_be_met_is_refused_at_once(tmp_path: Path) -> None:
    """By what is measured; with an honest time to come again. One that passes in the queue ends there."""

    async def scenario() -> None:
        seats = Seats()
        async with full_gateway(tmp_path, agent_state(tmp_path / "agent"), seats) as running:
            measured = await ask(running, "measured")
            await seats.end("measured", taking_s=1.0)
            await measured
            await ask(running, "at work")
            patient = await ask(running, "patient")
            hasty = await ask(running, "hasty", headers={"x-meridian-deadline-ms": "300"})
            told = await hasty
            assert (told.status_code, told.json()["error"]["code"]) == (429, "deadline")
            assert 1 <= int(told.headers["retry-after"]) <= 4
            late = await ask(running, "late", headers={"x-meridian-deadline-ms": "4500"})
            wrong = await ask(running, "wrong", headers={"x-meridian-deadline-ms": "soon"})
            assert (await wrong).json()["error"]["param"] == "x-meridian-deadline-ms"
            ended = await late
            assert (ended.status_code, ended.json()["error"]["code"]) == (504, "deadline")
            for name in ("at work", "patient"):
                await seats.end(name)
            assert (await patient).status_code == 200
            assert "late" not in seats.order

    run(scenario())


def test_a_gateway_that_was_replaced_refuses_at_once_too(tmp_path: Path) -> None:
    """It goes by what the one before it had measured, before it has answered anything itself."""

    async def scenario() -> None:
        seats, state = Seats(), agent_state(tmp_path / "agent")
        async with full_gateway(tmp_path, state, seats) as running:
            measured = await ask(running, "measured")
            await seats.end("measured", taking_s=1.0)
            await measured
        async with full_gateway(tmp_path, state, seats) as running:
            await ask(running, "at work")
            told = await (await ask(running, "hasty", headers={"x-meridian-deadline-ms": "300"}))
            assert (told.status_code, told.json()["error"]["code"]) == (429, "deadline")
            assert 1 <= int(told.headers["retry-after"]) <= 4
            assert "hasty" not in seats.order
            await seats.end("at work")

    run(scenario())


def test_limits_of_a_key_as_openais_client_sees_them(tmp_path: Path) -> None:
    """Headers on every answer, 429 with OpenAI's body and the time to come again, corrected by what was used."""

    async def scenario() -> None:
        seats = Seats()
        limits = RateLimits(requests_per_minute=3, tokens_per_minute=1000, concurrent_requests=1)
        state = agent_state(tmp_path / "agent", keys=[api_key(SECRET, limits=limits)])
        async with (
            full_gateway(tmp_path, state, seats) as running,
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=SECRET, max_retries=0) as client,
        ):

            async def create(name: str) -> Any:
                return await client.chat.completions.with_raw_response.create(
                    model="chat", messages=[], user=name, max_tokens=50
                )

            first = asyncio.create_task(create("first"))
            await eventually_async(lambda: "first" in seats.at_work)
            with pytest.raises(openai.RateLimitError) as at_once:
                await create("second")
            assert at_once.value.code == "rate_limit_exceeded"
            await seats.end("first")
            headers = (await first).headers
            assert headers["x-ratelimit-limit-requests"] == "3"
            assert headers["x-ratelimit-remaining-requests"] == "2"
            assert headers["x-ratelimit-reset-requests"] == "20s"
            assert 800 < int(headers["x-ratelimit-remaining-tokens"]) < 1000
            for number in range(2):
                again = asyncio.create_task(create(f"again {number}"))
                await seats.end(f"again {number}")
                headers = (await again).headers
            assert int(headers["x-ratelimit-remaining-tokens"]) > 850, "20 each were used, not 50"
            with pytest.raises(openai.RateLimitError) as refused:
                await create("fourth")
            error = refused.value
            assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
            assert 1 <= int(error.response.headers["retry-after"]) <= 20
            assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
            assert error.response.headers["x-should-retry"] == "true"
            assert "x-request-id" in error.response.headers

    run(scenario())


def test_a_client_that_waits_for_a_start_hears_comments_and_loses_nothing(tmp_path: Path) -> None:
    """Scaled to zero: OpenAI's client streams through the wait, no empty event; nothing early for others."""

    async def scenario() -> None:
        event = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}]}'
        state = agent_state(tmp_path / "agent")

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if json.loads(received.body).get("stream"):
                writer.write(SSE_HEAD + chunk(event + b"\n\n") + chunk(b"data: [DONE]\n\n") + chunk(b""))
            else:
                writer.write(json_answer(b'{"object":"chat.completion","choices":[]}'))

        async with (
            upstream(script) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, hold_comment_interval_s=0.1) as running,
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=SECRET, max_retries=0) as client,
        ):
            streams = [
                await client.chat.completions.create(model="chat", messages=[], stream=True) for _ in range(3)
            ]
            plain = asyncio.create_task(client.chat.completions.create(model="chat", messages=[]))
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting == 4 for d in m.deployments), "waiters"
            )
            plane.push(seats_for(engine.port, 2, generation=2))
            for stream in streams:
                chunks = [each async for each in stream]
                assert [each.choices[0].delta.content for each in chunks] == ["hi"]
            assert (await plain).object == "chat.completion"

    run(scenario())


def test_one_whose_client_leaves_makes_room_for_the_next(tmp_path: Path) -> None:
    """Nobody is served who has gone; the memory of their bodies is free."""

    async def scenario() -> None:
        seats = Seats()
        async with full_gateway(tmp_path, agent_state(tmp_path / "agent"), seats) as running:
            await ask(running, "at work")
            gone = await ask(running, "gone")
            stays = await ask(running, "stays")
            gone.cancel()
            await eventually_async(lambda: waiting(running) == 1)
            await seats.end("at work")
            await seats.end("stays")
            assert (await stays).status_code == 200
            assert seats.order == ["at work", "stays"]
            assert running.process._context.room.size_bytes == 0

    run(scenario())
