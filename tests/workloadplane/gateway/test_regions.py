"""Gateways of several regions on real sockets: where a request goes, why, and what happens when a region dies."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sized
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.far_away import far_away
from tests.support.gateway import AUTHORIZED, Received, Running, json_answer, rewrite, run, sends, upstream
from tests.support.gateway_program import program
from tests.support.simulators import Simulator, simulator
from tests.support.tables import header, revision, route
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.handover.test_family import OWNED, TWO, state_of
from tests.workloadplane.gateway.resume.test_across_regions import CHAT as STORY
from tests.workloadplane.gateway.resume.test_across_regions import _text as text_of
from tests.workloadplane.gateway.test_peering import ANSWER, REGIONS, URL, World, everywhere, only
from tests.workloadplane.gateway.test_queueing import Seats, chat, seats_for
from workloadplane.gateway.peers import PeerStatement, sign
from workloadplane.protocol.statefile import write_state
from workloadplane.routing.regions import RevisionLoad

LOAD = "/.well-known/meridian/load"


def one_seat(running: Running, port: int) -> None:
    running.process._context.registry.adopt_endpoints(seats_for(port, 1, generation=2))


def load_of(asking: Running, cluster_id: str) -> RevisionLoad | None:
    loads = asking.process._context.registry.peer_facts[cluster_id].loads
    return None if loads is None else loads.get("chat-1")


def in_flight_at(asking: Running, cluster_id: str) -> int | None:
    load = load_of(asking, cluster_id)
    return None if load is None else load.in_flight


def is_idle_at(asking: Running, cluster_id: str) -> bool:
    """Nobody is at work there and nobody waits: while a seat changes hands, somebody may wait for a free one."""
    load = load_of(asking, cluster_id)
    return load is not None and load.in_flight + load.waiting == 0


def _holds(room: Sized, count: int) -> bool:
    return len(room) == count


async def explained(running: Running, response: httpx.Response) -> str:
    async with httpx.AsyncClient() as client:
        page = await client.get(f"{running.url}/debug/explain/{response.headers['x-request-id']}")
    return str(page.json()["choices"][-1]["reasons"])


def test_of_a_far_an_overloaded_and_a_dead_region(tmp_path: Path) -> None:
    """The far one while the near one has a queue, the near one when it has not, the dead one never; reasons say so."""

    async def scenario() -> None:
        busy = Seats()
        async with (
            upstream(sends(json_answer(ANSWER))) as far_engine,
            upstream(busy.script) as near_engine,
            AsyncExitStack() as stack,
            httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client,
        ):
            world = World(tmp_path, stack)
            routes = [route(revisions=(revision((*REGIONS, "c-dead")),))]
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", far_engine.port, routes=routes, peers=asking)
            jp = await world.start("c-jp", near_engine.port, routes=routes, peers=asking)
            one_seat(jp, near_engine.port)
            dead = msgspec.structs.replace(world.unstarted("c-us"), cluster_id="c-dead", rtt_ms=0.1)
            far = world.peer("c-us", await stack.enter_async_context(far_away(us.port, 0.1)))
            del world.running["c-us"]
            eu = await world.start("c-eu", routes=routes, peers=(far, dead))
            first = asyncio.create_task(client.post(jp.url + URL, json=chat("first")))
            await busy.end("first", taking_s=0.4)
            await first
            there = [asyncio.create_task(client.post(jp.url + URL, json=chat(f"w{n}"))) for n in range(4)]

            def is_seen() -> bool:
                load = load_of(eu, "c-jp")
                return load is not None and load.waiting == 3 and load_of(eu, "c-us") is not None

            await eventually_async(is_seen, what="the queue is known here")
            response = await client.post(eu.url + URL, json=chat("a"))
            assert response.headers["x-meridian-served-region"] == "us-east"
            assert "no replica here soonest: round trip s 0.2" in await explained(eu, response)
            for name in [f"w{n}" for n in range(4)]:
                await busy.end(name)
            await asyncio.gather(*there)
            await eventually_async(
                lambda: is_idle_at(eu, "c-jp"), what="it is known here that the queue is gone"
            )
            near = asyncio.create_task(client.post(eu.url + URL, json=chat("b")))
            await busy.end("b")
            assert (await near).headers["x-meridian-served-region"] == "ap-northeast"
            metrics = (await client.get(eu.url + "/metrics")).text
            assert 'choice="peer",deployment_id="project-1-chat",reason="no replica here"} 2.0' in metrics
            assert eu.process._context.registry.peer_facts["c-dead"].loads is None

    run(scenario())


def test_a_region_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    """Its gateway dies at once; what it had not begun to answer is answered by the other region."""

    async def slowly(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(json_answer(ANSWER))

    async def scenario() -> None:
        async with upstream(slowly) as one, upstream(slowly) as other, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            state = world.states["c-us"]
            rewrite(state, one.port, region="us-east", jurisdiction="us", routes=everywhere(), peers=asking)
            us = await stack.enter_async_context(program(state.directory, tmp_path / "us"))
            jp = await world.start("c-jp", other.port, routes=everywhere(), peers=asking)
            farther = world.peer("c-jp", await stack.enter_async_context(far_away(jp.port, 0.01)))
            del world.running["c-jp"]
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.peer("c-us", us.port), farther))
            served: Counter[str] = Counter()

            async def client_of(client: httpx.AsyncClient) -> None:
                for _ in range(20):
                    response = await client.post(eu.url + URL, json={"model": "chat", "messages": []})
                    assert response.status_code == 200, response.text
                    served[response.headers["x-meridian-served-region"]] += 1
                    if sum(served.values()) == 100:
                        us.process.kill()

            facts = eu.process._context.registry.peer_facts
            await eventually_async(
                lambda: all(p.loads is not None for p in facts.values()), what="both known"
            )
            async with httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client:
                await asyncio.gather(*(client_of(client) for _ in range(20)))
            assert sum(served.values()) == 400
            assert served["us-east"] >= 100, "all went there until it was killed"

    run(scenario(), within_s=60)


def test_a_stream_goes_on_in_a_peer_when_no_replica_is_left_here(tmp_path: Path) -> None:
    """The only replica here dies in mid-stream: the rest comes from another region, as if nothing had been."""

    async def scenario(near: Simulator, far: Simulator) -> None:
        cuts = Cuts()
        async with AsyncExitStack() as stack:
            replica = await stack.enter_async_context(cutting_proxy(near.port, cuts))
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", far.port, routes=everywhere(), peers=asking)
            eu = await world.start("c-eu", replica, routes=everywhere())
            async with httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client:
                whole = await client.post(eu.url + URL, json=STORY)
                cuts.after_events = [10]
                joined = await client.post(eu.url + URL, json=STORY)
            assert joined.headers["x-meridian-served-region"] == "eu-west", "where it began"
            assert cuts.done == 1
            assert joined.text.count(": resumed\n") == 1
            assert text_of(joined.text) == text_of(whole.text)
            assert joined.text.endswith("data: [DONE]\n\n")
            records = await eu.usage_of(2)
            assert [record.output_tokens for record in records] == [40, 40]
            assert records[1].served_cluster_id == "c-us"
            assert us.usage() == []

    quick = ("--decode-step-s", "0.001")
    with simulator(*quick, key="engine-secret") as near, simulator(*quick, key="engine-secret") as far:
        run(scenario(near, far))


def test_the_last_in_line_spills_over(tmp_path: Path) -> None:
    """A peer finds room: who waits at the line's end goes there; the next in line is served sooner at home."""

    async def scenario() -> None:
        here, there = Seats(), Seats()
        async with (
            upstream(here.script) as home,
            upstream(there.script) as abroad,
            AsyncExitStack() as stack,
            httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client,
        ):
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", abroad.port, routes=everywhere(), peers=asking)
            eu = await world.start("c-eu", home.port, routes=everywhere())
            one_seat(us, abroad.port)
            one_seat(eu, home.port)

            def ask(running: Running, name: str) -> "asyncio.Task[httpx.Response]":
                return asyncio.create_task(client.post(running.url + URL, json=chat(name)))

            abroad_first = ask(us, "abroad")
            await eventually_async(lambda: there.order == ["abroad"])
            measured = ask(eu, "measured")
            await here.end("measured")
            await measured
            room, service = eu.process._context.room, eu.process._context.room.service("project-1-chat")
            assert service is not None
            service.request_s_mean = 0.06
            await eventually_async(lambda: in_flight_at(eu, "c-us") == 1)
            asked = [ask(eu, "at work")]
            await eventually_async(lambda: here.order[-1] == "at work")
            for number in range(20):
                asked.append(ask(eu, f"w{number}"))
                await eventually_async(partial(_holds, room, number + 1))
            await there.end("abroad")
            await abroad_first
            await eventually_async(lambda: len(there.order) > 1, what="one spills over")
            assert there.order[1] == "w19"
            assert here.order[-1] == "at work"
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    run(scenario())


def test_a_conversation_goes_back_to_the_region_that_knows_it(tmp_path: Path) -> None:
    """Sent abroad as home was full, its next turn goes there though home is free; others stay at home."""

    async def scenario() -> None:
        here = Seats()
        async with (
            upstream(here.script) as home,
            upstream(sends(json_answer(ANSWER))) as abroad,
            AsyncExitStack() as stack,
            httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client,
        ):
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            await world.start("c-us", abroad.port, routes=everywhere(), peers=asking)
            eu = await world.start("c-eu", home.port, routes=everywhere())
            one_seat(eu, home.port)
            await eventually_async(lambda: load_of(eu, "c-us") is not None)
            busy = asyncio.create_task(client.post(eu.url + URL, json=chat("busy")))
            await eventually_async(lambda: here.order == ["busy"])
            said = [{"role": "user", "content": "a long document " * 4_000}]
            first = await client.post(eu.url + URL, json={"model": "chat", "messages": said})
            assert first.headers["x-meridian-served-region"] == "us-east"
            await here.end("busy")
            await busy
            said += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "go on"}]
            again = await client.post(eu.url + URL, json={"model": "chat", "messages": said})
            assert again.headers["x-meridian-served-region"] == "us-east"
            assert "its cache is worth the way" in await explained(eu, again)
            other = asyncio.create_task(
                client.post(
                    eu.url + URL, json=chat("other", messages=[{"role": "user", "content": "x" * 60_000}])
                )
            )
            await here.end("other")
            assert (await other).headers["x-meridian-served-region"] == "eu-west"

    run(scenario())


def test_an_answer_that_its_peer_did_not_sign_is_no_answer(tmp_path: Path) -> None:
    """Whoever answers in a peer's place, with its own true words of another moment, is not believed."""

    async def scenario() -> None:
        heard: list[bytes] = []

        async def impostor(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(heard[0])

        async with (
            upstream(impostor) as engine,
            AsyncExitStack() as stack,
            httpx.AsyncClient() as client,
        ):
            world = World(tmp_path, stack)
            us = await world.start("c-us", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            question = PeerStatement(
                sender="c-eu", audience="c-us", expires_at=time.time() + 20, request_id="load-1",
                api_key_id="", origin_region="eu-west", residency=(), may_hold=False,
            )  # fmt: skip
            value = sign(question, world.states["c-eu"].private_key).decode()
            true = await client.get(us.url + LOAD, headers={"x-meridian-peer": value})
            assert true.status_code == 200
            assert json.loads(true.content)["loads"]["chat-1"]["ready"] == 1
            heard.append(
                json_answer(true.content, headers=f"x-meridian-peer: {true.headers['x-meridian-peer']}\r\n")
            )
            del world.running["c-us"]
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.peer("c-us", engine.port),))
            counted = eu.process._context.counters.refused_answers
            await eventually_async(lambda: counted["c-us"] > 1, what="two answers refused")
            assert load_of(eu, "c-us") is None

    run(scenario())


@pytest.mark.slow
def test_any_process_answers_for_all(tmp_path: Path) -> None:
    """Of two processes on one port each owns a deployment; whoever is asked tells what runs at both."""

    async def scenario() -> None:
        seats = Seats()
        async with (
            upstream(seats.script) as engine,
            AsyncExitStack() as stack,
            httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client,
        ):
            world = World(tmp_path, stack)
            state = world.states["c-eu"]
            _two_deployments(world, engine.port)
            running = await stack.enter_async_context(program(state.directory, tmp_path / "gateway", *TWO))
            await eventually_async(lambda: "gateway processes serve" in str(running.told), what="both serve")
            asked = [
                asyncio.create_task(client.post(running.url + URL, json={**chat(name), "model": name}))
                for name in OWNED.values()
            ]
            await eventually_async(lambda: len(seats.order) == 2)

            async def told() -> dict[str, int]:
                """On a connection of its own, so that either process may take it."""
                question = PeerStatement(
                    sender="c-us", audience="c-eu", expires_at=time.time() + 20, request_id="load-1",
                    api_key_id="", origin_region="us-east", residency=(), may_hold=False,
                )  # fmt: skip
                value = sign(question, world.states["c-us"].private_key).decode()
                async with httpx.AsyncClient() as fresh:
                    answer = await fresh.get(running.url + LOAD, headers={"x-meridian-peer": value})
                return {name: load["in_flight"] for name, load in answer.json()["loads"].items()}

            expected = {f"{name}-1": 1 for name in OWNED.values()}
            async with asyncio.timeout(10):
                in_turn = 0
                while in_turn < 16:  # two processes: sixteen alike are both
                    in_turn = in_turn + 1 if await told() == expected else 0
            for name in list(seats.at_work):
                await seats.end(name)
            await asyncio.gather(*asked)
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), 10) == 0

    run(scenario(), within_s=60)


def _two_deployments(world: World, port: int) -> None:
    """The state of ``c-eu`` with a deployment for each of two processes, and a peer that may ask."""
    made = state_of(world.directory / "family", port)
    state = world.states["c-eu"]
    names = list(OWNED.values())
    rewrite(state, routes=only("c-eu"))
    table = world.signer.routing(
        header("c-eu", peers=(world.unstarted("c-us"),)),
        [route(name, revisions=(revision(("c-eu",), revision_id=f"{name}-1"),)) for name in names],
        audience="c-eu",
    )
    write_state(state.directory / "tables" / "routing.json", msgspec.json.encode(table))
    (state.directory / "endpoints.json").write_bytes((made / "endpoints.json").read_bytes())
