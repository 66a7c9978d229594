"""langchain-openai against a gateway."""

import asyncio

import openai
from checks import KEY, MESSAGES, MODEL, SCHEMA, TOOL, URL, raises, run
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

TO = {"model": MODEL, "base_url": f"{URL}/v1", "api_key": KEY, "max_retries": 0}


def chat():
    answer = ChatOpenAI(**TO, max_tokens=6).invoke(MESSAGES)
    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 6


def stream():
    model = ChatOpenAI(**TO, max_tokens=6, stream_usage=True)
    chunks = list(model.stream(MESSAGES))
    assert "".join(chunk.content for chunk in chunks) == model.invoke(MESSAGES).content
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) == 6


def tools():
    model = ChatOpenAI(**TO).bind_tools([TOOL], tool_choice="person")
    answer = model.invoke(MESSAGES)
    (call,) = answer.tool_calls
    assert call["args"]["age"] >= 18
    turns = [("user", "hello"), answer, ToolMessage("Ada", tool_call_id=call["id"])]
    assert ChatOpenAI(**TO, max_tokens=5).invoke(turns).content


def json_schema():
    for method in ("json_schema", "function_calling"):
        person = ChatOpenAI(**TO).with_structured_output(SCHEMA, method=method).invoke(MESSAGES)
        assert person["age"] >= 18, method


def responses():
    model = ChatOpenAI(**TO, max_tokens=6, use_responses_api=True)
    first = model.invoke(MESSAGES)
    assert first.text
    again = model.invoke([("user", "and then?")], previous_response_id=first.response_metadata["id"])
    assert again.text
    assert "".join(chunk.text for chunk in model.stream(MESSAGES)) == first.text


def completions():
    assert OpenAI(**TO, max_tokens=5).invoke("Once")


def embeddings():
    # Without that check it would fetch the tokeniser of a model of OpenAI's.
    made = OpenAIEmbeddings(**TO, check_embedding_ctx_length=False).embed_documents(["a", "b"])
    assert len(made) == 2


def errors():
    wrong = {**TO, "api_key": "wrong"}
    raises(openai.AuthenticationError, lambda: ChatOpenAI(**wrong).invoke(MESSAGES))
    raises(openai.NotFoundError, lambda: ChatOpenAI(**{**TO, "model": "absent"}).invoke(MESSAGES))
    raises(openai.BadRequestError, lambda: ChatOpenAI(**TO, max_tokens=10_000_000).invoke(MESSAGES))


def time_out():
    long = ChatOpenAI(**TO, max_tokens=4000, timeout=0.3, extra_body={"ignore_eos": True})
    raises(openai.APITimeoutError, lambda: long.invoke(MESSAGES))


def cancel():
    async def left():
        chunks = ChatOpenAI(**TO, max_tokens=4000, extra_body={"ignore_eos": True}).astream(MESSAGES)
        async for _ in chunks:
            break
        await chunks.aclose()

    asyncio.run(left())


run(chat, stream, tools, json_schema, responses, completions, embeddings, errors, time_out, cancel)
