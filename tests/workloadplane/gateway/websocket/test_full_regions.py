"""Sessions where all seats are taken: they wait as requests do, and go where a seat is free sooner, one hop at most."""

import asyncio
import math
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.gateway import Received, Running, json_answer, post, raw, run, upstream
from tests.support.waiting import eventually_async
from tests.support.websocket import TEXT, Engine, connect, frame, handshake, next_frame
from tests.workloadplane.gateway.test_peering import World, everywhere, only
from tests.workloadplane.gateway.test_queueing import seats_for

ASK = post(b'{"model":"chat","messages":[]}')
BY_FIRST_MESSAGE = frame(TEXT, b'{"model":"chat"}', masked=True)


class Place:
    """An engine with one seat: a request holds it until ``free``; a session says a word and gathers."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.engine = Engine(self._talk)
        self.requests = 0
        self.sessions = 0

    async def _talk(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        writer.write(frame(TEXT, b"hello", masked=False))
        await engine.gather(reader)

    async def script(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if "sec-websocket-key" in received.headers:
            await self.engine.script(received, reader, writer)
            return
        self.requests += 1
        await self.free.wait()
        writer.write(json_answer(b"{}"))


class Regions:
    """``c-us`` and ``c-eu``, which know one another's load, each in front of a place with one seat."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.here, self.there = Place(), Place()
        self._world = World(directory, stack)
        self._stack = stack

    async def start(self, **route: object) -> tuple[Running, Running]:
        home = await self._stack.enter_async_context(upstream(self.here.script))
        abroad = await self._stack.enter_async_context(upstream(self.there.script))
        world, routes = self._world, everywhere(**route)
        asking = (world.unstarted("c-eu"),)
        us = await world.start("c-us", abroad.port, routes=routes, peers=asking)
        eu = await world.start("c-eu", home.port, routes=routes)
        for running, port in ((us, abroad.port), (eu, home.port)):
            running.process._context.registry.adopt_endpoints(seats_for(port, 1, generation=2))
        return eu, us

    async def fill(self, running: Running, place: Place) -> "asyncio.Task[bytes]":
        asked = asyncio.create_task(raw(running.port, ASK))
        await eventually_async(lambda: place.requests == 1, what="the seat is taken")
        return asked


def picks(running: Running, kind: str) -> int:
    """Choices of a kind so far, as ``/metrics`` has them."""
    counted = running.process._context.counters.picks
    return sum(count for (_, each, _), count in counted.items() if each == kind)


def known_load(running: Running) -> int:
    """Requests in flight in the other region, as it said."""
    loads = running.process._context.registry.peer_facts["c-us"].loads or {}
    return sum(load.in_flight for load in loads.values())


def waits(running: Running) -> Callable[[], bool]:
    return lambda: running.process._context.room.waits("project-1-chat")


@pytest.mark.parametrize("first", [b"", BY_FIRST_MESSAGE], ids=["by query", "by first message"])
def test_a_session_that_waits_goes_where_a_seat_is_free(tmp_path: Path, first: bytes) -> None:
    """Both regions full it waits at home; a seat abroad is free first, so it goes there, before anybody switched."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            regions = Regions(tmp_path, stack)
            eu, us = await regions.start()
            at_home = await regions.fill(eu, regions.here)
            abroad = await regions.fill(us, regions.there)
            await eventually_async(lambda: known_load(eu), what="the peer is known to be full")
            path = "/v1/realtime" if first else "/v1/realtime?model=chat"
            reader, writer = await asyncio.open_connection("127.0.0.1", eu.port)
            writer.write(handshake(path))
            if first:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(first)
            await eventually_async(waits(eu), what="it waits where its client was met")
            assert not waits(us)()
            regions.there.free.set()
            assert (await abroad).startswith(b"HTTP/1.1 200 ")
            head = b"" if first else await reader.readuntil(b"\r\n\r\n")
            assert await next_frame(reader) == (TEXT, b"hello")
            assert (regions.here.sessions, regions.there.sessions) == (0, 1)
            assert first or b"x-meridian-served-region: us-east\r\n" in head
            await eventually_async(lambda: bytes(regions.there.engine.got) == first)
            assert not waits(eu)()
            writer.close()
            (record,) = [each for each in await eu.usage_of(1) if each.route == "realtime"]
            assert (record.served_cluster_id, record.origin) == ("c-us", "eu-west")
            assert [each.route for each in us.usage()] == ["chat"], "counted where the client was met"
            regions.here.free.set()
            await at_home

    run(scenario())


def test_the_last_to_come_goes_first(tmp_path: Path) -> None:
    """Of two that wait the one at the line's end goes abroad; the other is nearer to the seat here."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            regions = Regions(tmp_path, stack)
            eu, us = await regions.start()
            at_home = await regions.fill(eu, regions.here)
            abroad = await regions.fill(us, regions.there)
            room = eu.process._context.room
            await eventually_async(lambda: known_load(eu))
            shaking = []
            for count in (1, 2):
                shaking.append(asyncio.create_task(connect(eu.port, handshake())))
                await eventually_async(lambda: len(room) == count)  # noqa: B023
            regions.there.free.set()
            head, _, writer = await shaking[1]
            assert b"x-meridian-served-region: us-east\r\n" in head
            assert not shaking[0].done()
            regions.here.free.set()
            head, _, other = await shaking[0]
            writer.close()
            other.close()
            await asyncio.gather(at_home, abroad)

    run(scenario())


def test_a_session_sent_abroad_counts_there_at_once(tmp_path: Path) -> None:
    """One seat abroad: of two sessions that come together one goes there, past whom it may; the other waits."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            regions = Regions(tmp_path, stack)
            eu, _ = await regions.start()
            at_home = await regions.fill(eu, regions.here)
            context = eu.process._context
            await eventually_async(lambda: context.registry.peer_facts["c-us"].loads)
            (known,) = eu.process._regions._known.values()
            known.ask_at_s = math.inf  # what it said last is all that is known
            await eventually_async(lambda: known.task is None or known.task.done())
            shaking = [asyncio.create_task(connect(eu.port, handshake())) for _ in range(2)]
            await eventually_async(waits(eu), what="one waits")
            assert picks(eu, "peer") == 1, "the other was not even tried there"
            done, _ = await asyncio.wait(shaking, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            head, reader, _ = done.pop().result()
            assert b"x-meridian-served-region: us-east\r\n" in head
            assert await next_frame(reader) == (TEXT, b"hello")
            regions.here.free.set()
            await at_home
            for each in shaking:
                (await each)[2].close()

    run(scenario())


def test_who_goes_abroad_does_not_wait_behind_others(tmp_path: Path) -> None:
    """While a request waits that may not leave, a session that may goes past it: it takes nobody's seat here."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            regions = Regions(tmp_path, stack)
            eu, _ = await regions.start()
            at_home = await regions.fill(eu, regions.here)
            context = eu.process._context
            await eventually_async(lambda: context.registry.peer_facts["c-us"].loads)
            unready = context.registry.unready("project-1-chat")
            unready.add("c-us", math.inf)
            waiting = asyncio.create_task(connect(eu.port, handshake()))
            await eventually_async(waits(eu))
            unready.expire(math.inf)
            head, _, writer = await connect(eu.port, handshake())
            assert b"x-meridian-served-region: us-east\r\n" in head
            assert picks(eu, "wait") == 1, "it did not wait itself"
            writer.close()
            regions.here.free.set()
            await at_home
            (await waiting)[2].close()

    run(scenario())


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_session_stays_inside_its_residency_however_long_it_waits(tmp_path: Path, where: str) -> None:
    """With a free seat outside it waits; where its home is the outside one, no replica there takes it."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            regions = Regions(tmp_path, stack)
            eu, us = await regions.start(residency=("eu",))
            running = eu if where == "here" else us
            at_home = await regions.fill(eu, regions.here)
            shaking = asyncio.create_task(connect(running.port, handshake()))
            if where == "here":
                await eventually_async(waits(eu))
                await eventually_async(
                    lambda: eu.process._context.registry.peer_facts["c-us"].loads, what="the peer is known"
                )
                turns = eu.process._context.turns
                for _ in range(3):
                    turns.spill()
                    await asyncio.sleep(0)
                assert waits(eu)() and not shaking.done()
                regions.here.free.set()
                head, reader, writer = await shaking
                assert b"x-meridian-served-region: eu-west\r\n" in head
                assert await next_frame(reader) == (TEXT, b"hello")
                writer.close()
            else:
                regions.here.free.set()
                head, _, writer = await shaking
                assert head.startswith(b"HTTP/1.1 5"), "c-us knows no address of c-eu"
                writer.close()
            assert regions.there.sessions == 0
            await at_home

    run(scenario())


def test_a_session_that_came_from_a_peer_goes_nowhere_else(tmp_path: Path) -> None:
    """Held by a full region it waits there for its turn, though that one knows a third with a free seat."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            there, third = Place(), Place()
            abroad = await stack.enter_async_context(upstream(there.script))
            farther = await stack.enter_async_context(upstream(third.script))
            world, routes = World(tmp_path, stack), only("c-us", "c-jp")
            jp = await world.start("c-jp", farther.port, routes=routes, peers=(world.unstarted("c-us"),))
            us = await world.start("c-us", abroad.port, routes=routes, peers=(world.unstarted("c-eu"),))
            del world.running["c-jp"]
            eu = await world.start("c-eu", routes=routes)
            for running, port in ((us, abroad.port), (jp, farther.port)):
                running.process._context.registry.adopt_endpoints(seats_for(port, 1, generation=2))
            context = us.process._context
            context.registry.in_flight["replica-1"] = 1
            await eventually_async(lambda: context.registry.peer_facts["c-jp"].loads)
            shaking = asyncio.create_task(connect(eu.port, handshake()))
            await eventually_async(waits(us), what="held")
            context.turns.spill()
            own = await connect(us.port, handshake())
            assert b"x-meridian-served-region: ap-northeast\r\n" in own[0], "its own may leave"
            assert waits(us)()
            del context.registry.in_flight["replica-1"]
            context.turns.soon_for_all()
            head, reader, writer = await shaking
            assert b"x-meridian-served-region: us-east\r\n" in head
            assert await next_frame(reader) == (TEXT, b"hello")
            assert third.sessions == 1
            writer.close()
            own[2].close()

    run(scenario())
