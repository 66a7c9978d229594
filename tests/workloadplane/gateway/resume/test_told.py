"""What a stream has told is the same whether its events are read one by one or many at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.resume.told import Told

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_TOKENS = st.lists(st.tuples(_TEXTS, st.lists(st.integers(0, 99_999), min_size=1, max_size=3)), max_size=12)


def _chat(text: str, ids: list[int] | None, **more: object) -> bytes:
    choice: dict[str, object] = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": None,
        "finish_reason": None,
    }
    if ids is not None:
        choice["token_ids"] = ids
    return _event({"id": "chatcmpl-1", "created": 7, "model": "m", "choices": [{**choice, **more}]})


def _event(members: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\n\n"


def _state(told: Told) -> dict[str, object]:
    names = [name for name in Told.__slots__ if name != "_shape"]
    return {name: getattr(told, name) for name in names}


def _one_by_one(events: list[bytes]) -> Told:
    """Each after a blank comment of its own kind, which no shape holds."""
    told = Told()
    for event in events:
        told.add(b": alone\n" + event)
    return told


@given(
    tokens=_TOKENS,
    with_ids=st.booleans(),
    batch=st.integers(1, 6),
    last=st.sampled_from(["", "stop", "tool"]),
)
def test_many_events_at_once_tell_what_each_tells(
    tokens: list[tuple[str, list[int]]], with_ids: bool, batch: int, last: str
) -> None:
    """Texts with quotes, line ends and other scripts, several tokens in an event, an event unlike the others."""
    events = [_chat(text, ids if with_ids else None) for text, ids in tokens]
    if last == "stop":
        events.append(_chat("", [], finish_reason="stop"))
    elif last == "tool":
        events.append(_chat("", None, delta={"tool_calls": [{"index": 0}]}))
    at_once = Told()
    for begin in range(0, len(events), batch):
        at_once.add(b"".join(events[begin : begin + batch]))
    assert _state(at_once) == _state(_one_by_one(events))
    assert at_once.text == "".join(text for text, _ in tokens)


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"x","refusal":"no"}}]}\n\n',
        b'data: {"choices":[{"index":1,"delta":{"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"b"}}]}\n\n',
    ],
)
def test_an_event_of_another_kind_among_many_is_not_overlooked(odd: bytes) -> None:
    """A refusal, another choice, and what is not JSON make the answer unfit, wherever in a batch they come."""
    like = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    told = Told()
    told.add(like * 3)
    told.add(like * 3 + odd + like)
    assert told.unfit is not None
    assert _state(told) == _state(_one_by_one([like] * 6 + [odd, like]))


def test_the_texts_place_is_proved_not_guessed() -> None:
    """Another member of the same name and value is not taken for the answer's text."""
    event = b'data: {"meta":{"content":"%b"},"choices":[{"index":0,"delta":{"content" :"x"}}]}\n\n'
    told = Told()
    told.add((event % b"x") * 2 + event % b"other")
    assert told.text == "xxx"
