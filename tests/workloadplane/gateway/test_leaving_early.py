"""Leaving before the end is no way to have for nothing what was computed."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    SSE_HEAD,
    Received,
    Running,
    agent_state,
    chunk,
    gateway,
    post,
    run,
    upstream,
)
from tests.support.tables import api_key
from tests.support.waiting import eventually_async
from workloadplane.protocol.routing import RateLimits

LONG = "word " * 2000
CHAT = {"model": "chat", "messages": [{"role": "user", "content": LONG}], "max_tokens": 100}
_TOKENS_PER_MINUTE = 8_000


def event(**choice: object) -> bytes:
    """One of a chat's, as engines that number their tokens write them."""
    members = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    return b"data: " + json.dumps({**members, "choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


NUMBERED = event(delta={"role": "assistant", "content": ""}, prompt_token_ids=list(range(1, 2001)))
BARE = event(delta={"role": "assistant", "content": ""})


async def leave_after_the_first_token(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(post(json.dumps({**CHAT, "stream": True}).encode()))
    await reader.readuntil(b"Hello")
    writer.close()


@pytest.mark.parametrize("begins", [NUMBERED, BARE])
def test_a_prompt_counts_though_its_client_leaves(tmp_path: Path, begins: bytes) -> None:
    """Exactly where the engine told its tokens' numbers; against the key's limit by estimate where it did not."""

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(begins) + chunk(event(delta={"content": "Hello"}, token_ids=[7])))
        await reader.readexactly(1)

    async def scenario() -> None:
        limits = RateLimits(tokens_per_minute=_TOKENS_PER_MINUTE)
        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port, keys=[api_key(SECRET, limits=limits)])
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                await leave_after_the_first_token(running)
                record = (await running.usage_of(1))[0]
                assert record.outcome == "client_gone"
                assert record.output_tokens == 1
                assert record.input_tokens == (2000 if begins is NUMBERED else 0)
                for _ in range(2):
                    await leave_after_the_first_token(running)
                await running.usage_of(3)
                answer = await client.post(
                    f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, headers=AUTHORIZED
                )
                assert answer.status_code == 429, "three prompts of 2,000 tokens and more were read"

    run(scenario())


def test_an_answer_that_nobody_waits_for_counts_against_the_limit(tmp_path: Path) -> None:
    """A request that an engine worked at keeps its estimate; one that had not been sent gives it back."""

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async def scenario() -> None:
        limits = RateLimits(tokens_per_minute=_TOKENS_PER_MINUTE)
        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port, keys=[api_key(SECRET, limits=limits)])
            async with gateway(tmp_path / "gateway", state) as running:

                async def leave() -> None:
                    before = len(engine.received)
                    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    writer.write(post(json.dumps(CHAT).encode()))
                    await eventually_async(lambda: len(engine.received) > before)
                    writer.close()

                for number in range(3):
                    await leave()
                    await running.usage_of(number + 1)
                key = running.process._context.rate_limiter._keys["key-1"]
                assert key.running == 0
                assert key.tokens.level < _TOKENS_PER_MINUTE - 3 * len(LONG) / 4 + 500

    run(scenario())
