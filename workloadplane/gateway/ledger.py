"""What need not be done before bytes go out: choices and ended requests, put down together once the loop has written.

The same work some dozen times in a row costs half of what it costs between other work, so a busy process gathers
over several turns of its loop, until there are so many or the process's next flush. Otherwise all is put down as
soon as the turn's answers have gone out. Whoever reads what is written here calls ``write`` first.
"""

import time
from typing import TYPE_CHECKING

import structlog

from workloadplane.gateway.record import Figures, Finished, record, settle
from workloadplane.routing import Choice, RequestFacts, Snapshot

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

_MANY = 32
_log = structlog.get_logger(__name__)
_Chosen = tuple[str, str, RequestFacts | None, Snapshot, Choice, float]


class Ledger:
    """One per process."""

    __slots__ = ("_chosen", "_context", "_finished", "_is_due")

    def __init__(self, context: "GatewayContext") -> None:
        self._context = context
        self._chosen: list[_Chosen] = []
        self._finished: list[tuple[Finished, Figures]] = []
        self._is_due = False

    def chose(
        self,
        request_id: str,
        deployment_id: str,
        facts: RequestFacts | None,
        snapshot: Snapshot,
        choice: Choice,
    ) -> None:
        """A choice was made. ``facts``: ``None`` where nothing had to be weighed."""
        self._chosen.append((request_id, deployment_id, facts, snapshot, choice, time.time()))
        if not self._is_due and (len(self._chosen) >= _MANY or not self._context.cohort.is_busy):
            self._write_soon()

    def finished(self, done: Finished) -> None:
        """A request has ended; queue and limits know at once."""
        self._finished.append((done, settle(self._context, done)))
        if not self._is_due and (len(self._finished) >= _MANY or not self._context.cohort.is_busy):
            self._write_soon()

    def _write_soon(self) -> None:
        self._is_due = True
        self._context.loop.call_soon(self.write)

    def write(self) -> None:
        """Put down what has gathered. A fault of ours costs the one line that it is about."""
        context = self._context
        self._is_due = False
        chosen, self._chosen = self._chosen, []
        finished, self._finished = self._finished, []
        note = context.explained.note
        for request_id, deployment_id, facts, snapshot, choice, at in chosen:
            try:
                note(request_id, deployment_id, facts, snapshot, choice, at=at)
            except Exception:
                _log.exception("choice not noted", request_id=request_id)
        for done, figures in finished:
            try:
                record(context, done, figures)
            except Exception:
                _log.exception("request not written down", request_id=done.request_id)
