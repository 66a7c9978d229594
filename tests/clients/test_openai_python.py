"""OpenAI's Python client, unchanged: everything that it offers and the gateway relays."""

import json
import math
import struct
import wave
from io import BytesIO
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients.conftest import Served

MESSAGES: Any = [{"role": "user", "content": "Who was it?"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "person", "parameters": SCHEMA}}
NAMED: Any = {"type": "function", "function": {"name": "person"}}


class Person(BaseModel):
    """What is asked for."""

    name: str
    age: int


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.v1, api_key=served.key, max_retries=0, timeout=20)


def recording(seconds: float) -> bytes:
    """A tone, as a WAV file."""
    made = BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = (round(9000 * math.sin(n / 5)) for n in range(round(8000 * seconds)))
        file.writeframes(b"".join(struct.pack("<h", value) for value in tone))
    return made.getvalue()


def test_models(served: Served, client: openai.OpenAI) -> None:
    """The list and one of them."""
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").owned_by == "meridian"
    assert client.models.list()._request_id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


def test_tools(client: openai.OpenAI) -> None:
    """A forced call has valid arguments, whole and streamed, and its result can be sent back."""
    asked: Any = {"model": "chat", "messages": MESSAGES, "tools": [TOOL], "tool_choice": NAMED}
    answer = client.chat.completions.create(**asked)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "person"
    assert Person.model_validate_json(call.function.arguments).age >= 18

    with client.chat.completions.stream(**asked) as stream:
        final: Any = stream.get_final_completion()
    (streamed,) = final.choices[0].message.tool_calls
    assert streamed.function.arguments == call.function.arguments

    turns = [
        *MESSAGES,
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "Ada"},
    ]
    after = client.chat.completions.create(model="chat", messages=turns, tools=[TOOL], max_tokens=5)
    assert after.choices[0].message.content


def test_json_schema(client: openai.OpenAI) -> None:
    """``parse`` gives an instance of the class that was asked for."""
    answer = client.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Person)
    person = answer.choices[0].message.parsed
    assert person is not None
    assert person.age >= 0
    plain = client.chat.completions.create(
        model="chat",
        messages=MESSAGES,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "p", "schema": SCHEMA, "strict": True},
        },
    )
    assert json.loads(plain.choices[0].message.content or "")["age"] >= 18


def test_responses(served: Served, client: openai.OpenAI) -> None:
    """Whole, streamed, gone on from, asked for again, deleted; usage is counted once."""
    first = client.responses.create(model="chat", input="hello", max_output_tokens=8)
    assert first.status in ("completed", "incomplete")
    assert first.output_text
    record = served.usage_of(first._request_id)
    assert first.usage is not None
    assert (record.input_tokens, record.output_tokens) == (
        first.usage.input_tokens,
        first.usage.output_tokens,
    )

    second = client.responses.create(model="chat", input="and then?", previous_response_id=first.id)
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.retrieve("resp_absent")
    assert missing.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(second.id)

    with client.responses.stream(model="chat", input="hello", max_output_tokens=8) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == first.output_text
    parsed = client.responses.parse(model="chat", input="who?", text_format=Person)
    assert parsed.output_parsed is not None


def test_embeddings(client: openai.OpenAI) -> None:
    """In both encodings."""
    packed = client.embeddings.create(model="chat", input=["a", "b"])
    plain = client.embeddings.create(model="chat", input="b", encoding_format="float")
    assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_audio(served: Served, client: openai.OpenAI) -> None:
    """A recording becomes text, and text becomes a recording."""
    heard = client.audio.transcriptions.create(model="chat", file=("a.wav", recording(2.0)))
    assert len(heard.text.split()) > 2
    text = client.audio.transcriptions.create(
        model="chat", file=("a.wav", recording(2.0)), response_format="verbose_json"
    )
    assert text.text == heard.text
    spoken = client.audio.speech.create(
        model="chat", voice="alloy", input="hello there", response_format="wav"
    )
    assert spoken.content.startswith(b"RIFF")
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.transcriptions.create(model="absent", file=("a.wav", b"x"))
    assert missing.value.code == "model_not_found"


def test_headers_of_a_raw_response(client: openai.OpenAI) -> None:
    """The request's id, the client's own if it sent one, and nothing of the engine's server."""
    raw = client.chat.completions.with_raw_response.create(
        model="chat", messages=MESSAGES, max_tokens=1, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-meridian-served-region"] == "eu-west"
    assert raw.headers["content-type"] == "application/json"
    assert "server" not in raw.headers
    answer = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=1)
    assert (answer._request_id or "").startswith("req-")
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.OpenAI(base_url=str(client.base_url), api_key="wrong", max_retries=0).models.list()
    assert (refused.value.request_id or "").startswith("req-")


def test_time_outs_and_cancelling(served: Served, client: openai.OpenAI) -> None:
    """A client's time-out is its own exception; a stream that is closed early is written down as left."""
    asked: Any = {
        "model": "chat",
        "messages": MESSAGES,
        "max_tokens": 4000,
        "extra_body": {"ignore_eos": True},
    }
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            **asked, extra_headers={"x-request-id": "timed-out"}
        )
    assert served.usage_of("timed-out").outcome == "client_gone"
    stream = client.chat.completions.create(**asked, stream=True, extra_headers={"x-request-id": "closed"})
    next(iter(stream))
    stream.close()
    assert served.usage_of("closed").outcome == "client_gone"
