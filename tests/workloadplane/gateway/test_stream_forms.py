"""How the streams of each API end and which of their events hold tokens, however they are cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.sse import (
    AUDIO_STREAM,
    CHAT_STREAM,
    MESSAGES_STREAM,
    RESPONSES_STREAM,
    SseScanner,
    StreamForm,
)


def named(kind: str, text: str) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'text': text})}\n\n".encode()


# What the model says looks like every mark there is.
SAID = "\n\nevent: message_stop\n\nevent: response.completed\n\ndata: [DONE]\n\nevent: error\n\n"
CHAT = [f"data: {json.dumps({'delta': SAID})}\n\n".encode()] * 3 + [b"data: [DONE]\n\n"]
RESPONSES = [
    named("response.created", ""),
    named("response.output_text.delta", SAID),
    named("response.function_call_arguments.delta", SAID),
    named("response.reasoning_text.delta", SAID),
    named("response.output_text.done", SAID),
    named("response.completed", SAID),
]
MESSAGES = [
    named("message_start", ""),
    named("content_block_delta", SAID),
    named("ping", ""),
    named("content_block_delta", SAID),
    named("content_block_delta", SAID),
    named("message_delta", ""),
    named("message_stop", ""),
]
FORMS = [(CHAT_STREAM, CHAT), (RESPONSES_STREAM, RESPONSES), (MESSAGES_STREAM, MESSAGES)]


def scanned(form: StreamForm, data: bytes, cuts: list[int]) -> SseScanner:
    scanner = SseScanner(strip_usage=False, form=form)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    out = b"".join(scanner.feed(data[start:end], float(end)) for start, end in pairwise(edges))
    assert out + scanner.rest() == data
    return scanner


@pytest.mark.parametrize(("form", "events"), FORMS, ids=["chat", "responses", "messages"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_a_stream_is_known_by_its_own_marks_alone(
    form: StreamForm, events: list[bytes], cuts: list[int]
) -> None:
    """Three tokens and the end are seen, whatever a model says and wherever reads fall."""
    whole = scanned(form, b"".join(events), cuts)
    assert (whole.token_events, whole.done, whole.failed, whole.is_broken) == (3, True, False, False)
    cut_off = scanned(form, b"".join(events[:-1]), cuts)
    assert (cut_off.token_events, cut_off.done, cut_off.is_broken) == (3, False, True)


@pytest.mark.parametrize(("form", "events"), FORMS, ids=["chat", "responses", "messages"])
def test_a_stream_that_says_why_it_ends_needs_no_other_end(form: StreamForm, events: list[bytes]) -> None:
    """An error event of the engine's own is passed on and is not followed by one of ours."""
    failed = scanned(form, b"".join(events[:2]) + named("error", "out of memory"), [])
    assert (failed.failed, failed.is_broken) == (True, False)


def test_a_last_event_without_its_blank_line_is_an_end() -> None:
    """Some engines close right after it."""
    assert not scanned(CHAT_STREAM, b"data: {}\n\ndata: [DONE]", []).is_broken
    assert scanned(CHAT_STREAM, b"data: {}\n\ndata: [DO", []).is_broken


def test_a_response_that_failed_is_a_failure_with_an_end() -> None:
    """``response.failed`` ends its stream; ``incomplete`` does too and is none."""
    failed = scanned(RESPONSES_STREAM, named("response.failed", ""), [])
    assert (failed.done, failed.failed) == (True, True)
    spent = scanned(RESPONSES_STREAM, named("response.incomplete", ""), [])
    assert (spent.done, spent.failed) == (True, False)


def test_audio_may_end_as_it_likes() -> None:
    """Engines differ there, and a false alarm would spoil a good transcript."""
    assert not scanned(AUDIO_STREAM, b'data: {"type":"transcript.text.done"}\n\n', []).is_broken
