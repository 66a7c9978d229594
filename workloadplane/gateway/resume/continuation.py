"""The request for the rest of a broken answer. Pure: the client's body and what was told in, a body out.

By numbers wherever they are known: prompt and answer so far are the prompt of a completion, for chats too. By
text otherwise: an open last message of a chat, a longer prompt of a completion. What can't be continued so that
the joined answer is one that an unbroken stream could have given is refused with the reason.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from workloadplane.gateway.resume.told import Told

#: Why it can't be continued just now, though it could be a token later.
HALF_A_CHARACTER = "half a character"
COMPLETIONS_PATH = b"/v1/completions"
_COMPLETION_TOKENS = 16  # what OpenAI's completions make where nothing is said

#: Members that mean the same in a chat and in a completion.
_SHARED = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop_token_ids",
        "ignore_eos",
        "repetition_penalty",
        "logit_bias",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "bad_words",
        "allowed_token_ids",
        "user",
        "priority",
        "cache_salt",
        "return_token_ids",
    }
)
#: Members of a chat that shape its prompt or its limits; the numbers of the prompt make up for them.
_OF_CHAT = frozenset(
    {
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "min_tokens",
        "add_generation_prompt",
        "continue_final_message",
        "add_special_tokens",
        "chat_template_kwargs",
        "documents",
        "metadata",
        "store",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "n",
        "logprobs",
        "response_format",
        "presence_penalty",
        "frequency_penalty",
        "stop",
    }
)


@dataclass(frozen=True, slots=True)
class Continuation:
    """What to ask for.

    from_completion: a chat goes on as a completion, whose events must be turned into the chat's
    tokens_before:   of the answer, already told
    prompt_tokens:   of the client's own prompt; ``None`` = not known exactly
    tokens_in_prompt: of the answer so far, that the new prompt holds
    echo:            what a continuation must not begin with: an engine that is given a prompt which ends in the
                     middle of a character repeats all of it
    """

    path: bytes
    body: bytes
    from_completion: bool
    tokens_before: int
    prompt_tokens: int | None
    tokens_in_prompt: int
    echo: str = ""


def continuation(path: bytes, body: bytes, told: Told, *, ids_hidden: bool = True) -> Continuation | str:
    """The request for the rest, or why the answer can't be continued.

    Tokens of which no text was sent are made anew. If whoever asked sees their numbers, that can't be.
    """
    if told.unfit is not None:
        return told.unfit
    if not ids_hidden and told.has_ids and told.shown < told.tokens:
        return HALF_A_CHARACTER
    if not told.has_begun:
        return Continuation(path, body, False, 0, told.prompt_tokens, 0)
    try:
        members: dict[str, Any] = msgspec.json.decode(body)
    except msgspec.DecodeError:  # a number that only some readers take, in a member that nobody here reads
        return "a body that cannot be written anew"
    is_chat = "messages" in members
    reason = _unfit_request(members, is_chat)
    if reason is not None:
        return reason
    limit_name, limit = _limit(members, is_chat)
    if limit is not None:
        limit -= told.tokens_sent
        if limit < 1:
            return "all its tokens, though not its end"
    least = members.get("min_tokens")
    if least:
        members["min_tokens"] = max(0, least - told.tokens_sent)
    by_ids = told.has_ids and not members.get("stop")
    if by_ids and told.shown and (not is_chat or _only_shared(members)):
        return _by_ids(members, told, limit)
    if limit is not None:
        members[limit_name] = limit
    return _chat_by_text(path, members, told) if is_chat else _completion_by_text(path, members, told)


def _unfit_request(members: dict[str, Any], is_chat: bool) -> str | None:
    """What the client asked for that can't be taken up in the middle."""
    if (members.get("n") or 1) > 1 or (members.get("best_of") or 1) > 1 or members.get("use_beam_search"):
        return "several choices"
    logprobs = members.get("logprobs")
    if logprobs or (not is_chat and logprobs is not None) or members.get("prompt_logprobs") is not None:
        return "log probabilities"
    answer_format = members.get("response_format")
    if isinstance(answer_format, dict) and answer_format.get("type") != "text":
        return "an answer of a prescribed form"
    if any(name.startswith("guided_") and members[name] is not None for name in members):
        return "an answer of a prescribed form"
    if members.get("structured_outputs") is not None or members.get("structural_tag") is not None:
        return "an answer of a prescribed form"
    if members.get("presence_penalty") or members.get("frequency_penalty"):
        return "penalties on what the answer said before"
    if members.get("truncate_prompt_tokens") is not None:
        return "a prompt cut to a length"
    if members.get("echo") or members.get("suffix"):
        return "echo or suffix"
    return None


def _limit(members: dict[str, Any], is_chat: bool) -> tuple[str, int | None]:
    """The member that bounds the answer, and its value; ``None`` = the context's length."""
    if not is_chat:
        return "max_tokens", members.get("max_tokens", _COMPLETION_TOKENS)
    if members.get("max_completion_tokens") is not None:
        return "max_completion_tokens", members["max_completion_tokens"]
    return "max_tokens", members.get("max_tokens")


def _only_shared(members: dict[str, Any]) -> bool:
    """Whether a completion can stand in for this chat: nothing unknown asked for, and words alone."""
    if not all(name in _SHARED or name in _OF_CHAT for name in members):
        return False
    for message in members["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and any(
            not isinstance(part, dict) or part.get("type") != "text" for part in content
        ):
            return False
    return True


def _by_ids(members: dict[str, Any], told: Told, limit: int | None) -> Continuation:
    is_chat = "messages" in members
    asked = {name: value for name, value in members.items() if name in _SHARED or not is_chat}
    if members.get("min_tokens"):
        asked["min_tokens"] = members["min_tokens"]
    asked["prompt"] = msgspec.Raw(
        b"[%s,%s]" % (told.prompt_ids, bytes(told.token_ids[: told.shown_ids_bytes - 1]))
    )
    asked["max_tokens"] = limit
    asked["return_token_ids"] = True
    return Continuation(
        path=COMPLETIONS_PATH,
        body=msgspec.json.encode(asked),
        from_completion=is_chat,
        tokens_before=told.shown,
        prompt_tokens=told.prompt_tokens,
        tokens_in_prompt=told.shown,
        echo="" if told.is_sure else told.text,
    )


def _chat_by_text(path: bytes, members: dict[str, Any], told: Told) -> Continuation | str:
    messages = list(members["messages"])
    last = messages[-1] if messages else None
    if members.get("continue_final_message") and isinstance(last, dict):
        if not isinstance(last.get("content"), str):
            return "a message of several parts to go on with"
        messages[-1] = {**last, "content": last["content"] + told.text}
    else:
        messages.append({"role": "assistant", "content": told.text})
    members.update(messages=messages, continue_final_message=True, add_generation_prompt=False)
    return _by_text(path, members, told)


def _completion_by_text(path: bytes, members: dict[str, Any], told: Told) -> Continuation | str:
    prompt = members.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        return "an answer to numbered tokens, by an engine that numbers none of its own"
    members["prompt"] = prompt + told.text
    return _by_text(path, members, told)


def _by_text(path: bytes, members: dict[str, Any], told: Told) -> Continuation:
    return Continuation(
        path=path,
        body=msgspec.json.encode(members),
        from_completion=False,
        tokens_before=told.tokens_sent,
        prompt_tokens=told.prompt_tokens,
        tokens_in_prompt=told.tokens_sent,
    )
