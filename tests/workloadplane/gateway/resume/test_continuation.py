"""From bytes alone: what was told, what is asked for the rest, and how the rest is joined to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.resume.continuation import Continuation, continuation
from workloadplane.gateway.resume.kept import Kept
from workloadplane.gateway.resume.resumption import before_failure
from workloadplane.gateway.resume.rewriting import MARK, Rewriter, closing
from workloadplane.gateway.resume.told import Told

CHAT = b"/v1/chat/completions"
COMPLETIONS = b"/v1/completions"
FACTS = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "chat"}
MESSAGES = [{"role": "user", "content": "hello"}]


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + json.dumps({**FACTS, "choices": list(choices), **more}).encode() + b"\n\n"


def role(prompt_ids: list[int] | None = None) -> bytes:
    return event(
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        prompt_token_ids=prompt_ids,
    )


def token(text: str, ids: list[int] | None = None, **more: Any) -> bytes:
    return event({"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": ids, **more})


def told_of(*events: bytes) -> Told:
    kept = Kept(hides_ids=False)
    for each in events:
        kept.take(each)
    return kept.told()


def asked(told: Told, path: bytes = CHAT, **body: Any) -> Continuation:
    made = continuation(path, json.dumps({"model": "chat", "stream": True, **body}).encode(), told)
    assert isinstance(made, Continuation), made
    return made


def test_a_chat_with_numbered_tokens_goes_on_as_a_completion_of_those_numbers() -> None:
    """Prompt and answer so far are the prompt, what was made counts against the limit, sampling stays as asked."""
    told = told_of(role([5, 6]), token("a", [7]), token("", [8]), token("bc", [9, 10]))
    made = asked(told, messages=MESSAGES, max_tokens=10, temperature=0, min_tokens=6)
    assert made.path == COMPLETIONS
    assert made.from_completion
    assert json.loads(made.body) == {
        "model": "chat",
        "stream": True,
        "temperature": 0,
        "prompt": [5, 6, 7, 8, 9, 10],
        "max_tokens": 6,
        "min_tokens": 2,
        "return_token_ids": True,
    }
    assert (made.tokens_before, made.prompt_tokens) == (4, 2)


def test_tokens_whose_text_is_still_kept_back_are_made_anew() -> None:
    """An engine shows a character when its last byte is there; a prompt must not end in the middle of one."""
    told = told_of(role([5, 6]), token("a", [7]), token("", [8]), token("", [9]))
    made = asked(told, messages=MESSAGES, max_tokens=10)
    assert json.loads(made.body)["prompt"] == [5, 6, 7]
    assert json.loads(made.body)["max_tokens"] == 9
    assert made.tokens_before == 1
    assert made.echo == ""
    body = json.dumps({"messages": MESSAGES}).encode()
    assert continuation(CHAT, body, told, ids_hidden=False) == "half a character"


def test_a_prompt_that_comes_back_is_left_out() -> None:
    """With several tokens in an event the last may be half a character, and then the engine repeats the prompt."""
    told = told_of(role([5, 6]), token("Once upon", [7, 8]))
    made = asked(told, messages=MESSAGES)
    for first, kept in (("helloOnce upon a", " a"), (" a", " a")):
        choice = {"index": 0, "text": first, "finish_reason": None, "token_ids": [9]}
        out = Rewriter(made, told).feed(event(choice))
        assert json.loads(out.split(b"data: ")[1])["choices"][0]["delta"]["content"] == kept


def test_a_chat_without_numbers_goes_on_with_an_open_last_message() -> None:
    """What was said is an assistant's message that the engine is told to finish."""
    told = told_of(role(), token("Hel"), token("lo"))
    made = asked(told, messages=MESSAGES, max_completion_tokens=10)
    body = json.loads(made.body)
    assert made.path == CHAT
    assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": "Hello"}]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["max_completion_tokens"] == 8


def test_a_chat_that_a_completion_cannot_stand_in_for_goes_on_by_text() -> None:
    """Tools, images, stop strings and members that nobody here knows stay with the chat route."""
    told = told_of(role([5]), token("a", [7]))
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    for more in (
        {"messages": picture},
        {"messages": MESSAGES, "tools": [{}]},
        {"messages": MESSAGES, "stop": ["END"]},
        {"messages": MESSAGES, "something_new": 1},
    ):
        assert asked(told, **more).path == CHAT


def test_a_message_that_was_open_already_grows() -> None:
    """A client that had the engine finish its own message gets that message finished."""
    told = told_of(role(), token("lo"))
    messages = [*MESSAGES, {"role": "assistant", "content": "Hel"}]
    made = asked(told, messages=messages, continue_final_message=True, add_generation_prompt=False)
    assert json.loads(made.body)["messages"][-1] == {"role": "assistant", "content": "Hello"}


def test_a_completion_goes_on_by_numbers_or_by_text() -> None:
    """Its default limit is kept: sixteen tokens where nothing is said."""
    first = {"index": 0, "text": "a", "finish_reason": None, "prompt_token_ids": [5], "token_ids": [7]}
    by_ids = asked(told_of(event(first)), COMPLETIONS, prompt="x", stop=None)
    assert json.loads(by_ids.body)["prompt"] == [5, 7]
    assert json.loads(by_ids.body)["max_tokens"] == 15
    assert not by_ids.from_completion
    plain = {"index": 0, "text": "a", "finish_reason": None}
    by_text = asked(told_of(event(plain)), COMPLETIONS, prompt=["x"], max_tokens=5)
    assert json.loads(by_text.body)["prompt"] == "xa"
    assert json.loads(by_text.body)["max_tokens"] == 4


def test_a_body_with_a_number_out_of_range_is_no_fault_of_ours() -> None:
    """It passes to engines as it came; written anew it cannot be, so its stream ends with an error event."""
    told = told_of(role([1, 2, 3]), token("a", [4]), token("b", [5]))
    body = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"x"}],"odd":{"n":11e400}}'
    assert continuation(CHAT, body, told) == "a body that cannot be written anew"


def test_a_stream_that_told_nothing_is_asked_for_again() -> None:
    """After a head, or a role alone, the request itself is sent: even one that can't be resumed later."""
    body = json.dumps({"messages": MESSAGES, "tools": [], "logprobs": True}).encode()
    for told in (Told(), told_of(role([5]))):
        made = continuation(CHAT, body, told)
        assert isinstance(made, Continuation)
        assert (made.path, made.body) == (CHAT, body)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"n": 2}, "several choices"),
        ({"logprobs": True}, "log probabilities"),
        ({"response_format": {"type": "json_schema"}}, "an answer of a prescribed form"),
        ({"guided_regex": "a*"}, "an answer of a prescribed form"),
        ({"structured_outputs": {}}, "an answer of a prescribed form"),
        ({"presence_penalty": 0.5}, "penalties on what the answer said before"),
        ({"truncate_prompt_tokens": 100}, "a prompt cut to a length"),
        ({"max_tokens": 1}, "all its tokens, though not its end"),
    ],
)
def test_what_cannot_be_taken_up_in_the_middle_is_refused(members: dict[str, Any], reason: str) -> None:
    """A joined answer must be one that an unbroken stream could have given."""
    body = json.dumps({"messages": MESSAGES, **members}).encode()
    assert continuation(CHAT, body, told_of(role([5]), token("a", [7]))) == reason


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"index": 0, "delta": {"tool_calls": [{"index": 0}]}}, "a tool call"),
        ({"index": 0, "delta": {"reasoning": "hm"}}, "reasoning apart from the answer"),
        ({"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}, "log probabilities"),
        ({"index": 1, "delta": {"content": "a"}}, "several choices"),
    ],
)
def test_what_was_half_sent_and_is_no_text_is_refused(choice: dict[str, Any], reason: str) -> None:
    """A half tool call has no honest second half."""
    body = json.dumps({"messages": MESSAGES}).encode()
    assert continuation(CHAT, body, told_of(role(), event(choice))) == reason


def test_the_rest_follows_as_if_unbroken() -> None:
    """First id and time, no second role, chat events from a completion's, one mark, usage of both parts."""
    told = told_of(role([5, 6]), token("a", [7]))
    rewriter = Rewriter(asked(told, messages=MESSAGES, max_tokens=4), told)
    other = {"id": "cmpl-2", "object": "text_completion", "created": 9, "model": "chat"}

    def made(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + json.dumps({**other, "choices": choices, **more}).encode() + b"\n\n"

    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    rest = (
        made(
            [
                {
                    "index": 0,
                    "text": "b",
                    "finish_reason": None,
                    "prompt_token_ids": [5, 6, 7],
                    "token_ids": [8],
                }
            ]
        )
        + b": k\n"
        + made([{"index": 0, "text": "c", "finish_reason": "length", "stop_reason": None, "token_ids": [9]}])
        + made([], usage=usage)
        + b"data: [DONE]\n\n"
    )
    out = b"".join(rewriter.feed(rest[at : at + 7]) for at in range(0, len(rest), 7))
    assert out.startswith(MARK)
    assert out.count(MARK) == 1
    assert out.endswith(b"data: [DONE]\n\n")
    events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: {")]
    assert all({name: one[name] for name in FACTS} == FACTS for one in events)
    assert [one["choices"] for one in events] == [
        [{"index": 0, "delta": {"content": "b"}, "logprobs": None, "finish_reason": None, "token_ids": [8]}],
        [
            {
                "index": 0,
                "delta": {"content": "c"},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
                "token_ids": [9],
            }
        ],
        [],
    ]
    assert events[-1]["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_a_second_role_is_left_out() -> None:
    """A chat that goes on as a chat says its role once."""
    told = told_of(role(), token("a"))
    rewriter = Rewriter(asked(told, messages=MESSAGES), told)
    out = rewriter.feed(role() + token("b"))
    assert out.count(b"assistant") == 0
    assert out.count(b"data:") == 1


def test_numbers_that_only_the_gateway_asked_for_are_hidden() -> None:
    """The client sees what an engine says that was not asked; text that looks alike is left alone."""
    kept = Kept(hides_ids=True)
    compact = b'data: {"choices":[{"delta":{"content":"\\"token_ids\\":[1]"},"token_ids":[7]}]}\n\n'
    assert kept.take(compact) == compact.replace(b'"token_ids":[7]', b'"token_ids":null')


@given(st.lists(st.tuples(st.text(max_size=5), st.lists(st.integers(0, 9), max_size=3)), max_size=400))
def test_reading_in_batches_loses_nothing(parts: list[tuple[str, list[int]]]) -> None:
    """Whatever the batch sizes, text and numbers are those of the events."""
    told = told_of(role([1]), *(token(text, ids) for text, ids in parts))
    assert told.text == "".join(text for text, _ in parts)
    assert bytes(told.token_ids) == b"".join(b"%d," % one for _, ids in parts for one in ids)
    assert told.tokens == sum(len(ids) for _, ids in parts)


def test_an_answer_that_lacks_only_its_end_is_ended() -> None:
    """After the finish reason nothing is generated anew: usage is counted and the stream is done."""
    told = told_of(role([1, 2]), token("a", [3]), token("b", [4], finish_reason="stop"))
    end = closing(told)
    assert end is not None
    assert json.loads(end.split(b"\n\n")[0][6:])["usage"]["completion_tokens"] == 2
    assert end.endswith(b"data: [DONE]\n\n")
    assert closing(told_of(role(), token("a"))) is None


def test_a_failure_told_in_the_stream_is_a_break_but_the_clients_fault_is_not() -> None:
    """An engine whose core died says so in an event and adds ``[DONE]``: neither reaches the client."""
    died = b'data: {"error":{"message":"core died","type":"InternalServerError","code":500}}\n\n'
    assert before_failure(token("a") + died + b"data: [DONE]\n\n") == token("a")
    peer = (
        b'event: error\ndata: {"error":{"message":"lost","type":"server_error","code":"stream_broken"}}\n\n'
    )
    assert before_failure(token("a") + peer) == token("a")
    wrong = b'data: {"error":{"message":"too long","type":"BadRequestError","code":400}}\n\n'
    assert before_failure(wrong) is None
