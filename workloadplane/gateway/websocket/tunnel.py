"""The bytes of a session, both ways, and its end.

Whatever one end sends goes to the other as it came, no faster than that one reads, to the last byte. An end that
stops sending (a half-close) is passed on as that; the other may go on until it stops, too. When *we* must end a
session (idle, a wrong frame, a lost engine, this process's end) both sides get a Close frame, each as soon as the
frame that is on its way there is whole, and a short time to answer it.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from workloadplane.gateway.websocket.frames import (
    GOING_AWAY,
    INTERNAL,
    RESTART,
    FrameScanner,
    close_frame,
)
from workloadplane.gateway.websocket.replies import Replies

_CLOSE_S = 2.0
_HALF_CLOSED_S = 10.0
_QUIET_S = 1.0
_SILENT_S = 60.0
_NEVER_S = float("inf")


class End(Protocol):
    """One side's socket."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def write_eof(self) -> None:
        """Nothing more will be sent."""

    def pause(self) -> None:
        """Read nothing for now."""

    def resume(self) -> None:
        """Read again."""

    def end_tunnel(self) -> None:
        """Close once what was written has gone out."""


class _Way:
    """One direction. ``told``: our own Close frame has gone there; ``ended``: its source will send no more.

    passed_end:   that was passed on, so nothing more can be said there
    full_since_s: its sink reads too slowly, so that its source is not read; infinite = it reads
    """

    __slots__ = ("ended", "full_since_s", "passed_end", "scanner", "sink", "source", "told")

    def __init__(self, source: End, sink: End, scanner: FrameScanner) -> None:
        self.source = source
        self.sink = sink
        self.scanner = scanner
        self.told = False
        self.ended = False
        self.passed_end = False
        self.full_since_s = _NEVER_S


class Tunnel:
    """See the module. ``on_over`` hears once how it went: ok | client_gone | upstream_error | refused.

    replies: what the engine says of its responses
    """

    def __init__(
        self,
        client: End,
        engine: End,
        *,
        extensions: bytes | None,
        message_bytes_max: int,
        idle_timeout_s: float,
        stall_timeout_s: float,
        on_over: Callable[[str], None],
    ) -> None:
        self._client = client
        self._engine = engine
        self.replies = Replies(extensions)
        reserved_bits = extensions is not None
        self._up = _Way(
            client,
            engine,
            FrameScanner(masked=True, reserved_bits=reserved_bits, message_bytes_max=message_bytes_max),
        )
        self._down = _Way(
            engine,
            client,
            FrameScanner(
                masked=False,
                reserved_bits=reserved_bits,
                message_bytes_max=message_bytes_max,
                reader=self.replies,
            ),
        )
        self._idle_timeout_s = idle_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._on_over = on_over
        self._outcome = ""
        self._ending: tuple[int, str] | None = None
        self._active_s = monotonic()
        self._engine_active_s = -_NEVER_S
        self._deadline_s = _NEVER_S
        self._over = False

    @property
    def up(self) -> FrameScanner:
        """What came from the client."""
        return self._up.scanner

    @property
    def down(self) -> FrameScanner:
        """What came from the engine."""
        return self._down.scanner

    def is_busy(self, now_s: float) -> bool:
        """Whether the engine makes a response (``now_s``: monotonic).

        It says so itself, unless it has fallen silent; what can't be read shows by what comes.
        """
        silent_s = now_s - self._engine_active_s
        return self.replies.running and silent_s < _SILENT_S if self.replies.readable else silent_s < _QUIET_S

    # What the two sockets bring

    def client_data(self, data: bytes) -> None:
        self._carry(self._up, data, "refused")

    def engine_data(self, data: bytes) -> None:
        self._carry(self._down, data, "upstream_error")

    def _carry(self, way: _Way, data: bytes, if_wrong: str) -> None:
        if self._over:
            return
        scanner = way.scanner
        passed = scanner.feed(data)
        if way.told:  # nothing may follow our Close; only its answer is of interest
            self._settle()
            return
        if self._ending is not None:
            if scanner.boundary >= 0:
                way.sink.write(passed[: scanner.boundary])
                self._tell(way)
                self._settle()
            else:
                way.sink.write(passed)
            return
        if passed:
            way.sink.write(passed)
        if scanner.active:
            self._active_s = monotonic()
            if way is self._down:
                self._engine_active_s = self._active_s
            if self._deadline_s != _NEVER_S and not scanner.closed:
                self._deadline_s = self._active_s + _HALF_CLOSED_S
        if scanner.closed and self._deadline_s == _NEVER_S:
            self._deadline_s = monotonic() + _HALF_CLOSED_S  # for the answer to it
        if scanner.error is not None:
            self._outcome = self._outcome or if_wrong
            self.end(scanner.error.code, scanner.error.reason)

    def engine_full(self, *, full: bool) -> None:
        self._hold(self._up, full)

    def client_full(self, *, full: bool) -> None:
        self._hold(self._down, full)

    def _hold(self, way: _Way, full: bool) -> None:
        """Whoever does not read holds the other one back, unless nothing more is passed on: then its answer is due."""
        way.full_since_s = monotonic() if full else _NEVER_S
        if not full:
            way.source.resume()
        elif not way.told:
            way.source.pause()

    def client_eof(self) -> None:
        self._stop(self._up)

    def engine_eof(self) -> None:
        if not (self._is_closing or self._up.ended):
            self._engine_broke_off()
        else:
            self._stop(self._down)

    def client_gone(self) -> None:
        if not self._is_closing:
            self._outcome = self._outcome or "client_gone"
        self._finish()

    def engine_gone(self) -> None:
        self._down.ended = True
        self._up.told = True  # nobody is left there
        if self._is_closing or self._up.ended:
            self._finish()
        else:
            self._engine_broke_off()

    def _engine_broke_off(self) -> None:
        self._outcome = self._outcome or "upstream_error"
        self._down.ended = True
        self.end(INTERNAL, "the replica was lost")

    @property
    def _is_closing(self) -> bool:
        """Whether a Close frame has gone either way."""
        return self._up.scanner.closed or self._down.scanner.closed or self._ending is not None

    def _stop(self, way: _Way) -> None:
        """A half-close goes on as one."""
        if self._over or way.ended:
            return
        way.ended = True
        if not way.told:
            way.sink.write(way.scanner.rest())
            way.sink.write_eof()
            way.passed_end = True
        if self._up.ended and self._down.ended:
            if not self._is_closing:
                self._outcome = self._outcome or "client_gone"
            self._finish()
        else:
            self._deadline_s = min(self._deadline_s, monotonic() + _HALF_CLOSED_S)
            self._settle()

    # Ends of our own making

    def end(self, code: int, reason: str) -> None:
        """Close both sides, telling them why."""
        if self._over or self._ending is not None:
            return
        self._ending = (code, reason)
        self._deadline_s = monotonic() + _CLOSE_S
        for way in (self._up, self._down):
            if way.scanner.at_boundary:
                self._tell(way)
        self._settle()

    def _tell(self, way: _Way) -> None:
        if way.told or self._ending is None:
            return
        way.told = True
        if not (way.scanner.closed or way.passed_end):
            code, reason = self._ending
            way.sink.write(close_frame(code, reason, masked=way is self._up))
        way.source.resume()

    def _settle(self) -> None:
        """Once both have been told and have answered, or ended, it is over."""
        if self._ending is None:
            return
        if all(way.told and (way.ended or way.scanner.closed) for way in (self._up, self._down)):
            self._finish()

    def on_sweep(self, now_s: float, *, draining: bool) -> None:
        """Keep the time limits, but for the one of a client that does not read; called every half second or so."""
        if now_s > self._deadline_s and not self._is_being_answered(now_s):
            self._finish()
        elif now_s - self._up.full_since_s > self._stall_timeout_s:
            self._outcome = self._outcome or "upstream_error"
            self.end(INTERNAL, "the replica does not read")
        elif now_s - self._active_s > self._idle_timeout_s:
            self.end(GOING_AWAY, "idle")
        elif draining and now_s - self._active_s > _QUIET_S and self._is_at_rest(now_s):
            self.end(RESTART, "this gateway restarts; connect again")

    def _is_being_answered(self, now_s: float) -> bool:
        """Whether a client that has said all is still being answered."""
        return self._up.ended and not self._is_closing and self.is_busy(now_s)

    def _is_at_rest(self, now_s: float) -> bool:
        return self.up.at_rest and self.down.at_rest and not self.is_busy(now_s)

    def drain_over(self) -> None:
        """Whatever is on its way: the process ends."""
        self.end(RESTART, "this gateway restarts; connect again")

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._engine.end_tunnel()
        self._client.end_tunnel()
        self._on_over(self._outcome or "ok")
