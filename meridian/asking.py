"""One chat as its client sees it: when its first token came, when it ended, what it brought, or why nothing came."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

SERVED_REGION = "x-meridian-served-region"
CHAT_PATH = "/v1/chat/completions"

#: ``refused``: answered with an error; ``failed``: nothing came; ``broken``: it had begun, and has no end
Outcome = Literal["ok", "refused", "failed", "broken"]

_REASON_CHARS_MAX = 200


@dataclass(slots=True)
class Answer:
    """What came. Times are seconds from when it was asked for.

    ttft_s:  until the first piece of a stream; None without one
    gaps_s:  between one piece and the next
    region:  that served it; empty if none did, or if it was no gateway that was asked
    error:   what is the same of all failures of one kind: ``503 no_replica``, ``ReadTimeout``
    reason:  what was said
    """

    outcome: Outcome
    took_s: float = 0.0
    ttft_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    region: str = ""
    error: str = ""
    reason: str = ""


async def ask(client: httpx.AsyncClient, url: str, body: Mapping[str, Any]) -> Answer:
    """Ask ``url`` (without a path) for a chat and take it to its end. Raises nothing that the network does."""
    began_s = time.monotonic()
    answer = Answer(outcome="failed")
    try:
        async with client.stream("POST", f"{url}{CHAT_PATH}", json=body) as response:
            answer.region = response.headers.get(SERVED_REGION, "")
            if response.status_code >= 400:
                await response.aread()
                _refused(answer, response)
            elif body.get("stream"):
                await _take_stream(answer, response, began_s)
            else:
                await response.aread()
                _count(answer, _decoded(response.text))
                answer.outcome = "ok"
    except httpx.HTTPError as error:
        answer.outcome = "broken" if answer.ttft_s is not None else "failed"
        answer.region = answer.region if answer.ttft_s is not None else ""
        answer.error = type(error).__name__
        answer.reason = (str(error) or type(error).__name__)[:_REASON_CHARS_MAX]
    answer.took_s = time.monotonic() - began_s
    return answer


def _refused(answer: Answer, response: httpx.Response) -> None:
    said = _decoded(response.text).get("error")
    code = (said.get("code") or said.get("type")) if isinstance(said, dict) else None
    answer.outcome, answer.region = "refused", ""
    answer.error = f"{response.status_code} {code}" if code else str(response.status_code)
    answer.reason = f"{response.status_code}: {response.text[:_REASON_CHARS_MAX]}"


async def _take_stream(answer: Answer, response: httpx.Response, began_s: float) -> None:
    gaps: list[float] = []
    last_s = began_s
    answer.outcome, answer.error = "broken", "no end"
    answer.reason = "the stream ended without its end"
    try:
        async for line in response.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                answer.outcome, answer.error, answer.reason = "ok", "", ""
                return
            event = _decoded(data)
            if "error" in event:
                answer.error, answer.reason = "error event", data[:_REASON_CHARS_MAX]
                return
            _count(answer, event)
            if not _has_content(event):
                continue
            now_s = time.monotonic()
            if answer.ttft_s is None:
                answer.ttft_s = now_s - began_s
            else:
                gaps.append(now_s - last_s)
            last_s = now_s
    finally:
        answer.gaps_s = tuple(gaps)


def _has_content(event: Mapping[str, Any]) -> bool:
    """Whether a piece brings something of the answer: the first of some engines names the role alone."""
    return any(_said(choice) for choice in event.get("choices") or ())


def _said(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def _count(answer: Answer, event: Mapping[str, Any]) -> None:
    usage = event.get("usage")
    if isinstance(usage, dict):
        answer.input_tokens = _whole(usage.get("prompt_tokens"))
        answer.output_tokens = _whole(usage.get("completion_tokens"))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _decoded(text: str) -> dict[str, Any]:
    """An object; empty where there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
