"""What is read of an engine's messages: its responses, however their bytes are cut, compressed or not."""

import itertools
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.websocket import BINARY, CONTINUATION, PING, TEXT, frame
from workloadplane.gateway.websocket.frames import FrameScanner
from workloadplane.gateway.websocket.replies import Cost, Replies

USAGE = {"input_tokens": 11, "output_tokens": 7, "input_token_details": {"cached_tokens": 4}}
CREATED = {"type": "response.created", "response": {"id": "r"}}
DELTA = {"event_id": "e", "type": "response.text.delta", "delta": '{"type":"response.done"} says the model'}
DONE = {"type": "response.done", "response": {"output": ["x" * 500], "usage": USAGE}}
TRANSCRIBED = {
    "type": "transcription.done",
    "text": "a",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def deflated(message: bytes, compressor: "zlib._Compress") -> bytes:
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def read(extensions: bytes | None, data: bytes, cuts: list[int]) -> Replies:
    replies = Replies(extensions)
    scanner = FrameScanner(
        masked=False, reserved_bits=extensions is not None, message_bytes_max=1 << 30, reader=replies
    )
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    passed = b"".join(scanner.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    assert passed == data
    return replies


@given(cuts=st.lists(st.integers(0, 10_000), max_size=40), parts=st.integers(1, 5), compressed=st.booleans())
def test_responses_are_counted_however_they_come(cuts: list[int], parts: int, compressed: bool) -> None:
    """In any pieces, with pings between, in several frames, compressed or not: the usage of each response counts."""
    compressor = zlib.compressobj(wbits=-15)
    data = b""
    for event in (CREATED, DELTA, DONE, DELTA, TRANSCRIBED, CREATED):
        message = json.dumps(event).encode()
        payload = deflated(message, compressor) if compressed else message
        size = len(payload) // parts + 1
        for part in range(parts):
            data += frame(
                CONTINUATION if part else TEXT,
                payload[part * size : (part + 1) * size],
                masked=False,
                final=part == parts - 1,
                reserved=0x40 if compressed and not part else 0,
            ) + frame(PING, b'"type":"response.done"', masked=False)
    replies = read(b"permessage-deflate; server_max_window_bits=15" if compressed else None, data, cuts)
    assert (replies.running, replies.readable) == (True, True)
    assert replies.take_ended() == [Cost(11, 4, 7), Cost(3, 0, 2)]
    assert replies.take_ended() == []


@pytest.mark.parametrize("compressed", [False, True])
def test_only_the_end_of_a_huge_last_event_is_kept(compressed: bool) -> None:
    """A response of megabytes is counted all the same, and its text is not kept."""
    message = json.dumps({**DONE, "response": {"output": ["y" * 3_000_000], "usage": USAGE}}).encode()
    payload = deflated(message, zlib.compressobj(wbits=-15)) if compressed else message
    data = frame(TEXT, payload, masked=False, reserved=0x40 if compressed else 0)
    replies = read(b"permessage-deflate" if compressed else None, data, list(range(0, len(data), 65536)))
    assert [cost.output_tokens for cost in replies.take_ended()] == [7]


@given(noise=st.binary(max_size=300), opcode=st.sampled_from([TEXT, BINARY]), compressed=st.booleans())
def test_noise_is_no_response(noise: bytes, opcode: int, compressed: bool) -> None:
    """Whatever an engine sends, reading it breaks nothing."""
    data = frame(opcode, noise, masked=False, reserved=0x40 if compressed else 0)
    assert read(b"permessage-deflate", data, []).take_ended() == []


def test_what_inflates_without_end_is_read_no_more() -> None:
    """A message that would grow beyond all bounds ends the reading, not the session."""
    bomb = deflated(b"z" * (80 * 1024 * 1024), zlib.compressobj(wbits=-15))
    replies = read(b"permessage-deflate", frame(TEXT, bomb, masked=False, reserved=0x40), [])
    assert not replies.readable


@pytest.mark.parametrize("extensions", [b"x", b"permessage-deflate, x"])
def test_other_extensions_are_opaque(extensions: bytes) -> None:
    """What an unknown extension has made of a payload is not guessed at."""
    replies = read(extensions, frame(TEXT, json.dumps(CREATED).encode(), masked=False), [])
    assert not replies.readable and not replies.running
