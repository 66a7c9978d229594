"""Replicas that are about to vanish: what they still run goes on elsewhere, by a gateway, with simulated engines."""

import asyncio
from pathlib import Path

import httpx
import msgspec

from tests.support.gateway import SECRET, Running, agent_state, gateway, run
from tests.support.simulators import simulator
from tests.support.tables import endpoint
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.resume.test_giving_way import BODY, SLOW, Asked, begin
from tests.workloadplane.gateway.resume.test_resumed_streams import events_of, text_of
from workloadplane.protocol.local import Endpoint, EndpointSet


def now_there_are(running: Running, *endpoints: Endpoint) -> None:
    """What the agent says next."""
    registry = running.process._context.registry
    generation = registry.endpoint_generation + 1
    registry.adopt_endpoints(EndpointSet(endpoint_generation=generation, endpoints=endpoints))


def leaving(port: int) -> Endpoint:
    """A replica that takes nothing new, and whose streams are to go on elsewhere."""
    return msgspec.structs.replace(endpoint(port, state="draining"), hand_over=True)


async def metrics(running: Running) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{running.url}/metrics")).text


def test_a_stream_goes_on_elsewhere_as_soon_as_there_is_room(tmp_path: Path) -> None:
    """Not before: with nowhere to go it stays, and loses nothing. Then it is the unbroken one, and its replica idle."""

    async def scenario(one: int, two: int) -> None:
        state = agent_state(tmp_path / "agent", one)
        async with gateway(tmp_path / "gateway", state) as running:
            whole = Asked()
            await whole.ask(running, SECRET, BODY)
            asked, task = begin(running, SECRET, BODY)
            await eventually_async(lambda: asked.has_begun)
            now_there_are(running, leaving(one))
            size = len(asked.content)
            await eventually_async(lambda: len(asked.content) > size + 2000, what="it stays where it is")
            assert b": resumed" not in asked.content
            now_there_are(running, leaving(one), endpoint(two, replica_id="replica-2"))
            await task
            assert asked.content.count(b": resumed") == 1
            assert text_of(asked.content) == text_of(whole.content)
            assert len({event["id"] for event in events_of(asked.content)}) == 1
            assert "meridian_gateway_ejections_total{" not in await metrics(running), "nobody is to blame"

    with (
        simulator(*SLOW, key="engine-secret") as first,
        simulator(*SLOW, key="engine-secret") as second,
    ):
        run(scenario(first.port, second.port))


def test_what_has_not_begun_is_asked_of_another(tmp_path: Path) -> None:
    """An answer in one piece is made anew elsewhere, long before it would have come."""

    async def scenario(one: int, two: int) -> None:
        state = agent_state(tmp_path / "agent", one)
        async with gateway(tmp_path / "gateway", state) as running:
            body = {**BODY, "max_tokens": 50, "stream": False}
            body.pop("stream_options")
            headers = {"authorization": f"Bearer {SECRET}"}
            async with httpx.AsyncClient(timeout=50) as client:
                answer = asyncio.create_task(
                    client.post(running.url + "/v1/chat/completions", json=body, headers=headers)
                )
                in_flight = running.process._context.registry.in_flight
                await eventually_async(lambda: in_flight.get("replica-1") == 1)
                now_there_are(running, leaving(one), endpoint(two, replica_id="replica-2"))
                told = await answer
            assert (told.status_code, told.headers["x-meridian-replica"]) == (200, "replica-2")
            assert 'cause="handed_over"' in await metrics(running)

    stuck = ("--decode-step-s", "5", "--decode-step-per-sequence-s", "0")
    with (
        simulator(*stuck, key="engine-secret") as first,
        simulator(*SLOW, key="engine-secret") as second,
    ):
        run(scenario(first.port, second.port))
