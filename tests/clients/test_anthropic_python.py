"""Anthropic's Python client, unchanged: messages whole and streamed, tools, token counts, errors."""

from typing import Any

import anthropic
import pytest

from tests.clients.conftest import Served

MESSAGES: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
TOOL: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


@pytest.fixture
def client(served: Served) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=served.url, api_key=served.key, max_retries=0, timeout=20)


def test_messages(served: Served, client: anthropic.Anthropic) -> None:
    """Whole and streamed say the same; usage is what the client sees."""
    whole: Any = client.messages.create(model="chat", max_tokens=9, system="Be kind.", messages=MESSAGES)
    assert whole.content[0].text
    record = served.usage_of(whole._request_id)
    assert (record.route, record.input_tokens) == ("messages", whole.usage.input_tokens)
    assert record.output_tokens == whole.usage.output_tokens == 9
    with client.messages.stream(model="chat", max_tokens=9, system="Be kind.", messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    assert served.usage_of(stream.request_id).output_tokens == 9


def test_tools(client: anthropic.Anthropic) -> None:
    """A forced tool is called with valid input, whole and streamed."""
    asked: Any = {"model": "chat", "max_tokens": 50, "messages": MESSAGES, "tools": [TOOL]}
    asked["tool_choice"] = {"type": "tool", "name": "weather"}
    whole: Any = client.messages.create(**asked)
    assert (whole.stop_reason, whole.content[0].type) == ("tool_use", "tool_use")
    assert set(whole.content[0].input) == {"place"}
    with client.messages.stream(**asked) as stream:
        final: Any = stream.get_final_message()
    assert final.content[0].input == whole.content[0].input
    result = {"type": "tool_result", "tool_use_id": whole.content[0].id, "content": "rain"}
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": whole.content},
        {"role": "user", "content": [result]},
    ]
    after: Any = client.messages.create(model="chat", max_tokens=5, messages=turns, tools=[TOOL])
    assert after.content[0].text


def test_models_and_token_counts(client: anthropic.Anthropic) -> None:
    """The list has what this client wants of a model; counting tokens costs none."""
    (model,) = client.models.list()
    assert (model.id, model.type, model.display_name) == ("chat", "model", "chat")
    assert client.models.retrieve("chat").created_at.year == 2025
    counted = client.messages.count_tokens(model="chat", messages=MESSAGES)
    assert (
        counted.input_tokens
        == client.messages.create(model="chat", max_tokens=1, messages=MESSAGES).usage.input_tokens
    )


def test_errors(served: Served, client: anthropic.Anthropic) -> None:
    """The gateway's and the engine's refusals raise this client's classes, in its own shape."""
    for raised, options in (
        (anthropic.NotFoundError, {"model": "absent", "max_tokens": 1}),
        (anthropic.BadRequestError, {"model": "chat", "max_tokens": 10_000_000}),
    ):
        with pytest.raises(raised) as refused:
            client.messages.create(messages=MESSAGES, **options)  # type: ignore[call-overload]
        body: Any = refused.value.body
        assert body["type"] == "error"
        assert body["error"]["message"]
        assert refused.value.request_id
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=served.url, api_key="wrong", max_retries=0).messages.create(
            model="chat", max_tokens=1, messages=MESSAGES
        )
