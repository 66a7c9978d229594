"""Responses, Messages, tools, JSON schemas and tokens of a real vLLM, asked through a gateway."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.gateway import SECRET, Running, agent_state, gateway

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["mood", "sure"],
    "additionalProperties": False,
}
ASK: Any = [{"role": "user", "content": "hello"}]


async def what_is_relayed_is_what_it_serves(directory: Path, port: int) -> None:
    """Ids of stored responses are taken, streams have their last event, usage is what the client is told."""
    state = agent_state(directory / "agent", port)
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
