"""``/v1/responses``: OpenAI's Responses API as vLLM serves it, with a bounded memory of stored responses."""

import time
import uuid
from collections import OrderedDict
from typing import Any

import msgspec

from workloadplane.engines.simulator.answers import Usage
from workloadplane.engines.simulator.requests import BadRequest, ChatRequest, Message
from workloadplane.engines.simulator.sinks import event
from workloadplane.engines.simulator.structured import Script

_STORED_MAX = 1000
_encode = msgspec.json.encode


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/responses``. ``request_id`` is vLLM's: what the response shall be called."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    stream: bool | None = None
    store: bool | None = True
    background: bool | None = False
    previous_response_id: str | None = None
    request_id: str | None = None
    tools: Any = None
    tool_choice: Any = "auto"
    text: Any = None
    metadata: Any = None


class Stored(msgspec.Struct, frozen=True):
    """A response that can be asked for again. ``turns``: the conversation with its answer."""

    body: bytes
    turns: tuple[Message, ...]


class ResponseStore:
    """The last thousand stored responses of this replica."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Stored] = OrderedDict()

    def keep(self, response_id: str, stored: Stored) -> None:
        self._by_id[response_id] = stored
        if len(self._by_id) > _STORED_MAX:
            self._by_id.popitem(last=False)

    def get(self, response_id: str) -> Stored:
        """Raises BadRequest, as vLLM words it, where there is none."""
        stored = self._by_id.get(response_id)
        if stored is None:
            raise BadRequest(f"Response with id '{response_id}' not found.", param="response_id", status=404)
        return stored

    def drop(self, response_id: str) -> None:
        self.get(response_id)
        del self._by_id[response_id]


def turns_of(request: ResponsesRequest, store: ResponseStore) -> tuple[Message, ...]:
    """The conversation so far: what the previous response had, and what is new."""
    before: tuple[Message, ...] = ()
    if request.previous_response_id is not None:
        before = store.get(request.previous_response_id).turns
    if isinstance(request.input, str):
        return (*before, Message(role="user", content=request.input))
    return (*before, *(_turn(item) for item in request.input))


def as_chat(request: ResponsesRequest, turns: tuple[Message, ...]) -> ChatRequest:
    """The same question to the chat route."""
    system = [Message(role="system", content=request.instructions)] if request.instructions else []
    return ChatRequest(
        model=request.model,
        messages=[*system, *turns],
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
    )


def _turn(item: dict[str, Any]) -> Message:
    kind = item.get("type", "message")
    if kind == "function_call":
        return Message(role="assistant", content=f"{item.get('name')}({item.get('arguments')})")
    if kind == "function_call_output":
        return Message(role="tool", content=str(item.get("output", "")))
    content = item.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return Message(role=str(item.get("role", "user")), content=str(content))


class ResponseForm:
    """One response, as events or whole."""

    def __init__(
        self,
        request: ResponsesRequest,
        model: str,
        turns: tuple[Message, ...],
        script: Script | None,
        store: ResponseStore,
    ) -> None:
        self._request = request
        self._model = model
        self._turns = turns
        self._tool = script.tool if script is not None else None
        self._store = store
        self._id = request.request_id or f"resp_{uuid.uuid4().hex}"
        self._item_id = f"{'msg' if self._tool is None else 'fc'}_{uuid.uuid4().hex}"
        self._call_id = f"call_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._number = -1

    def opening(self) -> bytes:
        """The response and its one item begin."""
        begun = {"response": self._response("in_progress", [], None)}
        parts = [self._event("response.created", **begun), self._event("response.in_progress", **begun)]
        item = self._item("", "in_progress")
        parts.append(self._event("response.output_item.added", output_index=0, item=item))
        if self._tool is None:
            parts.append(self._content_event("response.content_part.added", part=_part("")))
        return b"".join(parts)

    def delta(self, text: str) -> bytes:
        """One token."""
        if self._tool is not None:
            return self._event(
                "response.function_call_arguments.delta", item_id=self._item_id, output_index=0, delta=text
            )
        return self._content_event("response.output_text.delta", delta=text, logprobs=[])

    def closing(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """Item and response are complete."""
        if self._tool is not None:
            done = {"item_id": self._item_id, "output_index": 0, "arguments": text, "name": self._tool}
            parts = [self._event("response.function_call_arguments.done", **done)]
        else:
            parts = [
                self._content_event("response.output_text.done", text=text, logprobs=[]),
                self._content_event("response.content_part.done", part=_part(text)),
            ]
        item = self._item(text, "completed")
        parts.append(self._event("response.output_item.done", output_index=0, item=item))
        response = self._finished(text, finish_reason, usage)
        # Like vLLM, which ends a stream with this event also where the tokens were spent.
        parts.append(self._event("response.completed", response=response))
        return b"".join(parts)

    def whole(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """The response in one piece."""
        return _encode(self._finished(text, finish_reason, usage))

    def _finished(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        status = "incomplete" if finish_reason == "length" else "completed"
        response = self._response(status, [self._item(text, "completed")], usage)
        if self._request.store is not False:
            turns = (*self._turns, Message(role="assistant", content=text))
            self._store.keep(self._id, Stored(_encode(response), turns))
        return response

    def _response(self, status: str, output: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
        request = self._request
        counted = usage and {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata,
            "model": self._model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": request.previous_response_id,
            "temperature": request.temperature,
            "text": request.text,
            "tool_choice": request.tool_choice,
            "tools": request.tools or [],
            "top_p": 1.0,
            "usage": counted,
        }

    def _item(self, text: str, status: str) -> dict[str, Any]:
        if self._tool is not None:
            call = {"type": "function_call", "call_id": self._call_id, "name": self._tool, "arguments": text}
            return {**call, "id": self._item_id, "status": status}
        content = [] if status == "in_progress" else [_part(text)]
        message = {"type": "message", "role": "assistant", "content": content}
        return {**message, "id": self._item_id, "status": status}

    def _content_event(self, name: str, **data: Any) -> bytes:
        return self._event(name, item_id=self._item_id, output_index=0, content_index=0, **data)

    def _event(self, name: str, **data: Any) -> bytes:
        self._number += 1
        return event(name, _encode({"type": name, "sequence_number": self._number, **data}))


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
