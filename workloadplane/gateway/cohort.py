"""What one turn of a busy loop brings, handled kind by kind: first all answers, then all requests.

Reading is little; what follows from what was read is much code, and code that has just run is twice as fast as code
that a processor must fetch again. So while several requests come in a turn they are gathered as they are read and
handled in a row, which delays nobody: nothing is written before the turn ends. A lone request is handled at once.
"""

import asyncio
from typing import Protocol

import structlog

_BUSY_FROM = 3
_log = structlog.get_logger(__name__)


class Gathered(Protocol):
    """A connection on which something whole has come."""

    def on_turn(self) -> None:
        """Handle it, if that is still wanted."""

    def abort(self) -> None:
        """Handling it failed: close."""


class Cohort:
    """One per process. ``is_busy``: whether to gather; by what the last turn brought."""

    __slots__ = ("_answers", "_loop", "_met", "_requests", "is_busy")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: list[Gathered] = []
        self._requests: list[Gathered] = []
        self._met = 0
        self.is_busy = False

    def met(self) -> None:
        """Something came that is handled at once."""
        if not self._met:
            self._loop.call_soon(self._look)
        self._met += 1

    def _look(self) -> None:
        if self._met and not (self._answers or self._requests):
            self._judge(self._met)

    def _judge(self, handled: int) -> None:
        self.is_busy = handled >= _BUSY_FROM
        self._met = 0

    def add_answer(self, connection: Gathered) -> None:
        """Call its ``on_turn`` at the turn's end."""
        if not (self._answers or self._requests):
            self._loop.call_soon(self.handle)
        self._answers.append(connection)

    def add_request(self, connection: Gathered) -> None:
        """Call its ``on_turn`` at the turn's end, after the answers."""
        if not (self._answers or self._requests):
            self._loop.call_soon(self.handle)
        self._requests.append(connection)

    def handle(self) -> None:
        """The turn ends."""
        answers, self._answers = self._answers, []
        requests, self._requests = self._requests, []
        self._judge(len(answers) + len(requests) + self._met)
        for each in (*answers, *requests):
            try:
                each.on_turn()
            except Exception:
                _log.exception("connection failed")
                each.abort()
