"""The bytes of OpenAI's answers: whole ones and the chunks of a stream. Pure.

A stream's chunks differ only in their text and ids, so all around it is encoded once per request.
"""

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from workloadplane.engines.simulator.text import token_id

STREAM_END = b"data: [DONE]\n\n"
_encode = msgspec.json.encode


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one request over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def as_json(self) -> dict[str, Any]:
        """OpenAI's form."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Choice(msgspec.Struct, kw_only=True):
    """One finished answer."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


class AnswerForm(Protocol):
    """How one route writes its answers. ``opening`` comes before a choice's first chunk."""

    def opening(self, index: int) -> bytes:
        """Bytes to send before the first token of a choice."""

    def chunk(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> bytes:
        """One token as an event."""

    def usage_chunk(self, usage: Usage) -> bytes:
        """The event with the usage and no choices."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""


class _Form:
    """What chat and completions share: ``head`` is the JSON of a chunk up to its choices.

    ``prompt_ids`` holds each choice's prompt if token ids were asked for, as ``return_token_ids`` of vLLM gives
    them: of the prompt once, where the answer begins, and of the answer token by token. Else ``null`` stands there.
    """

    stream_object = ""
    whole_object = ""

    def __init__(
        self, *, answer_id: str, model: str, created: int, prompt_ids: Sequence[Sequence[int]] | None
    ) -> None:
        self._facts = {"id": answer_id, "created": created, "model": model}
        self._prompt_ids = prompt_ids
        head = _encode({"id": answer_id, "object": self.stream_object, "created": created, "model": model})
        self._head = b"data: " + head[:-1] + b',"choices":['

    def usage_chunk(self, usage: Usage) -> bytes:
        """The event with the usage and no choices."""
        return self._head + b'],"usage":' + _encode(usage.as_json()) + b"}\n\n"

    def _event(
        self, index: int, content: bytes, token: bytes, finish_reason: str | None, *, end: bytes = b"}]}\n\n"
    ) -> bytes:
        parts = [self._head, b'{"index":%d,' % index, content, b',"logprobs":null,"finish_reason":']
        parts.append(b"null" if finish_reason is None else b'"%s"' % finish_reason.encode())
        if token:
            parts.append(
                b',"token_ids":null' if self._prompt_ids is None else b',"token_ids":[%d]' % token_id(token)
            )
        parts.append(end)
        return b"".join(parts)

    def _whole(self, choices: list[dict[str, Any]], usage: Usage, **more: Any) -> bytes:
        answer = {**self._facts, "object": self.whole_object, "choices": choices, "usage": usage.as_json()}
        return _encode({**answer, **more})

    def _ids(self, choice: Choice) -> dict[str, Any]:
        return {} if self._prompt_ids is None else {"token_ids": choice.token_ids}


class ChatForm(_Form):
    """``/v1/chat/completions``."""

    stream_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def opening(self, index: int) -> bytes:
        """The role, as its own event."""
        ids = None if self._prompt_ids is None else self._prompt_ids[index]
        end = b'}],"prompt_token_ids":' + _encode(ids) + b"}\n\n"
        return self._event(index, b'"delta":{"role":"assistant","content":""}', b"", None, end=end)

    def chunk(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> bytes:
        """One token as an event."""
        content = b'"delta":{"content":' + _encode(piece.decode(errors="replace")) + b"}"
        return self._event(index, content, token, finish_reason)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""
        rows = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text},
                "logprobs": None,
                "finish_reason": choice.finish_reason,
                **self._ids(choice),
            }
            for choice in choices
        ]
        more = {} if self._prompt_ids is None else {"prompt_token_ids": self._prompt_ids[0]}
        return self._whole(rows, usage, **more)


class ToolCallForm(ChatForm):
    """``/v1/chat/completions`` where the answer is the call of a tool: its arguments come token by token."""

    def __init__(
        self,
        tool: str,
        *,
        answer_id: str,
        model: str,
        created: int,
        prompt_ids: Sequence[Sequence[int]] | None,
    ) -> None:
        super().__init__(answer_id=answer_id, model=model, created=created, prompt_ids=prompt_ids)
        self._tool = tool
        self._call_id = answer_id.replace("chatcmpl-", "chatcmpl-tool-")

    def opening(self, index: int) -> bytes:
        """The role, then the call's id and name."""
        delta = b'"delta":{"tool_calls":[' + _encode({"index": 0, **self._call(index, "")}) + b"]}"
        return super().opening(index) + self._event(index, delta, b"", None)

    def chunk(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> bytes:
        """Some of the arguments."""
        part = {"index": 0, "function": {"arguments": piece.decode(errors="replace")}}
        return self._event(index, b'"delta":{"tool_calls":[' + _encode(part) + b"]}", token, finish_reason)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""
        rows = [
            {
                "index": choice.index,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [self._call(choice.index, choice.text)],
                },
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ]
        return self._whole(rows, usage)

    def _call(self, index: int, arguments: str) -> dict[str, Any]:
        function = {"name": self._tool, "arguments": arguments}
        return {"id": f"{self._call_id}-{index}", "type": "function", "function": function}


class CompletionForm(_Form):
    """``/v1/completions``."""

    stream_object = whole_object = "text_completion"

    def __init__(
        self, *, answer_id: str, model: str, created: int, prompt_ids: Sequence[Sequence[int]] | None
    ) -> None:
        super().__init__(answer_id=answer_id, model=model, created=created, prompt_ids=prompt_ids)
        self._opening: set[int] = set()

    def opening(self, index: int) -> bytes:
        """Nothing: the first token is the first event, and is marked as that."""
        self._opening.add(index)
        return b""

    def chunk(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> bytes:
        """One token as an event."""
        content = b'"text":' + _encode(piece.decode(errors="replace"))
        if index in self._opening:
            ids = None if self._prompt_ids is None else self._prompt_ids[index]
            content += b',"prompt_token_ids":' + _encode(ids)
        self._opening.discard(index)
        return self._event(index, content, token, finish_reason)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""
        rows = [
            {
                "index": choice.index,
                "text": choice.text,
                "logprobs": None,
                "finish_reason": choice.finish_reason,
                **self._ids(choice),
                **self._prompt_of(choice),
            }
            for choice in choices
        ]
        return self._whole(rows, usage)

    def _prompt_of(self, choice: Choice) -> dict[str, Any]:
        return {} if self._prompt_ids is None else {"prompt_token_ids": self._prompt_ids[choice.index]}


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error format."""
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def embeddings_body(
    vectors: Sequence[Sequence[float]], *, model: str, base64: bool, prompt_tokens: int
) -> bytes:
    """``/v1/embeddings``; ``base64`` holds little-endian 32-bit floats."""
    rows = []
    for index, vector in enumerate(vectors):
        packed: Any = vector
        if base64:
            packed = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": packed})
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return _encode({"object": "list", "data": rows, "model": model, "usage": usage})
