"""Regions whose replicas are full: the other one first, then the queue at home, each at its place in the order."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from tests.support.gateway import AUTHORIZED, SECRET, Running, run, upstream
from tests.support.tables import api_key
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_peering import World, everywhere
from tests.workloadplane.gateway.test_queueing import URL, Seats, chat, seats_for
from workloadplane.gateway.queueing import HIGH


def test_a_full_region_sends_to_the_next_and_then_queues_at_home(tmp_path: Path) -> None:
    """One seat each: the second request is served abroad, the third waits here; a refusal by the peer costs nothing."""

    async def scenario() -> None:
        here, there = Seats(), Seats()
        async with (
            upstream(here.script) as home,
            upstream(there.script) as abroad,
            AsyncExitStack() as stack,
            httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client,
        ):
            world = World(tmp_path, stack)
            keys = [api_key(SECRET, max_priority="high")]
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", abroad.port, routes=everywhere(), keys=keys, peers=asking)
            eu = await world.start("c-eu", home.port, routes=everywhere(), keys=keys)
            for running, port in ((us, abroad.port), (eu, home.port)):
                running.process._context.registry.adopt_endpoints(seats_for(port, 1, generation=2))

            def ask(name: str, **headers: str) -> "asyncio.Task[httpx.Response]":
                return asyncio.create_task(client.post(eu.url + URL, json=chat(name), headers=headers))

            first = ask("first")
            await eventually_async(lambda: here.order == ["first"])
            second = ask("second", **{"x-meridian-priority": "high", "x-meridian-deadline-ms": "60000"})
            await eventually_async(lambda: there.order == ["second"])
            (passed_on,) = us.process._context.relays
            assert passed_on._inquiry.wish.priority == HIGH
            assert 55 < passed_on._inquiry.wish.answer_within_s < 60
            third = ask("third")
            await eventually_async(lambda: waits(eu) == 1)
            fourth = ask("fourth")
            await eventually_async(lambda: waits(eu) == 2)
            assert waits(us) == 0, "a request is queued where its client was met"
            await here.end("first")
            await eventually_async(lambda: here.order == ["first", "third"])
            await there.end("second")
            await eventually_async(lambda: there.order == ["second", "fourth"], what="room abroad found")
            await here.end("third")
            await there.end("fourth")
            answers = await asyncio.gather(first, second, third, fourth)
            regions = [answer.headers["x-meridian-served-region"] for answer in answers]
            assert regions == ["eu-west", "us-east", "eu-west", "us-east"]

    run(scenario())


def waits(running: Running) -> int:
    return len(running.process._context.room)
