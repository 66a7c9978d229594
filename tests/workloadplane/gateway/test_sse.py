"""Streams pass byte for byte, however they are cut; only our own usage chunk is taken out."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.sse import EVENT_BYTES_MAX, SseScanner

_TEXT = st.text(max_size=20)
_LINE_END = st.sampled_from(["\n", "\r\n", "\r"])
_USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
USAGE_EVENT = b"data: " + json.dumps({"choices": [], "usage": _USAGE}).encode() + b"\n\n"


def token(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    """One event, comment or oddity as an engine might send it."""
    end = draw(_LINE_END)
    kind = draw(st.sampled_from(["token", "comment", "named", "raw"]))
    content = json.dumps({"choices": [{"delta": {"content": draw(_TEXT)}}]}, ensure_ascii=draw(st.booleans()))
    if kind == "comment":
        return f": k{end}".encode()
    if kind == "named":
        return f"event: ping{end}data: {content}{end}id: 7{end}{end}".encode()
    if kind == "raw":
        return draw(st.binary(max_size=30))
    return f"data: {content}{end}{end}".encode()


def scan(scanner: SseScanner, data: bytes, cuts: list[int]) -> bytes:
    out = b""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        out += scanner.feed(data[start:end], float(end))
    return out + scanner.rest()


@given(st.lists(_events(), max_size=12), st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_bytes_pass_unchanged_however_they_are_cut(events: list[bytes], cuts: list[int], strip: bool) -> None:
    """What goes in comes out: any events, any line ends, cut anywhere, in the middle of a character too."""
    data = b"".join(events)
    assert scan(SseScanner(strip_usage=strip), data, cuts) == data


@given(st.lists(_TEXT, max_size=8), st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_only_our_usage_chunk_is_taken_out(texts: list[str], cuts: list[int], strip: bool) -> None:
    """The usage chunk is read either way, and leaves the stream only when the client did not ask for it."""
    tokens = b"".join(token(text) for text in texts)
    done = b"data: [DONE]\n\n"
    scanner = SseScanner(strip_usage=strip)
    out = scan(scanner, tokens + USAGE_EVENT + done, cuts)
    assert out == tokens + (b"" if strip else USAGE_EVENT) + done
    assert scanner.counts.input_tokens == 7
    assert scanner.counts.output_tokens == 5
    assert scanner.counts.cached_tokens == 4
    assert scanner.events == len(texts)
    assert scanner.done


def test_what_a_model_says_about_usage_is_not_taken_for_usage() -> None:
    """A model that prints a usage chunk, or [DONE], as text changes nothing."""
    said = token('data: {"choices": [], "usage": {"prompt_tokens": 1}}') + token("\n\ndata: [DONE]\n\n")
    scanner = SseScanner(strip_usage=True)
    assert scanner.feed(said, 0.0) == said
    assert scanner.counts.input_tokens is None
    assert not scanner.done


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_marks_are_found_whatever_ends_their_lines(end: bytes) -> None:
    """A stream whose lines end in carriage returns alone is as complete, counted and failed as any."""
    scanner = SseScanner(strip_usage=False)
    said = (token("a") + token("b") + b"data: [DONE]\n\n").replace(b"\n", end)
    assert scanner.feed(said, 0.0) + scanner.rest() == said
    assert (scanner.events, scanner.done, scanner.is_broken) == (2, True, False)
    scanner = SseScanner(strip_usage=False)
    scanner.feed((token("a") + b"event: error\ndata: {}\n\n").replace(b"\n", end), 0.0)
    assert scanner.failed


def test_a_half_event_is_kept_back_and_comments_are_not() -> None:
    """A stream that breaks off ends between events; a keep-alive comment never waits for the next event."""
    scanner = SseScanner(strip_usage=False)
    assert scanner.feed(token("a") + b'data: {"cho', 0.0) == token("a")
    assert scanner.rest() == b'data: {"cho'
    scanner = SseScanner(strip_usage=False)
    assert scanner.feed(b": k\n", 0.0) == b": k\n"
    assert scanner.feed(b": k\n: k", 0.0) == b": k\n"
    assert scanner.feed(b"\n" + token("a"), 0.0) == b": k\n" + token("a")


def test_what_is_kept_back_is_bounded() -> None:
    """An event larger than the bound passes as it comes, and what follows it is scanned again."""
    scanner = SseScanner(strip_usage=True)
    start = b"data: " + b"x" * EVENT_BYTES_MAX
    assert scanner.feed(start, 0.0) == start
    assert scanner.rest() == b""
    assert scanner.feed(b"yz", 0.0) == b"yz"
    assert scanner.feed(b"\n\n" + USAGE_EVENT + token("a"), 0.0) == b"\n\n" + token("a")


def test_latency_between_tokens_is_measured() -> None:
    """First and last event, the longest gap, and a histogram with one observation per token after the first."""
    scanner = SseScanner(strip_usage=False)
    scanner.feed(token("a"), 1.0)
    scanner.feed(token("b") + token("c"), 2.0)
    scanner.feed(token("d"), 5.0)
    assert (scanner.first_event_s, scanner.last_event_s, scanner.gap_s_max) == (1.0, 5.0, 3.0)
    assert sum(scanner.latency.counts) == 3
    assert scanner.latency.sum_s == 4.0


def test_an_error_event_is_noticed() -> None:
    """An engine or peer that says it failed is counted as failed though its HTTP was in order."""
    for event in (b'data: {"error": {"message": "x"}}\n\n', b'event: error\ndata: {"error": {}}\n\n'):
        scanner = SseScanner(strip_usage=False)
        scanner.feed(token("a") + event, 0.0)
        assert scanner.failed
