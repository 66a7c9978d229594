"""Gateways tell their peers what waits where, and nobody else."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec

from tests.support.gateway import Received, json_answer, run, sends, upstream
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_peering import ANSWER, World, everywhere


def test_peers_hear_of_replicas_and_measure_the_way(tmp_path: Path) -> None:
    """Ready replicas and a measured round trip come by signed word; without it nothing is told; death is silence."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            inner = AsyncExitStack()
            world = World(tmp_path, stack)
            far = World.__new__(World)
            far.__dict__ = {**world.__dict__, "_stack": inner}
            us = await far.start("c-us", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            eu = await world.start("c-eu", routes=everywhere())
            facts = eu.process._context.registry.peer_facts
            await eventually_async(lambda: facts["c-us"].loads, what="the peer's word")
            loads = facts["c-us"].loads
            assert loads is not None
            assert loads["chat-1"].ready == 1
            assert facts["c-us"].rtt_ms != 80.0
            async with httpx.AsyncClient() as client:
                unsigned = await client.get(us.url + "/.well-known/meridian/load")
            assert unsigned.status_code in {401, 403}
            await inner.aclose()
            await eventually_async(lambda: not facts["c-us"].loads, what="silence noticed")
            assert facts["c-us"].rtt_ms == 80.0

    run(scenario())


def test_a_peer_that_never_answers_holds_one_connection(tmp_path: Path) -> None:
    """While a question is open no other is asked; one that is given up closes its connection."""

    async def scenario() -> None:
        async def silent(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read()

        async with upstream(silent) as hung, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            peer = msgspec.structs.replace(world.unstarted("c-us"), url=f"http://127.0.0.1:{hung.port}")
            await world.start("c-eu", routes=everywhere(), peers=(peer,))
            await eventually_async(lambda: hung.connections == 3, what="a third question")
            assert hung.connections - hung.hung_up <= 1

    run(scenario())
