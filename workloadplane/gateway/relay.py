"""One relayed request's life: choose, send, answer, and where that fails choose again or say why not.

::

    choosing -> connecting -> awaiting -> answering -> done
        |  ^________|_____________|          (before the first byte: another replica, or held)
        v  |
       held

A request that never reached a replica may be tried for as long as it may be held. One that was sent is sent
again a few times at most elsewhere, or once to what has replaced the replica, and never after a byte of its answer
has gone to the client. The connections are ``sending``'s business, the queue is ``entry``'s.
"""

import time
from time import monotonic

import structlog
from msgspec.structs import replace

from workloadplane.gateway import errors, heads, trail
from workloadplane.gateway.admission import is_revoked
from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Attempt, Inquiry, attempt_at_peer, attempt_at_replica
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import Entry
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.evidence import (
    is_stuck,
    may_send_again,
    note_head,
    note_lost,
    note_sent,
    note_usual,
    note_withdrawn,
)
from workloadplane.gateway.heads import Served
from workloadplane.gateway.queueing.rate_limits import Charge
from workloadplane.gateway.record import Finished, record
from workloadplane.gateway.resume.resumption import Plan, Resumption, resumption
from workloadplane.gateway.sending import Sending
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.stored import go_to
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.routing import Choice, Reasons, ToPeer, ToReplica, Wait, only_revision, pick

_UNREADY_S = 1.0
_RESENT_MAX = 3
_RETRIED_STATUSES = frozenset({502, 503})
_NEVER_S = float("inf")
_GOES = (ToReplica, ToPeer)
_BEHIND_OTHERS = Wait(reasons=("others wait already",), full=True)
_log = structlog.get_logger(__name__)


class Relay:
    """See the module. Its callbacks come from the client, the upstream connection and the process's sweep."""

    __slots__ = (
        "_answer",
        "_asked",
        "_attempts",
        "_client_full",
        "_connection",
        "_context",
        "_deadline_s",
        "_done",
        "_entry",
        "_failure",
        "_inquiry",
        "_known_bytes",
        "_reasons",
        "_resent",
        "_resumption",
        "_sending",
        "_sent_s",
        "_served",
        "_trail",
        "_tried",
        "request_id",
    )

    def __init__(
        self, context: GatewayContext, connection: ClientConnection, inquiry: Inquiry, charge: Charge | None
    ) -> None:
        self._context = context
        self._connection = connection
        self._inquiry = inquiry
        self._asked = inquiry  # what is asked upstream: this, or the rest of a broken answer to it
        self._resumption: Resumption | None = None
        statement = inquiry.caller.statement
        if statement is not None and statement.revision_id:
            self._asked = replace(inquiry, revision_id=statement.revision_id)
        given = heads.acceptable_request_id(inquiry.request.headers.get(b"x-request-id"))
        self.request_id = statement.request_id if statement else given or context.next_request_id()
        self._entry = Entry(context, inquiry, self, charge)
        self._answer = AnswerWriter(
            connection,
            inquiry.request,
            self.request_id,
            inquiry.route_class,
            to_peer=inquiry.to_peer,
            strip_usage=inquiry.asks_usage,
            headers=self._entry.headers,
        )
        self._sending = Sending(context, self)
        self._trail = trail.begin(context.tracer, inquiry)
        self._attempts = 0
        self._served: Served | None = None
        self._reasons: Reasons = ()
        self._sent_s: float | None = None
        self._tried: set[str] = set()
        self._resent = 0
        self._known_bytes = 0
        self._failure: Failure | None = None
        self._deadline_s = _NEVER_S
        self._client_full = False
        self._done = False

    # Choosing

    def start(self) -> None:
        self._context.relays.add(self)
        self._connection.attach(self)
        registry = self._context.registry
        registry.ejections.budget(self._inquiry.route.deployment_id, self._inquiry.request.began_s).request()
        choice = self._pick(frozenset())
        deployment_id = self._inquiry.route.deployment_id
        goes = isinstance(choice, _GOES) and self._inquiry.route_class.counts_usage
        if goes and self._context.room.waits(deployment_id):
            self._context.turns.soon(deployment_id)
            if isinstance(choice, ToReplica):
                choice = _BEHIND_OTHERS  # who goes to a peer takes nobody's seat here
        self._follow(choice)

    def take_turn(self) -> bool:
        """It waits and is the next: go, if there is anywhere to go now. Whether it waits no more."""
        self._tried.clear()
        if is_revoked(self._context.registry, self._inquiry.caller, now=time.time()):
            self._fail(errors.wrong_key())
            return True
        if not self._refresh_route():
            self._fail(errors.model_not_found(self._inquiry.body.model))
            return True
        choice = self._pick(frozenset(), is_next=True)
        if not isinstance(choice, Wait):
            self._follow(choice)
        return not self._entry.waits

    def spill(self) -> bool:
        """It waits at the line's end: go to another region if that is sooner. Whether it waits no more."""
        choice = self._pick(frozenset())
        if isinstance(choice, ToPeer):
            self._tried.clear()
            self._follow(choice)
        return not self._entry.waits

    def displace(self, retry_after_s: int) -> None:
        """It waited and had to make room."""
        self._entry.displaced()
        self._fail(errors.displaced(retry_after_s))

    def _refresh_route(self) -> bool:
        """Time has passed: go by the table now in force. Whether the deployment is still in it."""
        inquiry = self._inquiry
        route = self._context.registry.route(inquiry.caller.api_key.project_id, inquiry.route.deployment)
        if route is not None:
            self._inquiry = replace(inquiry, route=route)
            self._asked = replace(self._asked, route=route)
        return route is not None

    def _pick(self, tried: frozenset[str], *, is_next: bool = False) -> Choice:
        context = self._context
        inquiry = self._inquiry
        snapshot = context.registry.snapshot(inquiry.route, monotonic())
        if self._asked.revision_id is not None:
            snapshot = only_revision(snapshot, self._asked.revision_id)
        if inquiry.holder is not None:
            facts = None
            choice = go_to(inquiry.holder, snapshot, tried=tried, may_forward=not inquiry.to_peer)
        else:
            facts = context.affinity.facts(inquiry, snapshot, tried, is_next=is_next)
            choice = pick(facts, snapshot, context.affinity.policy, context.rng)
        context.explained.note(self.request_id, inquiry.route.deployment_id, facts, snapshot, choice)
        return choice

    def _follow(self, choice: Choice) -> None:
        try:
            self._go(choice)
        except RecursionError:  # reading it once more, from a deeper place, than when it was let in
            self._fail(errors.body_too_deep())
        except Exception:
            # As in ``on_answer``; one that waits would else stand in the way of all behind it.
            _log.exception("request failed", request_id=self.request_id)
            self._fail(errors.internal())

    def _go(self, choice: Choice) -> None:
        counters, deployment_id = self._context.counters, self._inquiry.route.deployment_id
        if self._trail is not None:
            self._trail.prepare(self._asked.request)
        if isinstance(choice, ToReplica):
            counters.picked(deployment_id, "replica", choice)
            counters.sent(deployment_id, self._inquiry.prompt.size_bytes, choice.known_bytes)
            self._known_bytes = choice.known_bytes
            self._reasons = choice.reasons
            attempt = attempt_at_replica(self._context, self._asked, choice.replica_id, self.request_id)
            attempt.anew_bytes = self._context.affinity.routed(self._inquiry, choice, monotonic())
            self._begin_attempt(attempt)
        elif isinstance(choice, ToPeer):
            counters.picked(deployment_id, "peer", choice)
            self._known_bytes = 0
            self._reasons = choice.reasons
            self._try_peer(choice)
        elif isinstance(choice, Wait):
            counters.picked(deployment_id, "wait", choice)
            self._reasons = choice.reasons
            self._hold(choice)
        else:
            counters.picked(deployment_id, "refuse", choice)
            self._fail(self._failure or errors.refused(choice, self._inquiry.route_class.prompt))

    def _hold(self, wait: Wait) -> None:
        failure = self._entry.begin(self._inquiry, monotonic(), ready=wait.full)
        if failure is not None:
            self._fail(failure)
        else:
            self._tried.clear()
            self._deadline_s = self._entry.until_s

    # Sending

    def _try_peer(self, choice: ToPeer) -> None:
        attempt = attempt_at_peer(self._context, self._asked, choice, self.request_id)
        if attempt is None:
            self._tried.add(choice.cluster_id)
            self._follow(self._pick(frozenset(self._tried)))
        else:
            self._context.affinity.abroad.sent(self._context.registry.peer_facts, choice)
            self._begin_attempt(attempt)

    def _begin_attempt(self, attempt: Attempt) -> None:
        self._attempts += 1
        self._entry.go(monotonic())
        self._deadline_s = self._entry.answer_by_s  # the wait's bound is over; connecting has one of its own
        if self._trail is not None:
            self._trail.begin(attempt)
        self._sending.begin(attempt)

    def on_sent(self) -> None:
        now_s = monotonic()
        if self._sent_s is None:
            self._sent_s = now_s
        self._deadline_s = min(now_s + self._context.limits.first_byte_timeout_s, self._entry.answer_by_s)
        if self._client_full:
            self._sending.pause()
        if self._sending.attempt is not None:
            note_sent(self._context, self._sending.attempt, now_s)

    def _end_attempt(self, outcome: str) -> None:
        """``outcome``: the request's own, or why it goes elsewhere."""
        if self._trail is not None:
            self._trail.end(outcome, self._answer)
        self._sending.end()
        self._deadline_s = _NEVER_S

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
        self._tried.add(attempt.name)
        self._failure = failure
        choice = self._pick(frozenset(self._tried))
        if attempt.was_sent:
            if not self._may_resend(choice):
                self._fail(failure)
                return
            self._resent += 1
        self._count_retry(cause)
        self._follow(choice)

    def _may_resend(self, choice: Choice) -> bool:
        """Whether what was sent may be sent again: elsewhere; where there is nowhere else, once, when that changes."""
        resent_max = _RESENT_MAX if isinstance(choice, _GOES) else 1
        return self._resent < resent_max and may_send_again(self._context, self._asked)

    # Answering

    def on_answer(self, attempt: Attempt, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        stream = self._answer.stream
        try:
            if stream is None or head is not None or complete:
                self._on_answer(attempt, head, data, complete)
            else:
                self._on_chunk(attempt, stream, data)
        except Exception:
            # A fault of ours costs this request only; nothing of what was said is logged.
            _log.exception("request failed", request_id=self.request_id)
            self._fail(errors.internal())

    def _on_chunk(self, attempt: Attempt, stream: SseScanner, data: bytes) -> None:
        """One read in the middle of a stream."""
        now_s = monotonic()
        if attempt.vitals is not None:
            attempt.vitals.heard_s = now_s
        events = stream.events
        if self._answer.pass_chunk(stream, data, now_s) == "broken":
            self._on_cut(attempt)
        elif stream.events > events:
            self._deadline_s = now_s + self._context.limits.stream_idle_timeout_s

    def _on_cut(self, attempt: Attempt) -> None:
        """The answer ended in the middle, by its own word or without its end."""
        if not self._answer.started:
            self._attempt_failed(errors.upstream_unreachable(), "cut")
            return
        if attempt.peer is None:
            note_lost(self._context, attempt, "cut")
        self._broken(attempt, errors.stream_broken())

    def _on_answer(self, attempt: Attempt, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        if head is not None and not self._on_head(attempt, head):
            return
        now_s = monotonic()
        if attempt.vitals is not None and data:
            attempt.vitals.heard_s = now_s
        stream = self._answer.stream
        events = stream.events if stream is not None else 0
        passed = self._answer.pass_on(head, attempt.served, data, complete, now_s)
        if attempt.body and self._answer.started:
            self._connection.release_body(self._inquiry.request)
            attempt.body = b""
        if passed == "broken":
            self._on_cut(attempt)
            return
        if complete:
            if passed == "ended":
                note_usual(self._context, attempt, self._answer, now_s)
            self._finish(passed == "ended")
            return
        stream = self._answer.stream
        alive = bool(data) if stream is None else stream.events > events
        if alive:
            self._deadline_s = now_s + self._context.limits.stream_idle_timeout_s

    def _on_head(self, attempt: Attempt, head: ResponseHead) -> bool:
        """Whether what follows is the answer that the client gets."""
        if head.status == 401 and attempt.peer is None:
            self._attempt_failed(errors.upstream_refused(), "status")
            return False
        note_head(self._context, attempt, head.status)
        if self._goes_elsewhere(attempt, head):
            return False
        if self._answer.rewriter is not None and not head.is_stream:
            self._count_resume("not taken up")
            self._fail(errors.stream_broken())
            return False
        if attempt.peer is not None:
            attempt.served = heads.served_by_peer(head, attempt.peer.cluster_id, attempt.peer.region)
            if head.status == 200:
                inquiry = self._inquiry
                self._context.affinity.abroad.served(
                    inquiry.route.deployment_id, attempt.name, inquiry.prompt.hashes, monotonic()
                )
        self._served = attempt.served
        if self._resumption is None and head.is_stream:
            self._resumption = resumption(self._context, self._inquiry)
            self._answer.kept = self._resumption.kept if self._resumption else None
        return True

    def _goes_elsewhere(self, attempt: Attempt, head: ResponseHead) -> bool:
        """Whether this answer only says that another replica or region must be asked, and one can be."""
        context = self._context
        if attempt.peer is not None and not attempt.may_hold and head.get(heads.UNREADY) is not None:
            unready = context.registry.unready(self._inquiry.route.deployment_id)
            unready.add(attempt.name, monotonic() + _UNREADY_S)
            self._end_attempt("unready")
            self._follow(self._pick(frozenset(self._tried)))
            return True
        if head.status not in _RETRIED_STATUSES:
            return False
        choice = self._pick(frozenset(self._tried | {attempt.name}))
        if not isinstance(choice, _GOES) or not self._may_resend(choice):
            return False
        self._resent += 1
        self._tried.add(attempt.name)
        self._count_retry("status")
        self._end_attempt("status")
        self._follow(choice)
        return True

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

    def _plan(self, attempt: Attempt) -> Plan | bytes | str | None:
        """How the stream could go on elsewhere; ``None``: it is none that could."""
        stream = self._answer.stream
        if self._resumption is None or stream is None or stream.is_mid_event:
            return None
        return self._resumption.plan(attempt.served.revision_id)

    def _go_on(self, plan: Plan, attempt: Attempt, failure: Failure) -> None:
        self._count_resume("begun")
        self._asked = plan.inquiry
        self._answer.go_on(plan.rewriter)
        self._tried = {attempt.name}
        self._resent = 0
        self._failure = failure
        self._entry.goes_on(monotonic())
        self._follow(self._pick(frozenset(self._tried)))

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
        choice = self._pick(frozenset(self._tried | {attempt.name}))
        if not isinstance(choice, _GOES):
            return
        failure = errors.upstream_timeout(self._context.limits.stuck_stream_s)
        if attempt.answered and self._answer.started:
            plan = self._plan(attempt)
            if isinstance(plan, Plan):
                self._end_attempt("stuck")
                self._go_on(plan, attempt, failure)
                return
        elif self._may_resend(choice):
            self._resent += 1
            self._tried.add(attempt.name)
            self._failure = failure
            self._count_retry("stuck")
            self._end_attempt("stuck")
            self._follow(choice)
            return
        attempt.stays = True

    def _finish(self, sound: bool) -> None:
        status = self._answer.status
        if not sound or status >= 500:
            self._close("upstream_error")
        else:
            self._close("ok" if status < 400 else "refused")

    def _fail(self, failure: Failure) -> None:
        if self._done:
            return  # the answer has ended: another word would be taken for the next one's
        outcome = "refused" if failure.status < 500 else "upstream_error"
        self._end_attempt(outcome)
        self._answer.fail(failure)
        self._close(outcome, failure.status)

    def _close(self, outcome: str, status: int | None = None) -> None:
        if self._done:
            return
        self._done = True
        self._entry.leave()
        self._end_attempt(outcome)
        self._context.relays.discard(self)
        self._context.turns.soon(self._inquiry.route.deployment_id)  # its seat is free
        if self._resumption is not None:
            self._resumption.release()
            if outcome == "ok" and self._answer.rewriter is not None:
                self._count_resume("done")
        inquiry = self._inquiry
        record(
            self._context,
            Finished(
                self.request_id,
                inquiry.caller,
                inquiry.route,
                inquiry.route_class.name,
                self._answer,
                self._entry,
                status or self._answer.status,
                outcome,
                self._served,
                self._trail.span if self._trail is not None else None,
                self._reasons,
                self._attempts,
                inquiry.adapter,
                inquiry.prompt.size_bytes,
                self._known_bytes,
                inquiry.characters,
                self._answer.rewriter is not None,
                inquiry.request.began_s,
                self._sent_s,
                monotonic(),
                time.time(),
            ),
        )
        self._entry.close()
        self._sending.close()

    # The client's and the process's calls

    def on_client_gone(self) -> None:
        """Cancel upstream: the engine stops when its connection closes."""
        note_withdrawn(self._context, self._sending.attempt)
        self._close("client_gone", 499)

    def on_client_full(self) -> None:
        self._client_full = True
        self._sending.pause()

    def on_client_ready(self) -> None:
        self._client_full = False
        if self._deadline_s != _NEVER_S:
            self._deadline_s = monotonic() + self._context.limits.stream_idle_timeout_s
        self._sending.resume()

    def on_client_eof(self) -> None:
        self._answer.probe()

    def on_sweep(self, now_s: float) -> None:
        """Keep the time limits; called every half second or so."""
        if self._entry.is_comment_due(now_s):
            if self._answer.started:
                self._answer.comment()
            else:
                self._answer.begin_early()
        if now_s > self._deadline_s and not self._client_full:
            self._on_deadline()
            return
        attempt = self._sending.attempt
        if attempt is not None and not self._client_full:
            streams = bool(self._inquiry.body.stream)
            if is_stuck(self._context, attempt, self._answer, streams=streams, now_s=now_s):
                self._leave_stuck(attempt)

    def _on_deadline(self) -> None:
        limits = self._context.limits
        if self._served is None and monotonic() >= self._entry.answer_by_s:
            self._fail(errors.deadline_passed())
        elif self._entry.waits:
            self._fail(errors.hold_expired(limits.hold_timeout_s))
        elif self._served is not None:
            self._fail(errors.upstream_timeout(limits.stream_idle_timeout_s))
        else:
            self._fail(errors.upstream_timeout(limits.first_byte_timeout_s))

    def on_drain_over(self) -> None:
        """The process's time is over: end honestly."""
        self._fail(errors.shutting_down())
