"""Responses, Messages, tools, JSON schemas and tokens of a real vLLM, through a gateway: slow, once."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from infra.embedded import example_model
from tests.support.gateway import SECRET, Running, agent_state, gateway
from tests.support.waiting import eventually_async
from workloadplane.engines.base import EngineCommand, EngineEndpoint, EnginePlace, EngineReplica
from workloadplane.engines.vllm import ENGINE
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.ports import free_port

ENGINES_DIR = Path(__file__).parents[3] / ".engines"
VERSION = "0.32.0"
KEY = "engine-secret"
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["mood", "sure"],
    "additionalProperties": False,
}
ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(
    isinstance(ENGINE.interpreter(ENGINES_DIR, VERSION), Refusal), reason="vLLM's environment was not made"
)
def test_what_is_relayed_is_what_vllm_serves(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Ids of stored responses are taken, streams have their last event, usage is what the client is told."""
    assert pytestconfig.cache is not None
    cache_dir = pytestconfig.cache.mkdir("vllm")
    with _vllm(tmp_path, cache_dir) as engine:
        asyncio.run(asyncio.wait_for(_scenario(tmp_path, engine), ENGINE.start_timeout_s + 180))


@contextmanager
def _vllm(directory: Path, cache_dir: Path) -> Iterator[EngineEndpoint]:
    """The engine as an agent starts it, and with a memory of responses: off by default, for it has no bound."""
    interpreter = ENGINE.interpreter(ENGINES_DIR, VERSION)
    port = free_port("routes-for-real", host="127.0.0.1", taken=())
    assert port is not None
    replica = EngineReplica(
        served_model="chat",
        source_uri=example_model.ensure(directory).source_uri,
        precision="bfloat16",
        max_context_tokens=512,
        engine_version=VERSION,
        arguments={"max_num_seqs": "8", "enable_auto_tool_choice": "true", "tool_call_parser": "pythonic"},
        engine_key=KEY,
        shutdown_timeout_s=5.0,
    )
    place = EnginePlace(host="127.0.0.1", port=port, interpreter=str(interpreter), cache_dir=str(cache_dir))
    command = ENGINE.command(replica, place)
    assert isinstance(command, EngineCommand)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    more = {**command.environment, **command.secrets, "VLLM_ENABLE_RESPONSES_API_STORE": "1"}
    with (directory / "vllm.log").open("wb") as log:
        engine = subprocess.Popen(command.argv, env={**kept, **more}, stdout=log, stderr=log)
        try:
            yield EngineEndpoint(host="127.0.0.1", port=port, served_model="chat", engine_key=KEY)
        finally:
            engine.terminate()
            engine.wait(timeout=60)


async def _scenario(directory: Path, engine: EngineEndpoint) -> None:
    async with httpx.AsyncClient() as client:

        async def is_ready() -> bool:
            return (await ENGINE.probe(client, engine, timeout_s=30)).ready

        await eventually_async(is_ready, within_s=ENGINE.start_timeout_s, what="vLLM")
    state = agent_state(directory / "agent", engine.port)
    async with gateway(directory / "gateway", state) as running:
        await asyncio.to_thread(_openai, running)
        await asyncio.to_thread(_anthropic, running)
        records = await running.usage_of(12)
        counted = [record for record in records if record.route in {"responses", "messages", "chat"}]
        assert all(record.input_tokens and record.output_tokens for record in counted if record.status == 200)


def _openai(running: Running) -> None:
    client = openai.OpenAI(base_url=running.url + "/v1", api_key=SECRET, max_retries=0, timeout=120)
    first = client.responses.create(model="chat", input="hello", max_output_tokens=8)
    assert first.usage is not None
    assert first.usage.output_tokens == 8
    assert client.responses.retrieve(first.id).id == first.id
    after = client.responses.create(
        model="chat", input="more", previous_response_id=first.id, max_output_tokens=8
    )
    assert after.usage is not None
    assert after.usage.input_tokens > first.usage.input_tokens
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(first.id)
    events = list(client.responses.create(model="chat", input="hello", max_output_tokens=8, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"

    tool: Any = {"type": "function", "function": {"name": "mood", "parameters": SCHEMA}}
    answer = client.chat.completions.create(
        model="chat",
        messages=ASK,
        max_tokens=60,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "mood"}},
    )
    message: Any = answer.choices[0].message
    assert message.tool_calls[0].function.name == "mood"
    assert message.tool_calls[0].function.arguments.lstrip().startswith("{")  # random weights seldom end it
    answer = client.chat.completions.create(
        model="chat",
        messages=ASK,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}},
    )
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")
    with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {SECRET}"}) as raw:
        tokens = raw.post("/tokenize", json={"model": "chat", "prompt": "hello"}).json()["tokens"]
        told = raw.post("/detokenize", json={"model": "chat", "tokens": tokens}).json()
        assert told["prompt"].endswith("hello")


def _anthropic(running: Running) -> None:
    client = anthropic.Anthropic(base_url=running.url, api_key=SECRET, max_retries=0, timeout=120)
    counted = client.messages.count_tokens(model="chat", messages=ASK)
    whole = client.messages.create(model="chat", max_tokens=8, messages=ASK)
    assert whole.usage.input_tokens == counted.input_tokens
    assert whole.usage.output_tokens == 8
    with client.messages.stream(model="chat", max_tokens=8, messages=ASK) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == 8
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model="chat", max_tokens=100_000, messages=ASK)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == "error"
