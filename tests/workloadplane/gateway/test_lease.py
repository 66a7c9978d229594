"""What one region alone may serve is served only while the control plane is heard."""

import asyncio
import time
from pathlib import Path

import httpx
import msgspec

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    agent,
    agent_state,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)
from tests.support.tables import api_key, header, revision, route
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import Acknowledgement, Hello, PlaneHeard, TablePush
from workloadplane.protocol.refusal import Refusal

CHAT = {"model": "chat", "messages": []}
URL = "/v1/chat/completions"


def test_active_passive_fails_closed_without_the_control_plane(tmp_path: Path) -> None:
    """Not heard since the start, or too long ago: 503 that names the rule; heard lately: served."""

    async def scenario() -> None:
        alone = route(posture="active_passive", revisions=(revision(("c-eu",)),))
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port, routes=[alone])
            async with (
                agent(state.directory) as plane,
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                await plane.hears(lambda message: isinstance(message, Hello), "the gateway")

                async def answers(status: int) -> bool:
                    return (await client.post(URL, json=CHAT)).status_code == status

                refused = await client.post(URL, json=CHAT)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "lease"
                assert "retry-after" in refused.headers
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic()))
                await eventually_async(lambda: answers(200), what="it serves with the lease")
                assert "meridian_gateway_plane_stale 0.0" in (await client.get("/metrics")).text
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic() - 3601))  # the tests' tables: an hour
                await eventually_async(lambda: answers(503), what="it refuses once the lease is over")
                assert "meridian_gateway_plane_stale 1.0" in (await client.get("/metrics")).text

    run(scenario())


def test_a_lease_renewed_with_news_counts_only_with_the_news(tmp_path: Path) -> None:
    """The answer may have said that another region serves: a gateway that has not heard that goes on refusing."""

    async def scenario() -> None:
        alone = route(posture="active_passive", revisions=(revision(("c-eu",)),))
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port, routes=[alone])
            async with (
                agent(state.directory) as plane,
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                await plane.hears(lambda message: isinstance(message, Hello), "the gateway")
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic(), routing_generation=2))
                table = state.signer.keyset([api_key(SECRET)], audience="c-eu", generation=2)
                plane.push(TablePush(kind="keyset", table=table))
                await plane.hears(
                    lambda m: m == Acknowledgement(kind="keyset", generation=2), "all before it"
                )
                assert (await client.post(URL, json=CHAT)).json()["error"]["code"] == "lease"
                newer = state.signer.routing(header("c-eu"), [alone], audience="c-eu", generation=2)
                plane.push(TablePush(kind="routing", table=newer))
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic(), routing_generation=2))

                async def serves() -> bool:
                    return (await client.post(URL, json=CHAT)).status_code == 200

                await eventually_async(serves, what="it serves by the newer table")

    run(scenario())


def test_a_request_waits_while_one_cluster_hands_over_to_another(tmp_path: Path) -> None:
    """Nobody serves for a moment: it is held as if a replica started, and goes to who is named next."""
    moving = msgspec.structs.replace(
        route(posture="active_passive", revisions=(revision(()),)),
        refusal=Refusal(rule="handing_over", subject="deployment", value="v", remedy="try again shortly"),
    )
    taken_over = route(posture="active_passive", revisions=(revision(("c-eu",)),))

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port, routes=[moving])
            async with (
                agent(state.directory) as plane,
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                await plane.hears(lambda message: isinstance(message, Hello), "the gateway")
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic()))
                asked = asyncio.create_task(client.post(URL, json=CHAT))

                async def waits() -> bool:
                    told = (await client.get("/metrics")).text
                    return any(
                        line.startswith("meridian_gateway_waiting_requests") and line.endswith(" 1.0")
                        for line in told.splitlines()
                    )

                await eventually_async(waits, what="it waits")
                table = state.signer.routing(header("c-eu"), [taken_over], audience="c-eu", generation=2)
                plane.push(TablePush(kind="routing", table=table))
                plane.push(PlaneHeard(at_monotonic_s=time.monotonic(), routing_generation=2))
                assert (await asked).status_code == 200

    run(scenario())


def test_what_nobody_serves_is_refused_with_the_reason(tmp_path: Path) -> None:
    """503, Retry-After and the control plane's words; listed only while it is placed somewhere."""
    full = Refusal(rule="pool_capacity", subject="pool h100", value="0 GPUs free", remedy="enlarge the pool")
    moving = Refusal(
        rule="handing_over", subject="deployment", value="from us to eu", remedy="try again shortly"
    )
    routes = [
        msgspec.structs.replace(route("nowhere"), placed=False, refusal=full),
        msgspec.structs.replace(route("moving", posture="active_passive"), refusal=moving),
    ]

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", routes=routes)
        async with (
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            for name, rule, said in (
                ("nowhere", "pool_capacity", "pool h100: 0 GPUs free"),
                ("moving", "handing_over", "from us to eu"),
            ):
                refused = await client.post(URL, json={"model": name, "messages": []})
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) > 0
                error = refused.json()["error"]
                assert (error["code"], error["type"], error["param"]) == (rule, "server_error", "model")
                assert said in error["message"]
            listed = (await client.get("/v1/models")).json()["data"]
            assert [model["id"] for model in listed] == ["moving"]
            assert (await client.get("/v1/models/nowhere")).status_code == 404

    run(scenario())
