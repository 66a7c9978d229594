"""The rest of a broken answer, made to follow its first part: one id, one role, one form, one usage."""

import re
from typing import Any

import msgspec

from workloadplane.gateway.resume.continuation import Continuation
from workloadplane.gateway.resume.told import Told
from workloadplane.gateway.sse import comments_end

#: Stands where the replica changed, for whoever reads the bytes.
MARK = b": resumed\n"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_DONE_EVENT = b"data: [DONE]\n\n"
_DONE = (b"data: [DONE]", b"data:[DONE]")


class Rewriter:
    """One continuation. ``feed`` answers with whole events as the client expects them."""

    __slots__ = ("_asked", "_echo", "_facts", "_has_role", "_marked", "_tail")

    def __init__(self, asked: Continuation, told: Told) -> None:
        self._asked = asked
        self._echo = asked.echo
        self._facts = told.facts
        self._has_role = told.has_role
        self._tail = b""
        self._marked = False

    def feed(self, data: bytes) -> bytes:
        """Bytes of the continuation; what is half stays here until its rest has come."""
        buffer = self._tail + data
        out: list[bytes] = []
        if not self._marked:
            self._marked = True
            out.append(MARK)
        start = 0
        for match in _BLANK_LINE.finditer(buffer):
            out.append(self._event(buffer[start : match.end()]))
            start = match.end()
        end = comments_end(buffer, start)
        out.append(buffer[start:end])
        self._tail = buffer[end:]
        return b"".join(out)

    def _event(self, event: bytes) -> bytes:
        if self._facts is None or event.startswith(_DONE):
            return event  # nothing was told yet, so there is nothing to follow; or the end
        kept: list[bytes] = []
        for line in event.splitlines():
            if not line.startswith(b"data:") or line.startswith(_DONE):
                if line:
                    kept.append(line + b"\n")
                continue
            try:
                members = msgspec.json.decode(line[5:])
            except msgspec.DecodeError:
                return event
            if not isinstance(members, dict) or "error" in members:
                return event
            written = self._members(members)
            if written is not None:
                kept.append(b"data: " + msgspec.json.encode(written) + b"\n\n")
        return b"".join(kept)

    def _members(self, members: dict[str, Any]) -> dict[str, Any] | None:
        """An event's members as they go on; ``None`` = it says nothing new."""
        choices = members.get("choices") or []
        members.pop("prompt_token_ids", None)
        members.update(self._facts or {})
        if members.get("usage") is not None:
            members["usage"] = self._joined(members["usage"])
        kept = [choice for choice in map(self._choice, choices) if choice is not None]
        if choices and not kept:
            return None
        members["choices"] = kept
        return members

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        choice.pop("prompt_token_ids", None)
        text = choice.get("text")
        if self._echo and text:
            at = text.rfind(self._echo)
            choice["text"] = text[at + len(self._echo) :] if at >= 0 else text
            self._echo = ""
        if self._asked.from_completion:
            return _as_chat(choice)
        delta = choice.get("delta")
        if self._has_role and isinstance(delta, dict) and "role" in delta:
            delta.pop("role")
            if not any(delta.values()) and choice.get("finish_reason") is None:
                return None
        return choice

    def _joined(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Both parts' tokens as one answer's: what was told before is no prompt."""
        asked = self._asked
        given = usage.get("prompt_tokens") or 0
        made = (usage.get("completion_tokens") or 0) + asked.tokens_before
        prompt = asked.prompt_tokens
        if prompt is None:
            prompt = max(0, given - asked.tokens_in_prompt)
        joined = {**usage, "prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            joined["prompt_tokens_details"] = {
                **details,
                "cached_tokens": min(prompt, details["cached_tokens"]),
            }
        return joined


def closing(told: Told) -> bytes | None:
    """The end of an answer that was complete but for it; ``None`` if its usage can't be told."""
    if told.has_usage:
        return _DONE_EVENT
    prompt = told.prompt_tokens
    if prompt is None or told.bare_events or told.facts is None:
        return None
    usage = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + told.tokens,
        "completion_tokens": told.tokens,
    }
    event = {**told.facts, "choices": [], "usage": usage}
    return b"data: " + msgspec.json.encode(event) + b"\n\n" + _DONE_EVENT


def _as_chat(choice: dict[str, Any]) -> dict[str, Any] | None:
    """A completion's choice as a chat's, its members in the order that engines write them."""
    text, reason = choice.get("text") or "", choice.get("finish_reason")
    ids = choice.get("token_ids")
    if not text and reason is None and not ids:
        return None
    written: dict[str, Any] = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": None,
        "finish_reason": reason,
    }
    if reason is not None and "stop_reason" in choice:
        written["stop_reason"] = choice["stop_reason"]
    written["token_ids"] = ids
    return written
