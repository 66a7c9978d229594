"""OpenAI's own Python client, unchanged, against a gateway with real simulated engines behind it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.gateway import SECRET, agent_state, gateway, run

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@contextlib.asynccontextmanager
async def simulator(*options: str) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """A simulated engine: its port and its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workloadplane.engines.simulator", "--served-model-name", "chat", *options,
        stdout=subprocess.PIPE, env={**os.environ, "MERIDIAN_ENGINE_KEY": "engine-secret"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["port"], process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def client(url: str, key: str = SECRET) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0)


def test_chat_completions_embeddings_and_models(tmp_path: Path) -> None:
    """Whole answers, streams with and without usage, embeddings and the model list work as with OpenAI."""

    async def scenario() -> None:
        async with simulator() as (port, _):
            state = agent_state(tmp_path / "agent", port)
            async with gateway(tmp_path / "gateway", state) as running, client(running.url) as user:
                assert [model.id async for model in await user.models.list()] == ["chat"]
                assert (await user.models.retrieve("chat")).id == "chat"
                whole = await user.chat.completions.create(
                    model="chat",
                    messages=MESSAGES,
                    max_tokens=5,
                )
                assert whole.usage is not None
                assert whole.usage.completion_tokens == 5

                stream = await user.chat.completions.create(
                    model="chat",
                    messages=MESSAGES,
                    max_tokens=5,
                    stream=True,
                )
                chunks = [part async for part in stream]
                assert all(part.usage is None and part.choices for part in chunks)
                text = "".join(part.choices[0].delta.content or "" for part in chunks)
                assert text == whole.choices[0].message.content

                stream = await user.chat.completions.create(
                    model="chat", messages=MESSAGES, max_tokens=5, stream=True,
                    stream_options={"include_usage": True},
                )  # fmt: skip
                last = [part async for part in stream][-1]
                assert last.usage is not None
                assert last.usage.completion_tokens == 5

                completion = await user.completions.create(model="chat", prompt="hello", max_tokens=3)
                assert completion.choices[0].text
                vectors = await user.embeddings.create(model="chat", input=["a", "b"])
                assert len(vectors.data) == 2
                records = await running.usage_of(5)
                assert [record.output_tokens for record in records] == [5, 5, 5, 3, 0]

    run(scenario())


def test_errors_are_the_clients_own(tmp_path: Path) -> None:
    """Each refusal is raised as the class that OpenAI's client has for it."""

    async def scenario() -> None:
        async with simulator() as (port, _):
            state = agent_state(tmp_path / "agent", port)
            async with gateway(tmp_path / "gateway", state) as running:

                async def asked(key: str, **changes: object) -> None:
                    async with client(running.url, key) as user:
                        options = {"model": "chat", "messages": MESSAGES, **changes}
                        await user.chat.completions.create(**options)  # type: ignore[call-overload]

                with pytest.raises(openai.AuthenticationError):
                    await asked("sk-wrong")
                with pytest.raises(openai.NotFoundError) as missing:
                    await asked(SECRET, model="absent")
                assert missing.value.code == "model_not_found"
                with pytest.raises(openai.BadRequestError) as wrong:
                    await asked(SECRET, model=5)
                assert wrong.value.param == "model"
                with pytest.raises(openai.BadRequestError):
                    await asked(SECRET, max_tokens=10_000_000)

    run(scenario())


def test_a_replica_killed_in_mid_stream_costs_an_error_only_who_opted_out(tmp_path: Path) -> None:
    """kill -9 without resuming: the client raises, and the other replica serves the next request at once."""

    async def scenario() -> None:
        slow = ("--decode-step-s", "0.02")
        async with simulator(*slow) as (one, process), simulator(*slow) as (two, _):
            state = agent_state(tmp_path / "agent", one, two)
            async with gateway(tmp_path / "gateway", state) as running, client(running.url) as user:
                broken = 0
                for _ in range(8):
                    stream = await user.chat.completions.create(
                        model="chat",
                        messages=MESSAGES,
                        max_tokens=200,
                        stream=True,
                        extra_headers={"x-meridian-resume": "off"},
                    )
                    on_one = stream.response.headers["x-meridian-replica"] == "replica-1"
                    seen = 0
                    try:
                        async for _part in stream:
                            seen += 1
                            if seen == 3 and on_one:
                                process.send_signal(signal.SIGKILL)
                            if seen == 10 and not on_one:
                                break
                    except openai.APIError as error:
                        assert on_one
                        assert error.code == "stream_broken"
                        broken += 1
                        break
                    await stream.close()
                assert broken == 1
                for _ in range(4):
                    answer = await user.chat.completions.create(
                        model="chat",
                        messages=MESSAGES,
                        max_tokens=2,
                    )
                    assert answer.usage is not None

    run(scenario())
