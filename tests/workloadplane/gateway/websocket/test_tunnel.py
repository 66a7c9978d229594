"""How a tunnel ends, from bytes alone: nothing is cut in mid-frame, and both ends are told exactly once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.websocket import BINARY, CLOSE, TEXT, frame
from workloadplane.gateway.websocket.frames import RESTART, FrameScanner, close_frame
from workloadplane.gateway.websocket.tunnel import Tunnel


@dataclass
class End:
    """One side's socket, as the tunnel uses it."""

    got: bytearray = field(default_factory=bytearray)
    eof: bool = False
    ended: bool = False
    paused: bool = False

    def write(self, data: bytes) -> None:
        assert not self.eof and not self.ended, "written after its end"
        self.got += data

    def write_eof(self) -> None:
        self.eof = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def end_tunnel(self) -> None:
        self.ended = True


class World:
    """A tunnel between two recorded ends."""

    def __init__(self) -> None:
        self.client, self.engine, self.outcomes = End(), End(), list[str]()
        self.tunnel = Tunnel(
            self.client,
            self.engine,
            extensions=None,
            message_bytes_max=1 << 20,
            idle_timeout_s=1e9,
            stall_timeout_s=1e9,
            on_over=self.outcomes.append,
        )

    def end(self) -> None:
        """As a drain does once its time is over."""
        self.tunnel.drain_over()


def frames(masked: bool) -> st.SearchStrategy[bytes]:
    one = st.builds(
        lambda payload: frame(BINARY, payload, masked=masked, key=b"abcd"), st.binary(max_size=300)
    )
    return st.lists(one, min_size=1, max_size=5).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(up=frames(True), down=frames(False), data=st.data())
def test_an_end_of_ours_waits_for_whole_frames(up: bytes, down: bytes, data: st.DataObject) -> None:
    """Ended at any byte of either direction, each side has whole frames as they were sent, then our Close, no more."""
    world = World()
    cut_up, cut_down = data.draw(st.integers(0, len(up))), data.draw(st.integers(0, len(down)))
    world.tunnel.client_data(up[:cut_up])
    world.tunnel.engine_data(down[:cut_down])
    world.end()
    world.tunnel.client_data(up[cut_up:])
    world.tunnel.engine_data(down[cut_down:])
    for end, sent, masked in ((world.engine, up, True), (world.client, down, False)):
        ours = close_frame(RESTART, "this gateway restarts; connect again", masked=masked)
        assert end.got.endswith(ours)
        passed = bytes(end.got[: -len(ours)])
        assert sent.startswith(passed)
        checked = FrameScanner(masked=masked, reserved_bits=False, message_bytes_max=1 << 20)
        assert checked.feed(passed) == passed
        assert checked.at_boundary and checked.rest() == b""
    assert world.outcomes == []
    world.tunnel.client_data(frame(CLOSE, b"\x03\xf4", masked=True))
    world.tunnel.engine_data(frame(CLOSE, b"\x03\xf4", masked=False))
    assert world.outcomes == ["ok"]
    assert world.client.ended and world.engine.ended


def test_a_close_that_has_passed_is_not_said_again() -> None:
    """While the ends close one another, an end of ours adds nothing in the direction that is closed already."""
    world = World()
    closing = frame(CLOSE, b"\x03\xe8", masked=True)
    world.tunnel.client_data(closing)
    world.end()
    assert world.engine.got == closing
    assert world.client.got == close_frame(RESTART, "this gateway restarts; connect again", masked=False)


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        (("client_gone",), "client_gone"),
        (("client_eof", "engine_eof"), "client_gone"),
        (("client_close", "client_gone"), "ok"),
        (("client_close", "engine_close", "engine_eof", "client_eof"), "ok"),
        (("engine_close", "engine_gone"), "ok"),
        (("engine_gone", "client_close"), "upstream_error"),
        (("engine_eof", "client_close"), "upstream_error"),
        (("client_wrong", "client_gone"), "refused"),
        (("engine_wrong", "client_gone"), "upstream_error"),
    ],
)
def test_how_it_went_is_told_once(steps: tuple[str, ...], outcome: str) -> None:
    """Who ended it without a Close frame is who broke off."""
    world = World()
    tunnel = world.tunnel
    acts: dict[str, Callable[[], None]] = {
        "client_gone": tunnel.client_gone,
        "engine_gone": tunnel.engine_gone,
        "client_eof": tunnel.client_eof,
        "engine_eof": tunnel.engine_eof,
        "client_close": lambda: tunnel.client_data(frame(CLOSE, b"", masked=True)),
        "engine_close": lambda: tunnel.engine_data(frame(CLOSE, b"", masked=False)),
        "client_wrong": lambda: tunnel.client_data(frame(TEXT, b"", masked=False)),
        "engine_wrong": lambda: tunnel.engine_data(frame(TEXT, b"", masked=True)),
    }
    tunnel.client_data(frame(TEXT, b"x", masked=True))
    for step in steps:
        acts[step]()
    tunnel.on_sweep(1e12, draining=False)  # whatever is left has had its time
    assert world.outcomes == [outcome]
    assert world.client.ended and world.engine.ended
    tunnel.client_gone()
    tunnel.engine_gone()
    assert world.outcomes == [outcome]


def test_an_end_of_ours_takes_in_nothing_that_cannot_go_on() -> None:
    """In a frame's midst toward an end that does not read, the other is not read either until there is room again."""
    world = World()
    big = frame(BINARY, bytes(1000), masked=False)
    world.tunnel.engine_data(big[:500])
    world.tunnel.client_full(full=True)
    assert world.engine.paused
    world.end()
    assert world.engine.paused, "nobody takes what would come"
    assert not world.client.paused, "its answer to our Close is due"
    world.tunnel.client_full(full=False)
    assert not world.engine.paused
    world.tunnel.engine_data(big[500:])
    assert world.client.got.startswith(big) and world.client.got[len(big)] == 0x88
    world.tunnel.client_full(full=True)
    assert not world.engine.paused, "nothing more is passed on, and its Close is due"


def test_who_has_said_all_is_answered_however_long_it_takes() -> None:
    """A half-closed client's response may be silent for longer than a half-closed session at rest may last."""
    world = World()
    world.tunnel.engine_data(frame(TEXT, b'{"type":"response.created"}', masked=False))
    world.tunnel.client_eof()
    world.tunnel.on_sweep(monotonic() + 30.0, draining=False)
    assert world.outcomes == []
    world.tunnel.engine_data(frame(TEXT, b'{"type":"response.done","response":{}}', masked=False))
    world.tunnel.on_sweep(monotonic() + 5.0, draining=False)
    assert world.outcomes == []
    world.tunnel.on_sweep(monotonic() + 30.0, draining=False)
    assert world.outcomes == ["ok"]


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "engine"])
def test_an_end_of_ours_says_nothing_after_an_end_that_was_passed_on(by_client: bool) -> None:
    """A half-closed session that must end: the side that can still be told is, the other has had its end."""
    world = World()
    if by_client:
        world.tunnel.client_eof()
    else:
        world.tunnel.engine_data(frame(CLOSE, b"\x03\xe8", masked=False))
        world.tunnel.engine_eof()
    ended, told = (world.engine, world.client) if by_client else (world.client, world.engine)
    assert ended.eof
    before = bytes(ended.got)
    world.end()
    assert ended.got == before
    assert told.got == close_frame(RESTART, "this gateway restarts; connect again", masked=not by_client)
    answer = frame(CLOSE, b"\x03\xf4", masked=not by_client)
    (world.tunnel.engine_data if by_client else world.tunnel.client_data)(answer)
    assert world.outcomes == ["ok"]
