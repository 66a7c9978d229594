"""Streams of a real engine that break, or give up their seats, and what their clients must see of it: nothing.

In float32 under greedy sampling an answer is a function of its prompt, so the joined one must be the unbroken
one. A proxy in front of one engine breaks them; for a gateway it is two replicas.
"""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.gateway import SECRET, Running, agent_state, gateway
from tests.support.real_vllm import speak_vllm
from tests.support.tables import api_key
from tests.support.waiting import eventually_async

TOKENS = 60
SEATS = 2
LONG_TOKENS = 100
#: Between the tokens of those who have the seats: else a quick engine is through before anybody else has asked.
PACE_S = 0.03
MODEST = "sk-modest"
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
PROMPTS = ("hello", "Tell me a short story about the sea, please.", "ünïcode 東京 🙂", "x" * 40)


def body(kind: str, prompt: str, tokens: int) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": "chat",
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if kind == "chat":
        return {**asked, "messages": [{"role": "user", "content": prompt}]}
    return {**asked, "prompt": prompt}


@dataclass
class Told:
    """A stream as its client saw it. ``replica``: that began it."""

    raw: bytes = b""
    replica: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        choices = [choice for event in self.events for choice in event["choices"]]
        return "".join(c.get("text") or (c.get("delta") or {}).get("content") or "" for c in choices)

    @property
    def reasons(self) -> list[str]:
        choices = [choice for event in self.events for choice in event["choices"]]
        return [c["finish_reason"] for c in choices if c.get("finish_reason")]

    @property
    def counts(self) -> list[tuple[int, int]]:
        usages = [event["usage"] for event in self.events if event.get("usage")]
        return [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages]


async def cut_streams_go_on(directory: Path, port: int, rng: random.Random, *, times: int) -> None:
    """Chats and completions, cut at random tokens: the same bytes, one id, usage counted once."""
    cuts = Cuts()
    async with cutting_proxy(port, cuts) as one, cutting_proxy(port, cuts) as two:
        state = agent_state(directory / "cut-agent", one, two)
        speak_vllm(state, one, two)
        async with gateway(directory / "cut", state, ejection_s=0.01) as running:
            whole = {(kind, prompt): await ask(running, kind, prompt) for kind in PATHS for prompt in PROMPTS}
            resumed = 0
            for number in range(times):
                kind, prompt = ("chat", "completions")[number % 2], PROMPTS[number // 2 % len(PROMPTS)]
                after = rng.randrange(1, TOKENS)
                cuts.after_events, cuts.half = [after], rng.randrange(40)
                joined = await ask(running, kind, prompt)
                is_unbroken(joined, whole[kind, prompt], f"{kind} {prompt!r} cut after {after}")
                resumed += joined.raw.count(b": resumed\n")
            # Where an engine puts several tokens into one event, a late cut meets an answer that is complete.
            assert resumed > times // 2


async def seats_are_taken_back(directory: Path, port: int) -> None:
    """A greedy key has all seats; a modest one gets each of its answers in one of them, and nobody loses a byte."""
    keys = [api_key(SECRET), api_key(MODEST, api_key_id="key-2")]
    asked = list(zip(PATHS, PROMPTS[1:], strict=False))
    cuts = Cuts()
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cutting_proxy(port, cuts))
        state = agent_state(directory / "seats-agent", proxy, keys=keys)
        speak_vllm(state, proxy, seats=SEATS)
        running = await stack.enter_async_context(gateway(directory / "seats", state))
        whole = await asyncio.gather(*(ask(running, *each, LONG_TOKENS) for each in asked))
        cuts.pace_s = PACE_S
        greedy = [Told() for _ in asked]
        streams = [
            asyncio.create_task(ask(running, *each, LONG_TOKENS, told=told))
            for each, told in zip(asked, greedy, strict=True)
        ]
        await eventually_async(lambda: all(told.text for told in greedy))
        for _ in asked:
            await ask(running, "chat", PROMPTS[0], 4, secret=MODEST)
        await asyncio.gather(*streams)
        taken_back = sum(running.process._context.counters.preemptions.values())
    assert taken_back >= 1
    assert sum(told.raw.count(b": resumed\n") for told in greedy) == taken_back
    for told, unbroken in zip(greedy, whole, strict=True):
        is_unbroken(told, unbroken, f"{taken_back} seats taken back")


async def ask(
    running: Running,
    kind: str,
    prompt: str,
    tokens: int = TOKENS,
    *,
    secret: str = SECRET,
    told: Told | None = None,
) -> Told:
    """``told``: to be filled as it comes."""
    told = told or Told()
    headers = {"authorization": f"Bearer {secret}"}
    async with (
        httpx.AsyncClient(timeout=120) as client,
        client.stream(
            "POST", running.url + PATHS[kind], json=body(kind, prompt, tokens), headers=headers
        ) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        told.replica = answer.headers.get("x-meridian-replica", "")
        async for line in answer.aiter_lines():
            told.raw += line.encode() + b"\n"
            if line.startswith("data: {"):
                told.events.append(json.loads(line[6:]))
    return told


def is_unbroken(joined: Told, whole: Told, what: str) -> None:
    assert joined.text == whole.text, what
    assert joined.raw.rstrip().endswith(b"data: [DONE]"), what
    assert len({event["id"] for event in joined.events}) == 1, what
    assert joined.reasons == whole.reasons == ["length"], what
    assert joined.counts == whole.counts, what
