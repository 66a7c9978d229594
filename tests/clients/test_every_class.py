"""Every class of route by plain HTTP: what the answer says of its tokens is what the gateway writes down."""

from typing import Any

import httpx
import pytest

from tests.clients.conftest import Served
from tests.support.gateway import AUTHORIZED

_ASK = [{"role": "user", "content": "hello"}]
_STREAM = {"stream": True}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "/v1/chat/completions", {"messages": _ASK, "max_tokens": 4}),
    ("chat", "/v1/chat/completions", {"messages": _ASK, "max_tokens": 4, **_STREAM}),
    ("completions", "/v1/completions", {"prompt": "Once", "max_tokens": 4}),
    ("completions", "/v1/completions", {"prompt": "Once", "max_tokens": 4, **_STREAM}),
    ("responses", "/v1/responses", {"input": "hello", "max_output_tokens": 4}),
    ("responses", "/v1/responses", {"input": "hello", "max_output_tokens": 4, **_STREAM}),
    ("messages", "/v1/messages", {"messages": _ASK, "max_tokens": 4}),
    ("messages", "/v1/messages", {"messages": _ASK, "max_tokens": 4, **_STREAM}),
    ("embeddings", "/v1/embeddings", {"input": ["a b c", "d"]}),
    ("score", "/v1/score", {"text_1": "river", "text_2": ["sea", "a river"]}),
    ("score", "/score", {"queries": "river", "documents": ["sea"]}),
    ("rerank", "/v1/rerank", {"query": "river", "documents": ["sea", "river", "a"], "top_n": 2}),
    ("rerank", "/v2/rerank", {"query": "river", "documents": ["sea", "river"]}),
    ("rerank", "/rerank", {"query": "river", "documents": ["sea", "river"]}),
    ("count_tokens", "/v1/messages/count_tokens", {"messages": _ASK}),
    ("tokenize", "/tokenize", {"prompt": "hello there"}),
    ("tokenize", "/detokenize", {"tokens": [353]}),
    ("speech", "/v1/audio/speech", {"input": "hello", "voice": "a"}),
]
_GENERATING = {"chat", "completions", "responses", "messages"}
_PREFILLING = {"embeddings", "score", "rerank"}


@pytest.mark.parametrize(("name", "path", "body"), CASES)
def test_a_class_is_relayed_and_counted(served: Served, name: str, path: str, body: dict[str, Any]) -> None:
    """Streams and whole answers alike; what only looks at tokens costs none."""
    answer = httpx.post(served.url + path, json={"model": "chat", **body}, headers=AUTHORIZED, timeout=20)
    assert answer.status_code == 200, answer.text
    record = served.usage_of(answer.headers["x-request-id"])
    assert (record.route, record.outcome) == (name, "ok")
    assert record.output_tokens == (4 if name in _GENERATING else 0)
    if name in _PREFILLING:
        assert record.input_tokens == answer.json()["usage"]["prompt_tokens"] > 0
    else:
        assert bool(record.input_tokens) is (name in _GENERATING)
    if name in _GENERATING:
        assert record.ttft_s is not None


def test_the_nearest_document_comes_first(served: Served) -> None:
    """Rerank and score agree, so either can be told apart from noise."""
    documents = ["the sea", "a red river", "river"]
    asked = {"model": "chat", "query": "river", "documents": documents, "top_n": 1}
    ranked = httpx.post(served.url + "/rerank", json=asked, headers=AUTHORIZED).json()
    assert [result["document"]["text"] for result in ranked["results"]] == ["river"]
    asked = {"model": "chat", "text_1": "river", "text_2": documents}
    scored = httpx.post(served.url + "/score", json=asked, headers=AUTHORIZED).json()
    assert max(scored["data"], key=lambda row: row["score"])["index"] == 2
    assert scored["data"][2]["score"] == ranked["results"][0]["relevance_score"]


def test_a_transcript_streams(served: Served) -> None:
    """In vLLM's chunks, ended by [DONE]."""
    answer = httpx.post(
        served.url + "/v1/audio/transcriptions",
        data={"model": "chat", "stream": "true"},
        files={"file": ("a.wav", bytes(64_000), "audio/wav")},
        headers=AUTHORIZED,
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("transcription.chunk") > 2
    assert answer.text.endswith("data: [DONE]\n\n")
    assert served.usage_of(answer.headers["x-request-id"]).outcome == "ok"
