"""The wire behind the server that production runs: held answers, hang-ups, restarts."""

import asyncio
import signal
from subprocess import Popen

import httpx
import msgspec
import pytest
from django.db import transaction

from tests.apps.agents.world import Agent, delta, enrolled, fleet, meanwhile, placed
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_a_held_sync_behind_the_server(server: tuple[str, Popen[bytes]]) -> None:
    """News comes while the answer is held; an agent that hangs up leaves nobody waiting; the end is clean."""
    url, process = server
    project = fleet()

    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            agent = await enrolled(http, project)
            await agent.sync(observed=delta(1, {}))
            poll = asyncio.create_task(agent.sync(wait_s=20.0))
            await _waiting(http, 1)
            await meanwhile(transaction.atomic(placed), project, "chat", "eu-west")
            assert "desired" in (await poll).tables
            await _hang_up(agent)
            await _waiting(http, 0)
            assert (await agent.sync(wait_s=0.1)).refusal is None

    asyncio.run(run())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


async def _hang_up(agent: Agent) -> None:
    """Begin a long poll and give it up while it is held."""
    async with httpx.AsyncClient(base_url=agent.http.base_url, timeout=30) as http:
        impatient = Agent(
            http,
            key=agent.key,
            instance_id=agent.instance_id,
            identity=agent.identity,
            cluster_epoch=agent.cluster_epoch,
            plane_epoch=agent.plane_epoch,
            sequence=agent.sequence,
            tables=agent.tables,
        )
        poll = asyncio.create_task(impatient.post(msgspec.json.encode(impatient.request(wait_s=20.0))))
        await _waiting(agent.http, 1)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
    agent.sequence = impatient.sequence


async def _waiting(http: httpx.AsyncClient, count: int) -> None:
    """Until so many answers are held, by the server's own metrics."""

    async def held() -> bool:
        text = (await http.get("/metrics")).text
        return f"meridian_agent_syncs_waiting {float(count)}" in text

    await eventually_async(held, what=f"{count} held syncs")
