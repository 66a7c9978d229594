"""What one region alone may serve is served only while the control plane is heard."""

import time
from pathlib import Path

import httpx

from tests.support.gateway import AUTHORIZED, agent, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.tables import revision, route
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import Hello, PlaneHeard

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
