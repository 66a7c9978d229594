"""Stored responses reach the replica that holds them: through any gateway, after a restart, for their own project."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    Received,
    Upstream,
    agent_state,
    gateway,
    json_answer,
    run,
    upstream,
)
from tests.support.tables import api_key, revision, route
from tests.workloadplane.gateway.test_peering import World

ASK = {"model": "chat", "input": "hello"}
URL = "/v1/responses"
USAGE = {"input_tokens": 3, "output_tokens": 2}
OTHER = {"authorization": "Bearer sk-other"}


@asynccontextmanager
async def engine() -> AsyncIterator[Upstream]:
    """An engine that keeps responses under the id that it is given, in its own memory."""
    kept: dict[str, bytes] = {}

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = received.line.split()
        if method == "POST" and target == URL:
            asked = json.loads(received.body)
            name = asked.get("request_id", "resp_own")
            kept[name] = json.dumps({"id": name, "object": "response", "usage": USAGE}).encode()
            writer.write(json_answer(kept[name]))
            return
        name = target.partition("?")[0].split("/")[3]
        found = kept.get(name)
        writer.write(json_answer(found) if found else json_answer(b'{"error":{}}', "404 Not Found"))

    async with upstream(script) as made:
        yield made


def test_a_response_is_found_again_where_it_was_made(tmp_path: Path) -> None:
    """Get, cancel, delete and going on reach the one replica, also through another gateway after a restart."""

    async def scenario() -> None:
        async with engine() as one, engine() as two, AsyncExitStack() as stack:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient(headers=AUTHORIZED))
            made: dict[str, str] = {}
            while len(set(made.values())) < 2:
                answer = await client.post(running.url + URL, json=ASK)
                made[answer.json()["id"]] = answer.headers["x-meridian-replica"]
            again = await stack.enter_async_context(gateway(tmp_path / "second", state))
            for url in (running.url, again.url):
                for response_id, replica in made.items():
                    for method, path in (("GET", "?stream=false"), ("POST", "/cancel"), ("DELETE", "")):
                        found = await client.request(method, f"{url}{URL}/{response_id}{path}")
                        assert (found.status_code, found.headers["x-meridian-replica"]) == (200, replica)
                        assert found.json()["id"] == response_id
                    after = await client.post(url + URL, json={**ASK, "previous_response_id": response_id})
                    assert after.headers["x-meridian-replica"] == replica
            assert {r.line.split()[1] for r in one.received + two.received} >= {
                f"{URL}/{response_id}?stream=false" for response_id in made
            }
            records = await running.usage_of(len(made) * 5)
            assert {r.route for r in records} == {"responses", "stored_responses"}
            assert all(r.input_tokens == r.output_tokens == 0 for r in records if r.route != "responses")

    run(scenario())


def test_nothing_tells_whether_an_id_is_another_projects_forged_or_gone(tmp_path: Path) -> None:
    """Another project's key, an altered id and one of a replica that has gone get the same 404."""

    async def scenario() -> None:
        async with engine() as one, AsyncExitStack() as stack:
            keys = [api_key(SECRET), api_key("sk-other", project_id="project-2", api_key_id="key-2")]
            tables = [route(revisions=(revision(("c-eu",)),)), route(project_id="project-2")]
            state = agent_state(tmp_path / "agent", one.port, keys=keys, routes=tables)
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=running.url))
            name = (await client.post(URL, json=ASK, headers=AUTHORIZED)).json()["id"]
            asked = len(one.received)
            altered = name[:-1] + ("0" if name[-1] != "0" else "1")
            for headers, response_id in (
                (OTHER, name),
                (AUTHORIZED, altered),
                (AUTHORIZED, name.upper().replace("RESP_", "resp_")[:-2]),
                (AUTHORIZED, "resp_own"),
                (AUTHORIZED, "resp_" + "0" * 48),
            ):
                refused = [await client.get(f"{URL}/{response_id}", headers=headers)]
                body = {**ASK, "previous_response_id": response_id}
                refused.append(await client.post(URL, json=body, headers=headers))
                for answer in refused:
                    assert answer.status_code == 404
                    assert answer.json()["error"]["code"] == "response_not_found"
            for odd in ("", "resp_" + " " * 48, "resp_" + "é" * 48, name[:29] + " " * 24, "x" * 10_000):
                body = {**ASK, "previous_response_id": odd}
                assert (await client.post(URL, json=body, headers=AUTHORIZED)).status_code == 404
            assert len(one.received) == asked

    run(scenario())


def test_a_response_of_another_region_is_asked_for_there(tmp_path: Path) -> None:
    """A gateway without replicas passes the question to the cluster that the id belongs to, and only to it."""

    async def scenario() -> None:
        async with engine() as far, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            shared = [route(revisions=(revision(("c-us",)),))]
            await world.start("c-us", far.port, routes=shared, peers=(world.peer("c-eu", 1),))
            near = await world.start("c-eu", routes=shared, peers=(world.peer("c-jp", 1),))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=near.url, headers=AUTHORIZED))
            name = (await client.post(URL, json=ASK)).json()["id"]
            found = await client.get(f"{URL}/{name}")
            assert (found.status_code, found.headers["x-meridian-served-region"]) == (200, "us-east")
            after = await client.post(URL, json={**ASK, "previous_response_id": name})
            assert after.status_code == 200
            assert json.loads(far.received[-1].body)["previous_response_id"] == name

    run(scenario())


@pytest.mark.parametrize(
    ("more", "status", "named"),
    [
        ({}, 200, True),
        ({"store": False}, 200, False),
        ({"request_id": "resp_of_my_own"}, 200, True),
        ({"background": True}, 400, False),
    ],
)
def test_who_names_a_response(tmp_path: Path, more: dict[str, Any], status: int, named: bool) -> None:
    """The gateway names what may be stored, whatever the client says; a response in the background is refused."""

    async def scenario() -> None:
        async with engine() as one, AsyncExitStack() as stack:
            state = agent_state(tmp_path / "agent", one.port)
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED)
            )
            answer = await client.post(URL, json={**ASK, **more})
            assert answer.status_code == status
            if status == 200:
                sent = json.loads(one.received[0].body)
                assert ("request_id" in sent) is named
                assert {**sent, **more, "request_id": 0} == {**ASK, **more, "request_id": 0}
                assert sent.get("request_id") != "resp_of_my_own"

    run(scenario())


def test_residency_is_kept_where_a_response_lies(tmp_path: Path) -> None:
    """A response made elsewhere before the residency was set is not asked for there: it fails closed."""

    async def scenario() -> None:
        async with engine() as far, engine() as here, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            free = [route(revisions=(revision(("c-us",)),))]
            bound = [route(residency=("eu",), revisions=(revision(("c-eu", "c-us")),))]
            us = await world.start("c-us", far.port, routes=free, peers=(world.peer("c-eu", 1),))
            eu = await world.start("c-eu", here.port, routes=bound)
            client = await stack.enter_async_context(httpx.AsyncClient(headers=AUTHORIZED))
            name = (await client.post(us.url + URL, json=ASK)).json()["id"]
            asked = len(far.received)
            for refused in (
                await client.get(f"{eu.url}{URL}/{name}"),
                await client.post(eu.url + URL, json={**ASK, "previous_response_id": name}),
            ):
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "stored_response"
                assert refused.headers["x-should-retry"] == "false"
            assert len(far.received) == asked

    run(scenario())
