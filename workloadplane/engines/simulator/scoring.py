"""``/score`` and ``/rerank`` as vLLM serves them: how near texts are to one another, by their embeddings."""

import time
import uuid
from typing import Any

import msgspec

from workloadplane.engines.simulator.requests import BadRequest
from workloadplane.engines.simulator.text import embedding

_DIMENSIONS = 32
_encode = msgspec.json.encode


class ScoreRequest(msgspec.Struct, kw_only=True):
    """``POST /score``: pairs under any of vLLM's names."""

    model: str
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None


class RerankRequest(msgspec.Struct, kw_only=True):
    """``POST /rerank``."""

    model: str
    query: str
    documents: list[str]
    top_n: int = 0


def pairs_of(request: ScoreRequest) -> list[tuple[str, str]]:
    """What is compared with what: one with many, or each with its own."""
    left = _texts(request.text_1 if request.text_1 is not None else request.queries, "text_1")
    right = _texts(request.text_2 if request.text_2 is not None else request.documents, "text_2")
    if len(left) == 1:
        left *= len(right)
    if len(left) != len(right):
        raise BadRequest("text_1: give one, or as many as text_2", param="text_1")
    return list(zip(left, right, strict=True))


def score(left: list[bytes], right: list[bytes]) -> float:
    """From 0 (opposite) to 1 (equal)."""
    a, b = embedding(left, dimensions=_DIMENSIONS), embedding(right, dimensions=_DIMENSIONS)
    return round((1 + sum(x * y for x, y in zip(a, b, strict=True))) / 2, 6)


def score_body(scores: list[float], *, model: str, prompt_tokens: int) -> bytes:
    """In the order of the pairs."""
    data = [{"index": index, "object": "score", "score": value} for index, value in enumerate(scores)]
    return _encode(
        {
            "id": f"score-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": model,
            "data": data,
            "usage": {
                "prompt_tokens": prompt_tokens,
                "total_tokens": prompt_tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }
    )


def rerank_body(request: RerankRequest, scores: list[float], *, prompt_tokens: int) -> bytes:
    """The best first."""
    results: list[dict[str, Any]] = [
        {"index": index, "document": {"text": text, "multi_modal": None}, "relevance_score": value}
        for index, (text, value) in enumerate(zip(request.documents, scores, strict=True))
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    shown = results[: request.top_n or None]
    return _encode(
        {"id": f"rerank-{uuid.uuid4().hex}", "model": request.model, "usage": usage, "results": shown}
    )


def _texts(given: str | list[str] | None, param: str) -> list[str]:
    if not given:
        raise BadRequest(f"{param}: must not be empty", param=param)
    return [given] if isinstance(given, str) else list(given)
