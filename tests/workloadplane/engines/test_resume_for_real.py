"""Streams of real vLLM that break at random tokens, and by the death of engines, go on as if nothing had happened.

Slow: four starts of an engine. Some cuts, and seats taken back, are tried on the engine of ``test_vllm_for_real`` too.
"""

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.examples import LONG
from tests.support.gateway import agent_state, gateway
from tests.support.real_vllm import IS_MISSING, Engines, speak_vllm
from tests.workloadplane.engines.breaking_streams import (
    PROMPTS,
    TOKENS,
    ask,
    cut_streams_go_on,
    is_unbroken,
)
from workloadplane.engines.vllm import ENGINE
from workloadplane.runtimes.base import RunningReplica

CUTS = 47
KILLED = ("chat", "completions", "chat")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(IS_MISSING or not LONG, reason="make test-long breaks fifty streams of real engines")
def test_streams_that_break_at_random_tokens_are_the_unbroken_ones(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Cuts and kills, chats and completions: the same bytes, one id, usage counted once."""
    assert pytestconfig.cache is not None
    # What is broken are streams, not kernels: these would be compiled anew in every fresh checkout.
    world = Engines(tmp_path, pytestconfig.cache.mkdir("vllm"), max_num_seqs="2", enforce_eager="true")
    asyncio.run(asyncio.wait_for(_break_them(world), 4 * ENGINE.start_timeout_s + 300))


async def _break_them(world: Engines) -> None:
    rng = random.Random(7)
    async with world.opened():
        engine = await world.start()
        await cut_streams_go_on(world.directory, engine.endpoint.port, rng, times=CUTS)
        await _kill_them(world, engine, rng)


async def _kill_them(world: Engines, engine: RunningReplica, rng: random.Random) -> None:
    """A proxy holds back what an engine says while it is killed: else a quick one is through before it dies."""
    living = [engine, await world.start()]
    cuts = Cuts()

    async def kill(port: int) -> None:
        victim = next(each for each in living if each.endpoint.port == port)
        living.remove(victim)
        await world.kill(victim)

    for number, kind in enumerate(KILLED):
        prompt = PROMPTS[number]
        async with contextlib.AsyncExitStack() as stack:
            ports = [
                await stack.enter_async_context(cutting_proxy(each.endpoint.port, cuts)) for each in living
            ]
            state = agent_state(world.directory / f"kill-agent-{number}", *ports)
            speak_vllm(state, *ports)
            running = await stack.enter_async_context(gateway(world.directory / f"kill-{number}", state))
            whole = await ask(running, kind, prompt)
            after = rng.randrange(2, TOKENS // 4)
            cuts.after_events, cuts.first = [after], kill
            joined = await ask(running, kind, prompt)
            assert len(living) == 1
            is_unbroken(joined, whole, f"{kind} {prompt!r} killed after {after}")
            assert joined.raw.count(b": resumed\n") == 1
        if number < len(KILLED) - 1:
            living.append(await world.start())
