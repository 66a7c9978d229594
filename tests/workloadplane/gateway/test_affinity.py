"""Conversations return to the replica that has them in its cache, until that replica is busy."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import httpx

from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    Running,
    agent,
    agent_state,
    chunk,
    endpoints,
    gateway,
    json_answer,
    run,
    upstream,
)
from tests.support.waiting import eventually_async
from workloadplane.gateway.affinity import Affinity
from workloadplane.gateway.body import InferenceBody, parse
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.local import EngineLoad, EngineLoads

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


def conversation(name: str, turns: int) -> dict[str, object]:
    messages = [
        {"role": role, "content": f"{name} {role} {turn} " * 40}
        for turn in range(turns)
        for role in ("user", "assistant")
    ]
    return {"model": "chat", "messages": messages}


async def served_by(client: httpx.AsyncClient, running: Running, body: object, path: str) -> str:
    response = await client.post(running.url + path, json=body, headers=AUTHORIZED)
    assert response.status_code == 200
    return response.headers["x-meridian-replica"]


def test_every_conversation_returns_to_its_replica_and_they_spread(tmp_path: Path) -> None:
    """Of thirty conversations each meets one replica at every turn, on every route that has a prompt, and the
    replicas have about as many each.
    """

    async def answer(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER))

    def asked(name: str, turns: int, path: str) -> dict[str, object]:
        body = conversation(name, turns)
        if path == "/v1/completions":
            return {"model": "chat", "prompt": json.dumps(body["messages"])[:-1]}
        if path == "/v1/responses":
            return {"model": "chat", "input": body["messages"], "store": False}
        return body

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(answer)) for _ in range(3)]
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient())
            paths = ("/v1/chat/completions", "/v1/messages", "/v1/completions", "/v1/responses")
            homes: dict[str, str] = {}
            for turns in (1, 2, 5):
                for number in range(30):
                    path = paths[number % len(paths)]
                    name = f"talk-{number}"
                    home = await served_by(client, running, asked(name, turns, path), path)
                    assert homes.setdefault(name, home) == home
            counts = [list(homes.values()).count(home) for home in set(homes.values())]
            assert len(counts) == 3
            assert min(counts) >= 8

    run(scenario())


def test_load_beats_affinity(tmp_path: Path) -> None:
    """While the replica that knows the prompt is busy, another one takes it, and then both know it."""
    release = asyncio.Event()

    async def slow(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"hold" in received.body:
            await release.wait()
        writer.write(json_answer(ANSWER))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(slow)) for _ in range(2)]
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
            path = "/v1/chat/completions"
            home = await served_by(client, running, conversation("warm", 3), path)
            held = [
                asyncio.create_task(
                    served_by(client, running, {**conversation("warm", 3), "user": f"hold {number}"}, path)
                )
                for number in range(12)
            ]
            await eventually_async(lambda: sum(len(e.received) for e in engines) == 13, what="all arrived")
            release.set()
            by = [await task for task in held]
            assert by.count(home) <= 8, "the one that knew it first took not all of it"
            assert by.count(home) >= 4

    run(scenario())


def test_a_prompt_weighs_until_its_first_data_comes(tmp_path: Path) -> None:
    """An engine sends a stream's head before it has computed anything: only what follows ends the wait."""
    computed = asyncio.Event()

    async def answer(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        await computed.wait()
        writer.write(chunk(b"data: {}\n\n") + chunk(b"data: [DONE]\n\n") + chunk(b""))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(answer)) for _ in range(2)]
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient())
            burden = running.process._context.registry.burden
            url = running.url + "/v1/chat/completions"
            body = {**conversation("s", 3), "stream": True}
            async with client.stream("POST", url, json=body, headers=AUTHORIZED) as response:
                assert response.status_code == 200  # the head is here, and the prompt still waits
                assert burden
                computed.set()
                await response.aread()
            assert not burden

    run(scenario())


def test_what_engines_report_of_others_load_counts_while_it_is_fresh(tmp_path: Path) -> None:
    """A replica that other gateways keep busy is avoided; an old word of it is no word."""

    async def answer(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(answer)) for _ in range(2)]
            ports = [engine.port for engine in engines]
            state = agent_state(tmp_path / "agent", *ports)
            told = await stack.enter_async_context(agent(state.directory))
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient())
            await eventually_async(lambda: told.writers, what="the gateway at the agent's socket")
            pressure = running.process._context.registry.pressure

            def push(replica_id: str, age_s: float, kv_cache_usage: float = 0.1) -> None:
                load = EngineLoad(
                    replica_id=replica_id,
                    at_monotonic_s=monotonic() - age_s,
                    running=6,
                    waiting=2,
                    kv_cache_usage=kv_cache_usage,
                )
                told.push(EngineLoads(loads=(load,)))

            push("replica-2", age_s=60)
            push("replica-1", age_s=0)
            await eventually_async(lambda: pressure.get("replica-1") == 1.0, what="pressure on replica-1")
            assert "replica-2" not in pressure
            path = "/v1/chat/completions"
            by = {await served_by(client, running, conversation(f"c{n}", 1), path) for n in range(20)}
            assert by == {"replica-2"}
            push("replica-1", age_s=0, kv_cache_usage=0.95)
            await eventually_async(lambda: pressure.get("replica-1", 0) > 1.4, what="a full cache counts too")
            told.push(endpoints(2, *ports))
            running.process._context.affinity.sweep(monotonic() + 10)
            assert not pressure

    run(scenario())


def test_a_cache_that_was_lost_is_not_believed(tmp_path: Path) -> None:
    """When an engine says that its cache is gone, or has turned over, its conversations may go anywhere."""

    async def answer(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(ANSWER))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(upstream(answer)) for _ in range(2)]
            state = agent_state(tmp_path / "agent", *(engine.port for engine in engines))
            told = await stack.enter_async_context(agent(state.directory))
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient())
            await eventually_async(lambda: told.writers, what="the gateway at the agent's socket")
            path = "/v1/chat/completions"
            affinity = running.process._context.affinity

            def push(stored: int, clears: int) -> None:
                told.push(
                    EngineLoads(
                        loads=tuple(
                            EngineLoad(
                                replica_id=f"replica-{number}",
                                at_monotonic_s=monotonic(),
                                running=0,
                                waiting=0,
                                kv_capacity_tokens=10_000,
                                kv_stored_tokens_total=stored,
                                kv_clears=clears,
                            )
                            for number in (1, 2)
                        )
                    )
                )

            push(0, 0)
            await served_by(client, running, conversation("x", 3), path)
            assert affinity.blocks > 0
            push(0, 1)
            await eventually_async(lambda: affinity.blocks == 0, what="the cleared cache forgotten")
            await served_by(client, running, conversation("x", 3), path)
            push(4_000, 1)
            push(8_000, 1)
            await asyncio.sleep(0)
            push(14_000, 1)
            await eventually_async(lambda: affinity.blocks == 0, what="the turned cache forgotten")

    run(scenario())


def test_a_body_lets_go_of_its_bytes() -> None:
    """Once the prompt is hashed nothing of it is kept: neither text nor the buffer that it came in."""
    body = parse(json.dumps(conversation("x", 4)).encode())
    assert isinstance(body, InferenceBody)
    affinity = Affinity(Registry(), secret=1)
    prompt = affinity.prompt_of(body, "project", adapter=None)
    assert prompt.size_bytes > 1000
    assert len(prompt.hashes) == prompt.size_bytes // 256
    assert bytes(body.messages) == b""


def test_salts_and_projects_keep_prompts_apart() -> None:
    """The same words under another salt, project or adapter have no block in common; with a picture they say so."""
    affinity = Affinity(Registry(), secret=1)

    def blocks(project: str, adapter: str | None = None, **more: object) -> set[int]:
        body = parse(json.dumps({**conversation("x", 4), **more}).encode())
        assert isinstance(body, InferenceBody)
        return set(affinity.prompt_of(body, project, adapter).hashes)

    plain = blocks("a")
    assert plain == blocks("a", temperature=1)
    for other in (
        blocks("b"),
        blocks("a", "lora"),
        blocks("a", cache_salt="s"),
        blocks("a", tools=[{"a": 1}]),
    ):
        assert other
        assert not plain & other
    parts = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]}]
    seen = parse(json.dumps({"model": "m", "messages": parts}).encode())
    assert isinstance(seen, InferenceBody)
    assert affinity.prompt_of(seen, "a", None).modalities == {"text", "image"}
