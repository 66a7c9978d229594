"""How long a relayed request may take over each of its steps, and what its client hears meanwhile.

Each step sets ``_deadline_s``; the process's sweep looks at it. A client that does not read suspends it: its own stall
has a bound of the connection's.
"""

from time import monotonic

import structlog

from workloadplane.gateway import errors
from workloadplane.gateway.attempt import Attempt
from workloadplane.gateway.evidence import is_stuck
from workloadplane.gateway.heads import Served
from workloadplane.gateway.yielding import Yielding

NEVER_S = float("inf")
_log = structlog.get_logger(__name__)


class TimeLimited(Yielding):
    """The part of a relayed request's life that the clock decides; ``relay`` has the rest.

    _deadline_s:  of the step at hand, monotonic
    _client_full: its client does not read
    """

    __slots__ = ("_client_full", "_deadline_s")

    _served: Served | None

    def _begin_timing(self) -> None:
        self._deadline_s = NEVER_S
        self._client_full = False

    def _heard(self, now_s: float) -> None:
        """An event of its answer has come."""
        self._deadline_s = now_s + self._context.limits.stream_idle_timeout_s

    def _held(self, attempt: Attempt, now_s: float) -> None:
        """Its peer says that it waits for a seat there: it lives, though for no longer than a first event may take."""
        stream, limits = self._answer.stream, self._context.limits
        since_s = attempt.sent_s
        if stream is not None and stream.last_event_s is not None:
            since_s = max(since_s, stream.last_event_s)
        self._deadline_s = min(now_s + limits.stream_idle_timeout_s, since_s + limits.first_byte_timeout_s)

    def on_client_full(self) -> None:
        self._client_full = True
        self._sending.pause()

    def on_client_ready(self) -> None:
        self._client_full = False
        if self._deadline_s != NEVER_S and not self._entry.waits:
            self._heard(monotonic())
        self._sending.resume()

    def on_sweep(self, now_s: float) -> None:
        """Keep the time limits; called every half second or so."""
        try:
            self._look(now_s)
        except Exception:
            # As in ``relay``: it costs this request only, and not the limits of all that come after it.
            _log.exception("request failed", request_id=self.request_id)
            self._fail(errors.internal())

    def _look(self, now_s: float) -> None:
        if self._entry.is_comment_due(now_s):
            if self._answer.started:
                self._answer.comment()
            else:
                self._answer.begin_early()
        if self._entry.promised is not None:
            self._return()
        if now_s > self._deadline_s and not self._client_full:
            self._on_deadline()
            return
        attempt = self._sending.attempt
        if (
            attempt is not None
            and attempt.peer is None
            and attempt.name in self._context.registry.handed_over
        ):
            self._hand_over(attempt)
        elif attempt is not None and not self._client_full:
            streams = bool(self._inquiry.body.stream)
            if is_stuck(self._context, attempt, self._answer, streams=streams, now_s=now_s):
                self._leave_stuck(attempt)

    def _on_deadline(self) -> None:
        limits = self._context.limits
        if self._served is None and monotonic() >= self._entry.answer_by_s:
            self._fail(errors.deadline_passed())
        elif self._entry.waits and self._is_before_full_replicas():
            self._deadline_s = monotonic() + limits.hold_timeout_s
        elif self._entry.waits:
            self._fail(errors.hold_expired(limits.hold_timeout_s))
        elif self._served is not None:
            self._fail(errors.upstream_timeout(limits.stream_idle_timeout_s))
        else:
            self._fail(errors.upstream_timeout(limits.first_byte_timeout_s))
