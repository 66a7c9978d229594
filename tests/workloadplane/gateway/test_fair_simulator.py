"""The fair queue in front of a real engine process: what one key floods another does not feel."""

import asyncio
import time
from pathlib import Path
from statistics import median

import msgspec
import openai

from tests.support.gateway import SECRET, agent_state, gateway, run
from tests.support.tables import api_key, endpoint
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_openai_client import MESSAGES, simulator
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

SEATS = 4
TOKENS = 10


def test_a_flood_of_one_key_waits_here_and_another_key_goes_past_it(tmp_path: Path) -> None:
    """Sixty streams of one key are always open; those of the other get their first token long before; all end whole."""

    async def scenario() -> None:
        ttft_s: dict[str, list[float]] = {"flood": [], "modest": []}
        first_s: dict[int, float] = {}
        ended = asyncio.Event()

        async def one(user: openai.AsyncOpenAI, name: str) -> None:
            began_s = time.monotonic()
            stream = await user.chat.completions.create(
                model="chat", messages=MESSAGES, max_tokens=TOKENS, stream=True
            )
            finish_reason = None
            async for part in stream:
                if finish_reason is None and not part.choices[0].finish_reason:
                    first_s.setdefault(id(stream), time.monotonic() - began_s)
                finish_reason = part.choices[0].finish_reason
            assert finish_reason is not None
            ttft_s[name].append(first_s.pop(id(stream)))

        async def flood(user: openai.AsyncOpenAI) -> None:
            while not ended.is_set():
                await one(user, "flood")

        options = ("--max-num-seqs", str(SEATS), "--decode-step-s", "0.01")
        async with simulator(*options) as (port, _):
            keys = [api_key(SECRET), api_key("sk-modest", api_key_id="key-2")]
            state = agent_state(tmp_path / "agent", keys=keys)
            replica = endpoint(port, max_in_flight=SEATS)
            write_state(
                state.directory / "endpoints.json",
                msgspec.json.encode(EndpointSet(endpoint_generation=1, endpoints=(replica,))),
            )
            async with (
                gateway(tmp_path / "gateway", state) as running,
                openai.AsyncOpenAI(base_url=running.url + "/v1", api_key=SECRET, max_retries=0) as greedy,
                openai.AsyncOpenAI(
                    base_url=running.url + "/v1", api_key="sk-modest", max_retries=0
                ) as modest,
            ):
                in_flight = running.process._context.registry.in_flight
                flooding = [asyncio.create_task(flood(greedy)) for _ in range(60)]
                await eventually_async(lambda: len(ttft_s["flood"]) >= 60, within_s=20)
                for _ in range(15):
                    await one(modest, "modest")
                    assert sum(in_flight.values()) <= SEATS, "the rest waits in the gateway"
                ended.set()
                await asyncio.gather(*flooding)
        assert len(ttft_s["modest"]) == 15
        assert sorted(ttft_s["modest"])[13] < median(ttft_s["flood"][60:]) / 2

    run(scenario())
