"""Every fault that a replica can have, once with real vLLM. Slow: three starts of an engine.

What a stream that is cut is and one whose engine is killed in the middle tells ``test_resume_for_real``. Here
engines hang, refuse, lose the process that computes, or die when nothing or not all can be saved.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.examples import LONG
from tests.support.far_away import far_away
from tests.support.gateway import AUTHORIZED, Running, agent_state, endpoints, gateway
from tests.support.real_vllm import IS_MISSING, Engines, freeze, kill_core, speak_vllm, thaw
from tests.support.waiting import eventually_async
from tests.workloadplane.engines.breaking_streams import PATHS, Told, ask, body, is_unbroken
from tests.workloadplane.gateway.test_peering import World, everywhere
from workloadplane.engines.vllm import ENGINE
from workloadplane.runtimes.base import RunningReplica

PROMPT = "Tell me a short story about the sea, please."
LONG_TOKENS = 400
BREAK_AFTER = 10
SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(IS_MISSING or not LONG, reason="make test-long breaks real engines")
def test_every_fault_of_a_replica_ends_well(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """What can go on does, as if nothing had happened; what can't says so; nothing waits for ever."""
    assert pytestconfig.cache is not None
    world = Engines(
        tmp_path, pytestconfig.cache.mkdir("vllm"), max_num_seqs="8", enable_auto_tool_choice="true",
        tool_call_parser="pythonic",
    )  # fmt: skip
    asyncio.run(asyncio.wait_for(_break_them(world), 4 * ENGINE.start_timeout_s + 300))


async def _break_them(world: Engines) -> None:
    async with world.opened():
        one, two = await world.start(), await world.start()
        await _hangs_before_its_first_token(world, one, two)
        await _hangs_in_mid_stream(world, one, two)
        await _hangs_and_nobody_else_is_there(world, one)
        await _is_lost_with_its_region(world, one, two)
        dead, left = await _dies_before_its_first_byte(world, one, two)
        await _refuses_connections(world, dead, left)
        third = await world.start()
        await _loses_the_process_that_computes(world, left, third)
        await _dies_with_what_cannot_go_on(world, third)
        await _all_are_dead(world, left, third)


@contextlib.asynccontextmanager
async def _gateway(world: Engines, name: str, *ports: int, **limits: float) -> AsyncIterator[Running]:
    state = agent_state(world.directory / f"{name}-agent", *ports)
    speak_vllm(state, *ports)
    async with gateway(world.directory / name, state, **limits) as running:
        yield running


async def _hangs_before_its_first_token(world: Engines, one: RunningReplica, two: RunningReplica) -> None:
    """Requests leave it for the other one; it is tried again, and serves when it goes on."""
    replicas = {"replica-1": one, "replica-2": two}
    ports = (one.endpoint.port, two.endpoint.port)
    async with _gateway(world, "hangs", *ports, stuck_first_token_s=1.0, ejection_s=0.2) as running:
        ejections = running.process._context.registry.ejections
        whole = await ask(running, "chat", PROMPT)
        hung = whole.replica
        freeze(replicas[hung])
        try:
            for _ in range(4):
                moved = await ask(running, "chat", PROMPT)
                is_unbroken(moved, whole, "asked of one that hangs")
                assert moved.replica != hung
            assert ejections.ejected(replicas) == {hung: "stuck"}
        finally:
            thaw(replicas[hung])

        async def serves_again() -> bool:
            return (await ask(running, "chat", PROMPT)).replica == hung

        await eventually_async(serves_again, within_s=60, what="the one that hung serves again")


async def _hangs_in_mid_stream(world: Engines, one: RunningReplica, two: RunningReplica) -> None:
    cuts = Cuts()
    frozen = _Freezing(one, two)
    async with (
        cutting_proxy(one.endpoint.port, cuts) as near,
        cutting_proxy(two.endpoint.port, cuts) as far,
        _gateway(world, "hangs-later", near, far, stuck_stream_s=1.0) as running,
    ):
        whole = await ask(running, "chat", PROMPT)
        cuts.after_events, cuts.first = [BREAK_AFTER], frozen.hang
        joined = await ask(running, "chat", PROMPT)
        frozen.thaw()
        assert cuts.done == 1
        is_unbroken(joined, whole, "hung in mid-stream")
        assert joined.raw.count(b": resumed\n") == 1


async def _hangs_and_nobody_else_is_there(world: Engines, one: RunningReplica) -> None:
    """No comment hides that nothing comes: the stream ends, and says why."""
    cuts = Cuts()
    frozen = _Freezing(one)
    async with (
        cutting_proxy(one.endpoint.port, cuts) as only,
        _gateway(world, "hangs-alone", only, stuck_stream_s=1.0, stream_idle_timeout_s=3.0) as running,
    ):
        cuts.after_events, cuts.first = [BREAK_AFTER], frozen.hang
        raw = await _raw(running, PATHS["chat"], body("chat", PROMPT, LONG_TOKENS))
        frozen.thaw()
        _ends_with_an_error(raw, "alone")


async def _is_lost_with_its_region(world: Engines, one: RunningReplica, two: RunningReplica) -> None:
    """Its gateway is cut off and it hangs: the gateway that met the client goes on in a third region."""
    cuts = Cuts()
    frozen = _Freezing(one)

    async def lost(_port: int) -> None:
        freeze(one)

    async with contextlib.AsyncExitStack() as stack:
        regions = World(world.directory / "regions", stack)
        asking = (regions.unstarted("c-eu"),)
        us = await regions.start("c-us", one.endpoint.port, routes=everywhere(), peers=asking)
        jp = await regions.start("c-jp", two.endpoint.port, routes=everywhere(), peers=asking)
        near = regions.peer("c-us", await stack.enter_async_context(cutting_proxy(us.port, cuts)))
        far = regions.peer("c-jp", await stack.enter_async_context(far_away(jp.port, 0.05)))
        regions.running.clear()
        eu = await regions.start("c-eu", routes=everywhere(), peers=(near, far))
        whole = await ask(eu, "chat", PROMPT)
        cuts.after_events, cuts.first = [BREAK_AFTER], lost
        try:
            joined = await ask(eu, "chat", PROMPT)
        finally:
            frozen.thaw()
        assert cuts.done == 1
        is_unbroken(joined, whole, "region lost")
        assert joined.raw.count(b": resumed\n") == 1
        records = await eu.usage_of(2)
        assert {(record.outcome, record.output_tokens) for record in records} == {
            ("ok", records[0].output_tokens)
        }
        assert us.usage() == []


async def _dies_before_its_first_byte(
    world: Engines, one: RunningReplica, two: RunningReplica
) -> tuple[RunningReplica, RunningReplica]:
    """Its request is answered by the other, once, and its client sees nothing of it; who died, and who lives."""
    replicas = {"replica-1": one, "replica-2": two}
    async with _gateway(world, "dies", one.endpoint.port, two.endpoint.port) as running:
        context = running.process._context
        whole = await ask(running, "chat", PROMPT)
        freeze(one)
        freeze(two)
        asked = asyncio.create_task(ask(running, "chat", PROMPT))
        await eventually_async(lambda: bool(context.registry.in_flight), what="a replica has it")
        dead = replicas.pop(next(iter(context.registry.in_flight)))
        (left,) = replicas.values()
        thaw(left)
        await world.kill(dead)
        answered = await asked
        is_unbroken(answered, whole, "killed before its first byte")
        assert b": resumed" not in answered.raw
        assert sum(context.counters.retries.values()) == 1
    return dead, left


async def _refuses_connections(world: Engines, dead: RunningReplica, left: RunningReplica) -> None:
    """Nobody listens at its port any more: what met it waits, unseen, until another replica is there."""
    async with _gateway(world, "refuses", dead.endpoint.port) as running:
        registry = running.process._context.registry
        asked = asyncio.create_task(ask(running, "chat", PROMPT))
        await eventually_async(lambda: len(running.process._context.room) == 1, what="it waits")
        assert registry.ejections.ejected(registry.endpoints) == {"replica-1": "unreachable"}
        registry.adopt_endpoints(endpoints(3, dead.endpoint.port, left.endpoint.port))
        assert (await asked).replica == "replica-2"


async def _loses_the_process_that_computes(
    world: Engines, one: RunningReplica, other: RunningReplica
) -> None:
    """It says so by an error event, or by status 500: what has begun goes on elsewhere, what had not begins there."""
    asked = body("chat", PROMPT, LONG_TOKENS)
    plain = {name: value for name, value in asked.items() if not name.startswith("stream")}
    async with (
        _gateway(world, "core", one.endpoint.port) as running,
        httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED, timeout=120) as client,
    ):
        whole = await ask(running, "chat", PROMPT, LONG_TOKENS)
        told = Told()
        joining = asyncio.create_task(ask(running, "chat", PROMPT, LONG_TOKENS, told=told))
        answering = asyncio.create_task(client.post(PATHS["chat"], json=plain))
        in_flight = running.process._context.registry.in_flight
        await eventually_async(lambda: bool(told.text) and sum(in_flight.values()) == 2, what="both run")
        running.process._context.registry.adopt_endpoints(
            endpoints(3, one.endpoint.port, other.endpoint.port)
        )
        kill_core(one)
        joined, answer = await asyncio.gather(joining, answering)
        is_unbroken(joined, whole, "core killed")
        assert joined.raw.count(b": resumed\n") == 1
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == whole.text
    await world.kill(one)


async def _dies_with_what_cannot_go_on(world: Engines, only: RunningReplica) -> None:
    """Half a tool call, a prescribed form, log probabilities, several choices, other APIs, or by the client's wish."""
    chat = {**body("chat", PROMPT, LONG_TOKENS), "temperature": 1, "seed": 3}
    tool = {"type": "function", "function": {"name": "mood", "parameters": SCHEMA}}
    form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}}
    chosen = {"type": "function", "function": {"name": "mood"}}
    asked: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
        "tool call": (PATHS["chat"], {**chat, "tools": [tool], "tool_choice": chosen}, {}),
        "form": (PATHS["chat"], {**chat, "response_format": form}, {}),
        "logprobs": (PATHS["chat"], {**chat, "logprobs": True}, {}),
        "choices": (PATHS["chat"], {**chat, "n": 2}, {}),
        "opted out": (PATHS["chat"], chat, {"x-meridian-resume": "off"}),
        "messages": (
            "/v1/messages",
            {"model": "chat", "max_tokens": LONG_TOKENS, "stream": True, "messages": chat["messages"]},
            {},
        ),
        "responses": (
            "/v1/responses",
            {"model": "chat", "max_output_tokens": LONG_TOKENS, "stream": True, "input": PROMPT},
            {},
        ),
    }
    async with _gateway(world, "cannot", only.endpoint.port) as running:
        begun = {what: bytearray() for what in asked}
        streams = [
            asyncio.create_task(_raw(running, path, members, headers, into=begun[what]))
            for what, (path, members, headers) in asked.items()
        ]
        await eventually_async(lambda: all(map(_tells_tokens, begun.values())), what="all have begun")
        await world.kill(only)
        await asyncio.gather(*streams)
        for what, raw in begun.items():
            _ends_with_an_error(bytes(raw), what)
        assert not len(running.process._context.room)


async def _all_are_dead(world: Engines, *dead: RunningReplica) -> None:
    """Held for as long as a request may be, then refused, and told when to come again."""
    ports = [replica.endpoint.port for replica in dead]
    async with (
        _gateway(world, "dead", *ports, hold_timeout_s=2.0) as running,
        httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED, timeout=60) as client,
    ):
        for stream in (False, True):
            asked = {**body("chat", PROMPT, 4), "stream": stream}
            if not stream:
                del asked["stream_options"]
            answer = await client.post(PATHS["chat"], json=asked)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica_ready")
            assert int(answer.headers["retry-after"]) >= 1


class _Freezing:
    """Freezes the engine behind a proxy in the middle of its answer, and says nothing more."""

    def __init__(self, *replicas: RunningReplica) -> None:
        self._replicas = {replica.endpoint.port: replica for replica in replicas}

    async def hang(self, port: int) -> None:
        freeze(self._replicas[port])
        await asyncio.Event().wait()

    def thaw(self) -> None:
        for replica in self._replicas.values():
            thaw(replica)


async def _raw(
    running: Running,
    path: str,
    members: dict[str, Any],
    headers: dict[str, str] | None = None,
    *,
    into: bytearray | None = None,
) -> bytes:
    """A stream's bytes, as they come."""
    raw = bytearray() if into is None else into
    async with (
        httpx.AsyncClient(timeout=120, headers=AUTHORIZED) as client,
        client.stream("POST", running.url + path, json=members, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        async for data in answer.aiter_bytes():
            raw += data
    return bytes(raw)


def _tells_tokens(raw: bytearray) -> bool:
    """Whether more than its head has come."""
    return raw.count(b"data: ") > 3


def _ends_with_an_error(raw: bytes, what: str) -> None:
    last = raw.rstrip().split(b"\n\n")[-1]
    assert last.startswith(b"event: error\ndata: "), (what, raw[-500:])
    for end in (b"[DONE]", b"message_stop", b"response.completed"):
        assert end not in raw, (what, raw[-500:])
