"""What becomes of a request whose attempt has failed: another replica, the same again, or on from where it broke.

Nothing that was sent goes out a second time where that could do harm, and what the client has seen of an answer is
neither repeated nor contradicted.
"""

from abc import ABC, abstractmethod
from time import monotonic

import structlog

from workloadplane.gateway import errors, heads
from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Attempt, Inquiry
from workloadplane.gateway.choosing import GOES, NOBODY
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import Entry
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.evidence import may_send_again, note_lost
from workloadplane.gateway.resume.resumption import Plan, Resumption
from workloadplane.gateway.sending import Sending
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.routing import Choice, Reasons, Wait

_log = structlog.get_logger(__name__)
_UNREADY_S = 1.0
_RESENT_MAX = 3
#: An error of the replica's own may be the request's doing: it is tried once elsewhere, not on one after the other,
#: and waits for nobody.
_RETRIED_STATUSES = frozenset({500, 502, 503})
_RETRIED_ONCE = 500
#: Of whoever can't take the rest of an answer now, and may be able to soon.
_NOT_NOW_STATUSES = frozenset({429, 502, 503})
_AGAIN_S = 1.0
_REST_REFUSED = Wait(reasons=("the rest of its answer was refused just now",), full=True)


class Recovering(ABC):
    """The part of a relayed request's life that begins when an attempt fails; ``relay`` has the rest.

    _asked: what is asked upstream: what the client asks, or the rest of a broken answer to it
    _again_s: not before then is anybody asked once more, after an answer that said "not now"
    """

    __slots__ = (
        "_again_s",
        "_answer",
        "_asked",
        "_context",
        "_entry",
        "_failure",
        "_inquiry",
        "_resent",
        "_resumption",
        "_sending",
        "_tried",
        "request_id",
    )

    request_id: str
    _context: GatewayContext
    _inquiry: Inquiry
    _asked: Inquiry
    _entry: Entry
    _answer: AnswerWriter
    _sending: Sending

    def _begin_recovering(self) -> None:
        self._tried = NOBODY
        self._resent = 0
        self._failure: Failure | None = None
        self._resumption: Resumption | None = None
        self._again_s = 0.0

    # What ``relay`` does

    @abstractmethod
    def _choose(self, tried: frozenset[str], *, is_next: bool = False, because: Reasons = ()) -> Choice: ...

    @abstractmethod
    def _follow(self, choice: Choice) -> None: ...

    @abstractmethod
    def _end_attempt(self, outcome: str) -> None: ...

    @abstractmethod
    def _finish(self, sound: bool) -> None: ...

    @abstractmethod
    def _fail(self, failure: Failure) -> None: ...

    # Before anything of an answer has come

    def on_attempt_lost(self, failure: Failure, cause: str) -> None:
        attempt = self._sending.attempt
        if attempt is not None and attempt.answered and self._answer.started:
            note_lost(self._context, attempt, cause)
            self._broken(attempt, errors.stream_broken())
        else:
            self._attempt_failed(failure, cause)

    def _attempt_failed(self, failure: Failure, cause: str) -> None:
        """Nothing of an answer has come: try elsewhere, if that is safe."""
        attempt = self._sending.attempt
        self._end_attempt(cause)
        if attempt is None:
            return
        note_lost(self._context, attempt, cause)
        self._tried |= {attempt.name}
        self._failure = failure
        choice = self._choose(self._tried)
        if attempt.was_sent:
            if not self._may_resend(choice):
                self._fail(failure)
                return
            self._resent += 1
        self._count_retry(cause)
        self._follow(choice)

    def _may_resend(self, choice: Choice) -> bool:
        """Whether what was sent may be sent again: elsewhere; where there is nowhere else, once, when that changes."""
        resent_max = _RESENT_MAX if isinstance(choice, GOES) else 1
        return self._resent < resent_max and may_send_again(self._context, self._asked)

    def _on_cut(self, attempt: Attempt) -> None:
        """The answer ended in the middle, by its own word or without its end."""
        if not self._answer.started:
            self._attempt_failed(errors.upstream_unreachable(), "cut")
            return
        if attempt.peer is None:
            note_lost(self._context, attempt, "cut")
        self._broken(attempt, errors.stream_broken())

    def _goes_elsewhere(self, attempt: Attempt, head: ResponseHead) -> bool:
        """Whether this answer only says that another replica or region must be asked, and one can be, now or soon."""
        context = self._context
        if attempt.peer is not None and not attempt.may_hold and head.get(heads.UNREADY) is not None:
            unready = context.registry.unready(self._inquiry.route.deployment_id)
            unready.add(attempt.name, monotonic() + _UNREADY_S)
            self._end_attempt("unready")
            self._follow(self._choose(self._tried))
            return True
        if self._answer.rewriter is not None and head.status in _NOT_NOW_STATUSES:
            self._rest_refused(attempt)
            return True
        if head.status not in _RETRIED_STATUSES or (head.status == _RETRIED_ONCE and self._resent):
            return False
        choice = self._choose(self._tried | {attempt.name})
        waits = isinstance(choice, Wait) and choice.full and head.status != _RETRIED_ONCE
        if not (isinstance(choice, GOES) or waits) or not self._may_resend(choice):
            return False
        if waits:
            self._again_s = monotonic() + _AGAIN_S
        self._resent += 1
        self._tried |= {attempt.name}
        self._count_retry("status")
        self._end_attempt("status")
        self._follow(choice)
        return True

    def _rest_refused(self, attempt: Attempt) -> None:
        """What has begun is worth waiting for: on to another, else it is held until one can, as a request would be."""
        self._tried |= {attempt.name}
        self._end_attempt("status")
        choice = self._choose(self._tried)
        if not isinstance(choice, GOES):
            self._again_s = monotonic() + _AGAIN_S
            choice = _REST_REFUSED
        self._follow(choice)

    def _broken(self, attempt: Attempt, failure: Failure) -> None:
        """The answer broke off in the middle: go on elsewhere, or end honestly."""
        self._end_attempt("cut")
        plan = self._plan(attempt)
        if plan is None:
            self._fail(failure)
        elif isinstance(plan, Plan):
            self._go_on(plan, attempt, failure)
        elif isinstance(plan, bytes):
            self._count_resume("ended")
            self._answer.end_with(plan, monotonic())
            self._finish(True)
        else:
            self._count_resume("refused")
            self._fail(errors.not_resumable(plan))

    def _plan(self, attempt: Attempt, *, broke: bool = True) -> Plan | bytes | str | None:
        """How the stream could go on elsewhere, or later; ``None``: it is none that could."""
        stream = self._answer.stream
        if self._resumption is None or stream is None or stream.is_mid_event:
            return None
        try:
            return self._resumption.plan(attempt.served.revision_id, broke=broke)
        except Exception:
            # A body that is read once more, from a deeper place than when it was let in; or a fault of ours.
            _log.exception("stream not continued", request_id=self.request_id)
            return "a body that can't be read again"

    def _go_on(self, plan: Plan, attempt: Attempt, failure: Failure) -> None:
        self._count_resume("begun")
        self._asked = plan.inquiry
        self._answer.go_on(plan.rewriter)
        self._tried = frozenset({attempt.name})
        self._resent = 0
        self._failure = failure
        self._entry.goes_on(monotonic())
        self._follow(self._choose(self._tried))

    def _count_retry(self, cause: str) -> None:
        self._context.counters.retries[self._inquiry.route.deployment_id, cause] += 1

    def _count_resume(self, outcome: str) -> None:
        self._context.counters.resumes[self._inquiry.route.deployment_id, outcome] += 1

    def _leave_stuck(self, attempt: Attempt) -> None:
        """Its replica gives nobody anything: go elsewhere if there is anywhere, and nothing is lost by it."""
        if not attempt.stuck:
            attempt.stuck = True
            note_lost(self._context, attempt, "stuck")
        if attempt.stays:
            return
        choice = self._choose(self._tried | {attempt.name})
        if isinstance(choice, GOES):
            failure = errors.upstream_timeout(self._context.limits.stuck_stream_s)
            attempt.stays = not self._leave(attempt, choice, failure, "stuck")

    def _hand_over(self, attempt: Attempt) -> None:
        """Its replica is about to vanish: go elsewhere while there is room for it.

        What can't go now is asked again, and stays until its replica has gone; then it is recovered as from any other
        loss.
        """
        choice = self._choose(self._tried | {attempt.name})
        if isinstance(choice, GOES):
            self._leave(attempt, choice, errors.stream_broken(), "handed_over")

    def _leave(self, attempt: Attempt, choice: Choice, failure: Failure, cause: str) -> bool:
        """Give up a replica that still runs, for ``choice``; whether that can be without harm."""
        if attempt.answered and self._answer.started:
            plan = self._plan(attempt, broke=cause == "stuck")
            if not isinstance(plan, Plan):
                return False
            self._end_attempt(cause)
            self._go_on(plan, attempt, failure)
            return True
        if not self._may_resend(choice):
            return False
        self._resent += 1
        self._tried |= {attempt.name}
        self._failure = failure
        self._count_retry(cause)
        self._end_attempt(cause)
        self._follow(choice)
        return True
