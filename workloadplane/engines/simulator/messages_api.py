"""``/v1/messages``: Anthropic's Messages API as vLLM serves it."""

import uuid
from typing import Any

import msgspec

from workloadplane.engines.simulator.answers import Usage
from workloadplane.engines.simulator.requests import ChatRequest, Message
from workloadplane.engines.simulator.sinks import event
from workloadplane.engines.simulator.structured import Script

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_encode = msgspec.json.encode


class AnthropicTurn(msgspec.Struct):
    """One turn; blocks that are not text are shown by what they say."""

    role: str
    content: str | list[dict[str, Any]]


class MessagesRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/messages`` and, without ``max_tokens``, ``/v1/messages/count_tokens``."""

    model: str
    messages: list[AnthropicTurn]
    max_tokens: int | None = None
    system: str | list[dict[str, Any]] | None = None
    temperature: float | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    tools: Any = None
    tool_choice: Any = None
    output_config: Any = None


def as_chat(request: MessagesRequest) -> ChatRequest:
    """The same question to the chat route."""
    system = [Message(role="system", content=_text(request.system))] if request.system else []
    return ChatRequest(
        model=request.model,
        messages=[
            *system,
            *(Message(role=turn.role, content=_text(turn.content)) for turn in request.messages),
        ],
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        stop=request.stop_sequences,
    )


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(
        str(block.get("text") or block.get("content") or block.get("input") or "") for block in content
    )


class MessageForm:
    """One message, as events or whole."""

    def __init__(self, model: str, prompt_tokens: int, script: Script | None) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._tool = script.tool if script is not None else None
        self._id = f"msg_{uuid.uuid4().hex}"
        self._tool_id = f"toolu_{uuid.uuid4().hex}"

    def opening(self) -> bytes:
        """The message and its one block begin."""
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": 0}
        begun = self._message([], None, usage)
        block: dict[str, Any] = {"type": "text", "text": ""}
        if self._tool is not None:
            block = {"type": "tool_use", "id": self._tool_id, "name": self._tool, "input": {}}
        return (
            self._event("message_start", message=begun)
            + self._event("content_block_start", index=0, content_block=block)
            + self._event("ping")
        )

    def delta(self, text: str) -> bytes:
        """One token."""
        delta = {"type": "text_delta", "text": text}
        if self._tool is not None:
            delta = {"type": "input_json_delta", "partial_json": text}
        return self._event("content_block_delta", index=0, delta=delta)

    def closing(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """Block and message are complete."""
        delta = {"stop_reason": _STOP_REASONS[finish_reason], "stop_sequence": None}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=delta, usage=_usage(usage))
            + self._event("message_stop")
        )

    def whole(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """The message in one piece."""
        block: dict[str, Any] = {"type": "text", "text": text}
        if self._tool is not None:
            given = msgspec.json.decode(text) if finish_reason == "tool_calls" else {}
            block = {"type": "tool_use", "id": self._tool_id, "name": self._tool, "input": given}
        return _encode(self._message([block], _STOP_REASONS[finish_reason], _usage(usage)))

    def _message(
        self, content: list[dict[str, Any]], stop_reason: str | None, usage: dict[str, int]
    ) -> dict[str, Any]:
        facts = {"id": self._id, "type": "message", "role": "assistant", "model": self._model}
        return {
            **facts,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _event(self, name: str, **data: Any) -> bytes:
        return event(name, _encode({"type": name, **data}))


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
    }


def error_body(message: str, kind: str) -> bytes:
    """Anthropic's error format."""
    return _encode({"type": "error", "error": {"type": kind, "message": message}})
