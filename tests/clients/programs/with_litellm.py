"""litellm against a gateway, by its OpenAI and its Anthropic side."""

import asyncio
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched

import litellm
from checks import FORCED, KEY, MESSAGES, MODEL, SCHEMA, TOOL, URL, raises, run

OPENAI = {
    "model": f"openai/{MODEL}",
    "api_base": f"{URL}/v1",
    "api_key": KEY,
    "num_retries": 0,
    "max_retries": 0,
}
ANTHROPIC = {
    "model": f"anthropic/{MODEL}",
    "api_base": URL,
    "api_key": KEY,
    "num_retries": 0,
    "max_retries": 0,
}


def chat():
    for to in (OPENAI, ANTHROPIC):
        answer = litellm.completion(**to, messages=MESSAGES, max_tokens=6)
        assert answer.choices[0].message.content
        assert answer.usage.completion_tokens == 6


def stream():
    for to in (OPENAI, ANTHROPIC):
        whole = litellm.completion(**to, messages=MESSAGES, max_tokens=6).choices[0].message.content
        chunks = list(litellm.completion(**to, messages=MESSAGES, max_tokens=6, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
        assert chunks[-1].choices[0].finish_reason == "length"


def tools():
    for to in (OPENAI, ANTHROPIC):
        answer = litellm.completion(**to, messages=MESSAGES, tools=[TOOL], tool_choice=FORCED, max_tokens=99)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "person"
        assert json.loads(call.function.arguments)["age"] >= 18


def json_schema():
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    answer = litellm.completion(**OPENAI, messages=MESSAGES, response_format=form)
    assert json.loads(answer.choices[0].message.content)["age"] >= 18


def embeddings():
    assert len(litellm.embedding(**OPENAI, input=["a", "b"]).data) == 2


def responses():
    first = litellm.responses(**OPENAI, input="hello", max_output_tokens=6)
    assert first.output[0].content[0].text


def errors():
    for to in (OPENAI, ANTHROPIC):
        wrong_key = {**to, "api_key": "wrong"}
        absent = {**to, "model": to["model"].replace(MODEL, "absent")}
        raises(litellm.AuthenticationError, lambda to=wrong_key: litellm.completion(**to, messages=MESSAGES))
        raises(litellm.NotFoundError, lambda to=absent: litellm.completion(**to, messages=MESSAGES))
        raises(
            litellm.BadRequestError,
            lambda to=to: litellm.completion(**to, messages=MESSAGES, max_tokens=10_000_000),
        )


def time_out():
    long = {"messages": MESSAGES, "max_tokens": 4000, "extra_body": {"ignore_eos": True}, "timeout": 0.3}
    raises(litellm.Timeout, lambda: litellm.completion(**OPENAI, **long))


def cancel():
    async def left():
        chunks = await litellm.acompletion(
            **OPENAI, messages=MESSAGES, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        async for _ in chunks:
            break
        await chunks.aclose()

    asyncio.run(left())


run(chat, stream, tools, json_schema, embeddings, responses, errors, time_out, cancel)
