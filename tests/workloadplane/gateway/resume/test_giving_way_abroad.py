"""Streams met in one region and served in another that give up their seats there."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import SECRET, Running, run
from tests.support.simulators import Simulator, simulator
from tests.support.tables import api_key
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.resume.test_giving_way import (
    BODY,
    MODEST,
    SLOW,
    Asked,
    begin,
    preemptions,
    replicas,
)
from tests.workloadplane.gateway.resume.test_resumed_streams import events_of, text_of
from tests.workloadplane.gateway.test_peering import World, everywhere
from workloadplane.gateway import attempt as attempts
from workloadplane.gateway.relay import Relay

LONG = {**BODY, "max_tokens": 3000}


@asynccontextmanager
async def regions(directory: Path, near: Simulator) -> AsyncIterator[tuple[Running, Running]]:
    """A gateway without replicas, the one with a single seat where its streams are served."""
    async with AsyncExitStack() as stack:
        world, keys = World(directory, stack), [api_key(SECRET), api_key(MODEST, api_key_id="key-2")]
        asking = (world.unstarted("c-eu"),)
        us = await world.start(
            "c-us", near.port, routes=everywhere(), keys=keys, peers=asking, hold_comment_interval_s=0.05
        )
        assert us.process._context.registry.adopt_endpoints(one_seat(near, 2)) is None
        eu = await world.start("c-eu", routes=everywhere(), keys=keys)
        yield eu, us


def one_seat(engine: Simulator, generation: int) -> Any:
    made = replicas(engine.port, 1, "ready")
    return type(made)(endpoint_generation=generation, endpoints=made.endpoints)


async def greedy_waits(
    eu: Running, us: Running, body: dict[str, Any]
) -> "tuple[Asked, asyncio.Task[None], asyncio.Task[None]]":
    """A stream met in one region has given way in the other one to a request that lasts as long as it is let."""
    greedy, one = begin(eu, SECRET, body)
    await eventually_async(lambda: greedy.has_begun or one.done())
    modest, two = begin(us, MODEST, LONG)
    await eventually_async(lambda: (preemptions(us) == 1 and modest.has_begun) or two.done())
    return greedy, one, two


def lives_beyond(relay: Relay, deadline_s: float, task: "asyncio.Task[None]") -> bool:
    return task.done() or relay._deadline_s > deadline_s


def relay_of(running: Running) -> Relay:
    (relay,) = running.process._context.relays
    return relay


def test_a_stream_met_elsewhere_gives_way_and_goes_on(tmp_path: Path) -> None:
    """Both clients get all, byte for byte; while it waits it counts as alive where it was met; it is counted once."""

    async def scenario(near: Simulator) -> None:
        async with regions(tmp_path, near) as (eu, us):
            whole = Asked()
            await whole.ask(eu, SECRET, BODY)
            greedy, one, two = await greedy_waits(eu, us, BODY)
            relay = relay_of(eu)
            for before_s in (relay._deadline_s, relay._deadline_s + 0.1):
                await eventually_async(partial(lives_beyond, relay, before_s, one))
            assert not one.done()
            two.cancel()
            await one
            assert text_of(greedy.content) == text_of(whole.content)
            assert [each["choices"] for each in events_of(greedy.content)] == [
                each["choices"] for each in events_of(whole.content)
            ]
            assert len({each["id"] for each in events_of(greedy.content)}) == 1
            assert greedy.content.count(b": resumed\n") == 1
            assert b": k\n" in greedy.content
            assert b"held" not in greedy.content, "a word between gateways"
            records = await eu.usage_of(2)
            assert [(each.outcome, each.output_tokens) for each in records] == [("ok", 200)] * 2
            assert records[0].input_tokens == records[1].input_tokens
            assert [each.api_key_id for each in await us.usage_of(1)] == ["key-2"]
            assert not sum(eu.process._context.counters.resumes.values()), "nothing broke"
            await eventually_async(lambda: not us.process._context.registry.promised)

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as near:
        run(scenario(near))


def test_a_region_that_is_lost_while_the_stream_waits(tmp_path: Path) -> None:
    """The gateway that met the client goes on elsewhere, once, and the one where it waited forgets it."""

    async def scenario(near: Simulator, far: Simulator) -> None:
        async with regions(tmp_path, near) as (eu, us):
            greedy, one, two = await greedy_waits(eu, us, BODY)
            assert eu.process._context.registry.adopt_endpoints(one_seat(far, 2)) is None
            for connection in list(us.process._gateway.connections):
                connection.abort()
            await one
            (record,) = await eu.usage_of(1)
            assert (record.outcome, record.output_tokens) == ("ok", 200)
            assert record.served_cluster_id == "c-eu"
            whole = Asked()
            await whole.ask(eu, SECRET, BODY)
            assert text_of(greedy.content) == text_of(whole.content)
            assert greedy.content.endswith(b"data: [DONE]\n\n")
            await eventually_async(lambda: not us.process._context.room)
            assert not us.process._context.registry.promised
            await asyncio.wait({two})

    with (
        simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as near,
        simulator(key="engine-secret") as far,
    ):
        run(scenario(near, far))


def test_a_client_that_leaves_while_its_stream_waits_elsewhere(tmp_path: Path) -> None:
    """It leaves the queue there, the replica is no longer promised to it, and what it had is counted at home."""

    async def scenario(near: Simulator) -> None:
        async with regions(tmp_path, near) as (eu, us):
            greedy, one, two = await greedy_waits(eu, us, BODY)
            one.cancel()
            await eventually_async(lambda: not us.process._context.room)
            assert not us.process._context.registry.promised
            (record,) = await eu.usage_of(1)
            assert (record.outcome, record.output_tokens) == ("client_gone", len(text_tokens(greedy)))
            two.cancel()

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as near:
        run(scenario(near))


def text_tokens(asked: Asked) -> list[Any]:
    """Its events with text: the simulator puts one token into each."""
    choices = [choice for each in events_of(asked.content) for choice in each["choices"]]
    return [choice for choice in choices if choice["delta"].get("content")]


def test_what_says_that_it_waits_is_not_believed_for_ever(tmp_path: Path) -> None:
    """Longer than a first event may take no word of a peer holds a stream: its client hears of an error."""

    async def scenario(near: Simulator) -> None:
        async with regions(tmp_path, near) as (eu, us):
            greedy, one, two = await greedy_waits(eu, us, BODY)
            context = eu.process._context
            context.limits = dataclasses.replace(context.limits, first_byte_timeout_s=0.1)
            await one
            assert b'"upstream_timeout"' in greedy.content
            assert b"[DONE]" not in greedy.content
            two.cancel()

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as near:
        run(scenario(near))


def test_a_peer_that_asks_for_no_word_keeps_the_seat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As gateways of an older version do, which would take the silence for a stall."""
    monkeypatch.setattr(attempts, "token_hex", lambda size: "")

    async def scenario(near: Simulator) -> None:
        async with regions(tmp_path, near) as (eu, us):
            greedy, one = begin(eu, SECRET, {**BODY, "max_tokens": 100})
            await eventually_async(lambda: greedy.has_begun)
            modest, two = begin(us, MODEST, {**BODY, "max_tokens": 4})
            await asyncio.gather(one, two)
            assert modest.has_begun
            assert preemptions(us) == 0
            assert b": resumed" not in greedy.content

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as near:
        run(scenario(near))
