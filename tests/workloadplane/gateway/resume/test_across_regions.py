"""A region that is lost in mid-stream: the gateway that met the client goes on in another one."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.far_away import far_away
from tests.support.gateway import AUTHORIZED, run
from tests.support.simulators import Simulator, simulator
from tests.workloadplane.gateway.test_peering import URL, World, everywhere

CHAT = {
    "model": "chat",
    "messages": [{"role": "user", "content": "tell me a long story"}],
    "max_tokens": 40,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("lost", ["region", "replica"])
def test_the_rest_comes_from_another_region_and_is_counted_once(tmp_path: Path, lost: str) -> None:
    """Cut between two gateways, or between the far one and its only replica, which then has to be waited for."""

    async def scenario(near: Simulator, far: Simulator) -> None:
        cuts = Cuts()
        async with AsyncExitStack() as stack:
            replica = near.port
            if lost == "replica":
                replica = await stack.enter_async_context(cutting_proxy(near.port, cuts))
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", replica, routes=everywhere(), peers=asking)
            jp = await world.start("c-jp", far.port, routes=everywhere(), peers=asking)
            farther = world.peer("c-jp", await stack.enter_async_context(far_away(jp.port, 0.05)))
            port = us.port
            if lost == "region":
                port = await stack.enter_async_context(cutting_proxy(us.port, cuts))
            world.running.clear()
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.peer("c-us", port), farther))
            async with httpx.AsyncClient(headers=AUTHORIZED, timeout=20) as client:
                whole = await client.post(eu.url + URL, json=CHAT)
                cuts.after_events = [10]
                joined = await client.post(eu.url + URL, json=CHAT)
            assert cuts.done == 1
            assert joined.text.count(": resumed\n") == 1
            assert _text(joined.text) == _text(whole.text)
            assert joined.text.endswith("data: [DONE]\n\n")
            assert 'token_ids":[' not in joined.text
            records = await eu.usage_of(2)
            assert [(r.input_tokens, r.output_tokens, r.outcome) for r in records] == [
                (records[0].input_tokens, 40, "ok")
            ] * 2
            assert us.usage() == []

    quick = ("--decode-step-s", "0.001")
    with simulator(*quick, key="engine-secret") as near, simulator(*quick, key="engine-secret") as far:
        run(scenario(near, far))


def _text(stream: str) -> str:
    events = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)
