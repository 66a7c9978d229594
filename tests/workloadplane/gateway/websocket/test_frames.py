"""Frame headers: what is sound goes on untouched however it is cut, and nothing of a wrong frame does."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from workloadplane.gateway.websocket.frames import PROTOCOL_ERROR, TOO_BIG, FrameScanner, close_frame


def scanner(*, masked: bool = True, reserved_bits: bool = False, bound: int = 1 << 20) -> FrameScanner:
    return FrameScanner(masked=masked, reserved_bits=reserved_bits, message_bytes_max=bound)


lengths = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 65535, 65536, 70000]))


@st.composite
def conversations(draw: st.DrawFn, masked: bool) -> list[bytes]:
    """Whole messages, some in parts, with control frames anywhere."""
    frames = []
    for _ in range(draw(st.integers(1, 6))):
        parts = draw(st.integers(1, 3))
        for part in range(parts):
            if draw(st.booleans()):
                opcode = draw(st.sampled_from([PING, PONG]))
                frames.append(frame(opcode, draw(st.binary(max_size=125)), masked=masked))
            opcode = draw(st.sampled_from([TEXT, BINARY])) if part == 0 else CONTINUATION
            payload = bytes(draw(lengths))
            frames.append(frame(opcode, payload, masked=masked, final=part == parts - 1))
    return frames


@settings(max_examples=150, deadline=None)
@given(data=st.data(), masked=st.booleans())
def test_sound_frames_pass_byte_for_byte(data: st.DataObject, masked: bool) -> None:
    """Cut anywhere, down to single bytes, the stream comes out as it went in, and is counted."""
    frames = data.draw(conversations(masked))
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    checked = scanner(masked=masked)
    ends = {sum(map(len, frames[: n + 1])) for n in range(len(frames))}
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        before = len(passed)
        passed += checked.feed(stream[start:end])
        if checked.boundary >= 0:
            assert before + checked.boundary in ends
    assert passed == stream
    assert checked.error is None
    assert checked.at_boundary and checked.at_rest
    assert checked.frames == len(frames)
    assert checked.messages == checked.whole_messages


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=8), masked=st.booleans())
def test_noise_never_breaks_it(noise: bytes, cuts: list[int], masked: bool) -> None:
    """Whatever comes, what goes on is a prefix of it, the same however it was cut."""
    whole, parts = scanner(masked=masked, bound=1000), scanner(masked=masked, bound=1000)
    together = whole.feed(noise)
    edges = sorted(min(cut, len(noise)) for cut in cuts)
    apart = b"".join(parts.feed(noise[a:b]) for a, b in zip([0, *edges], [*edges, len(noise)], strict=True))
    assert apart == together == noise[: len(together)]
    assert (whole.error is None) == (parts.error is None)
    if whole.error is None:
        assert together + whole.rest() == noise


GOOD = frame(TEXT, b"good", masked=True)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(TEXT, b"x", masked=False), PROTOCOL_ERROR),
        (frame(0x3, b"x", masked=True), PROTOCOL_ERROR),
        (frame(0xB, b"x", masked=True), PROTOCOL_ERROR),
        (frame(TEXT, b"x", masked=True, reserved=0x40), PROTOCOL_ERROR),
        (frame(PING, b"x", masked=True, final=False), PROTOCOL_ERROR),
        (frame(PING, b"x" * 126, masked=True), PROTOCOL_ERROR),
        (frame(CONTINUATION, b"x", masked=True), PROTOCOL_ERROR),
        (frame(TEXT, b"a", masked=True, final=False) + frame(TEXT, b"b", masked=True), PROTOCOL_ERROR),
        (b"\x81\xfe\x00\x05mask12345", PROTOCOL_ERROR),
        (b"\x81\xff" + (70).to_bytes(8, "big") + b"mask", PROTOCOL_ERROR),
        (b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"mask", PROTOCOL_ERROR),
        (b"\x81\xff" + ((1 << 63) - 1).to_bytes(8, "big") + b"mask", TOO_BIG),
        (frame(TEXT, b"x" * 1001, masked=True), TOO_BIG),
        (
            frame(TEXT, b"x" * 600, masked=True, final=False) + frame(CONTINUATION, b"x" * 600, masked=True),
            TOO_BIG,
        ),
    ],
    ids=count(),
)
def test_wrong_frames_stop_the_stream_before_them(wrong: bytes, code: int) -> None:
    """Each kind of wrong frame ends the stream at the last sound one, with the code that says so, however it comes."""
    checked, at_once = scanner(bound=1000), scanner(bound=1000)
    passed = b"".join(checked.feed(bytes([byte])) for byte in GOOD + wrong)
    assert at_once.feed(GOOD + wrong) == passed
    assert at_once.error is not None and at_once.error.code == code
    assert checked.error is not None
    assert checked.error.code == code
    assert passed.startswith(GOOD)
    assert checked.at_boundary, "a Close frame may follow"
    assert scanner().feed(passed) == passed
    assert checked.feed(GOOD) == b""


def test_reserved_bits_pass_where_an_extension_uses_them() -> None:
    """Compression is the ends' business: its bit is no fault once they agreed on it."""
    compressed = frame(TEXT, b"x", masked=False, reserved=0x40)
    assert scanner(masked=False, reserved_bits=True).feed(compressed) == compressed


def test_pings_are_no_activity() -> None:
    """Only data frames count as use; a Close is seen."""
    checked = scanner()
    checked.feed(frame(PING, b"x", masked=True))
    assert not checked.active
    checked.feed(GOOD[:3])
    checked.feed(GOOD[3:])
    assert checked.active
    checked.feed(frame(CLOSE, b"", masked=True))
    assert checked.closed and not checked.active


@given(code=st.sampled_from([1001, 1009, 1012]), reason=st.text(max_size=300), masked=st.booleans())
def test_our_close_frames_are_sound(code: int, reason: str, masked: bool) -> None:
    """What we say ourselves is a frame that we would let pass."""
    made = close_frame(code, reason, masked=masked)
    checked = scanner(masked=masked)
    assert checked.feed(made) == made
    assert checked.error is None and checked.closed and checked.at_boundary


HEADED = [
    (opcode, size, masked)
    for masked in (True, False)
    for opcode, size in ((TEXT, 0), (TEXT, 125), (BINARY, 126), (BINARY, 65_535), (BINARY, 65_536), (PING, 7))
]


@pytest.mark.parametrize(("opcode", "size", "masked"), HEADED)
def test_a_header_is_held_back_until_it_is_whole(opcode: int, size: int, masked: bool) -> None:
    """Cut at each of its bytes nothing of it goes on before its last one has come, and then all of it does."""
    whole = frame(opcode, bytes(size), masked=masked, key=b"\0\0\0\0")
    header = len(whole) - size
    before = frame(TEXT, b"before", masked=masked)
    for cut in range(1, header):
        checked = scanner(masked=masked)
        assert checked.feed(before + whole[:cut]) == before
        assert checked.at_boundary and not checked.at_rest
        assert checked.feed(whole[cut:]) == whole
        assert checked.at_rest and checked.error is None
        left = scanner(masked=masked)
        left.feed(whole[:cut])
        assert left.rest() == whole[:cut], "an end that breaks off there is passed on as it is"
