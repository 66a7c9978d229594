"""What a gateway holds of the other regions, told with its evidence; and what outlives a new routing table."""

import ipaddress
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from tests.support.gateway import AUTHORIZED, Running, json_answer, run, sends, upstream
from tests.support.tables import header
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_peering import ANSWER, CHAT, URL, World, everywhere

DEBUG = "/debug/regions"


async def view(client: httpx.AsyncClient, running: Running, of: str) -> dict[str, Any]:
    page = (await client.get(running.url + DEBUG)).json()
    return next(each for each in page["regions"] if each["cluster_id"] == of)


def test_a_region_that_is_gone_is_ejected_by_all_who_watch_and_stays_out_under_a_new_table(
    tmp_path: Path,
) -> None:
    """Both others say so, with the age of their word; clients find it in the discovery document, metrics count it."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            doomed = AsyncExitStack()
            mortal = World.__new__(World)
            mortal.__dict__ = {**world.__dict__, "_stack": doomed}
            later = (world.unstarted("c-eu"), world.unstarted("c-jp"))
            us = await mortal.start("c-us", engine.port, routes=everywhere(), peers=later)
            jp = await world.start("c-jp", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            eu = await world.start("c-eu", routes=everywhere())
            client = await stack.enter_async_context(httpx.AsyncClient(headers=AUTHORIZED, timeout=10))

            # jp was started before eu had a port, so it is told now
            _adopts(world, jp, world.peer("c-eu", eu.port), world.peer("c-us", us.port), generation=2)
            for seeing in (eu, jp):
                await eventually_async(partial(_sees, seeing, "c-us", "healthy"), what="known")
            await doomed.aclose()
            await eventually_async(partial(_sees, eu, "c-us", "ejected"), what="ejected")
            seen = await view(client, eu, "c-us")
            assert (seen["lost_to"], seen["observers"], seen["needed"]) == (2, 2, 2)
            assert seen["cause"] == "refuses connections"
            (says,) = seen["says"]
            assert (says["observer"], says["verdict"]) == ("c-jp", "lost")
            assert says["asked_ago_s"] < 5.0
            (told,) = (
                peer
                for peer in eu.process._context.vantage.standings(monotonic())
                if peer.cluster_id == "c-us"
            )
            assert (told.state, told.has_lost, told.cause) == ("ejected", True, "refuses connections")
            regions = (await client.get(eu.url + "/.well-known/meridian/regions")).json()["regions"]
            assert {each["cluster"]: each["state"] for each in regions}["c-us"] == "ejected"
            metrics = (await client.get(eu.url + "/metrics")).text
            assert 'meridian_gateway_region_changes_total{cluster_id="c-us",state="ejected"} 1.0' in metrics

            _adopts(world, eu, world.peer("c-jp", jp.port), world.peer("c-us", us.port), generation=2)
            facts = eu.process._context.registry.peer_facts
            assert facts["c-us"].admits == "none", "before anything is heard anew"
            assert facts["c-jp"].loads is not None
            answer = await client.post(eu.url + URL, json=CHAT)
            assert answer.headers["x-meridian-served-region"] == "ap-northeast"

    run(scenario())


def test_states_are_told_to_operators_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack, httpx.AsyncClient() as client:
            world = World(tmp_path, stack)
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.unstarted("c-us"),))
            await eventually_async(lambda: eu.process._context.vantage.views(0.0), what="a first look")
            assert (await view(client, eu, "c-us"))["state"] == "suspect"
            eu.process._gateway._local._operator_networks = (ipaddress.ip_network("10.0.0.0/8"),)
            assert (await client.get(eu.url + DEBUG)).status_code == 404

    run(scenario())


def _sees(running: Running, of: str, state: str) -> bool:
    return running.process._context.vantage.state(of) == state


def _adopts(world: World, running: Running, *peers: Any, generation: int) -> None:
    """A new routing table with these peers."""
    cluster_id = running.state.cluster_id
    table = world.signer.routing(
        header(cluster_id, peers=peers), everywhere(), audience=cluster_id, generation=generation
    )
    assert running.process._context.registry.adopt_table("routing", table) is None
