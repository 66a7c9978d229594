"""A tunnel's bytes: what of them goes on, what is counted, and how it ends, whatever the two ends send."""

from time import monotonic

from tests.fuzz import strict_frames
from workloadplane.gateway.websocket.frames import FrameScanner
from workloadplane.gateway.websocket.tunnel import Tunnel

_BOUNDS = (64, 1 << 20)


class _Messages:
    """A reader that keeps the payloads of messages; ``whole``: those that ended."""

    def __init__(self) -> None:
        self.whole: list[tuple[int, bytes]] = []
        self._first = 0
        self._payload = b""

    def begin(self, first: int) -> None:
        self._first, self._payload = first, b""

    def feed(self, piece: bytes) -> None:
        self._payload += piece

    def end(self) -> None:
        self.whole.append((self._first, self._payload))


def scan(pieces: list[bytes], flags: int) -> None:
    """The scanner passes on, counts and tells what a second reader finds, however the bytes are cut."""
    masked, reserved_bits, bound = bool(flags & 1), bool(flags & 2), _BOUNDS[bool(flags & 4)]
    whole = b"".join(pieces)
    expected = strict_frames.read(whole, masked=masked, reserved_bits=reserved_bits, message_bytes_max=bound)
    messages = _Messages()
    scanner = FrameScanner(
        masked=masked, reserved_bits=reserved_bits, message_bytes_max=bound, reader=messages
    )
    ends = {frame.end for frame in expected.frames}
    passed = b""
    for piece in pieces:
        before = len(passed)
        passed += scanner.feed(piece)
        assert scanner.boundary < 0 or before + scanner.boundary in ends
    assert passed == whole[: expected.passes]
    assert (scanner.error is not None) == expected.wrong
    assert scanner.at_boundary == (not expected.passes or expected.passes in ends)
    assert scanner.frames == len(expected.frames) + (not scanner.at_boundary)
    assert messages.whole == _messages(expected.frames)
    assert scanner.whole_messages == len(messages.whole)
    if scanner.error is None:
        assert passed + scanner.rest() == whole


def _messages(frames: tuple[strict_frames.Frame, ...]) -> list[tuple[int, bytes]]:
    """Whole messages of frames in their order."""
    made: list[tuple[int, bytes]] = []
    first, payload = 0, b""
    for frame in frames:
        if frame.is_control:
            continue
        if frame.first & 0x0F:
            first, payload = frame.first, b""
        payload += frame.payload
        if frame.first & 0x80:
            made.append((first, payload))
    return made


class _End:
    """One side's socket."""

    def __init__(self) -> None:
        self.got = b""
        self.eof = False
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.eof and not self.ended, "written after its end"
        self.got += data

    def write_eof(self) -> None:
        self.eof = True

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def end_tunnel(self) -> None:
        self.ended = True


def tunnel(pieces: list[bytes], flags: int) -> None:
    """Each end gets what the other sent, a beginning of it, then at most one Close of ours; the end is told once."""
    client, engine, outcomes = _End(), _End(), list[str]()
    made = Tunnel(
        client,
        engine,
        extensions=None,
        message_bytes_max=_BOUNDS[1],
        idle_timeout_s=1e9,
        stall_timeout_s=1e9,
        on_over=outcomes.append,
    )
    sent, ended = {True: b"", False: b""}, {True: False, False: False}
    for number, piece in enumerate(pieces):
        by_client = bool((flags >> (number % 8)) & 1)
        if outcomes:
            break
        if ended[by_client]:
            continue  # nothing comes after an end
        sent[by_client] += piece
        (made.client_data if by_client else made.engine_data)(piece)
        if number % 8 == 5:
            ended[by_client] = True
            (made.client_eof if by_client else made.engine_eof)()
        elif number % 8 == 7:
            made.drain_over()
    made.drain_over()
    made.on_sweep(monotonic() + 1e6, draining=True)
    assert len(outcomes) == 1 and client.ended and engine.ended
    for end, masked in ((engine, True), (client, False)):
        got = strict_frames.read(end.got, masked=masked, reserved_bits=False, message_bytes_max=_BOUNDS[1])
        assert not got.wrong, "what was passed on is sound"
        common = sent[masked]
        if not common.startswith(end.got):
            ours = got.frames[-1]
            assert ours.first == 0x88 and ours.end == len(end.got), "it ends with our Close"
            size = len(ours.payload) + (6 if masked else 2)
            assert common.startswith(end.got[:-size])
