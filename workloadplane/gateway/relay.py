"""One relayed request's life: choose, send, answer, and where that fails choose again or say why not.

::

    choosing -> connecting -> awaiting -> answering -> done
        |  ^________|_____________|          (before the first byte: another replica, or held)
        v  |
       held

A request that never reached a replica may be tried for as long as it may be held. One that was sent is sent
again a few times at most elsewhere, or once to what has replaced the replica, and never after a byte of its answer
has gone to the client: that is ``recovering``'s business. What gives up its seat is ``yielding``'s, how long all may
take ``time_limits``'s. The connections are ``sending``'s, the queue is ``entry``'s.
"""

import time
from time import monotonic

import structlog
from msgspec.structs import replace

from workloadplane.gateway import errors, heads, trail
from workloadplane.gateway.admission import is_revoked
from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Attempt, Inquiry, attempt_at_peer, attempt_at_replica
from workloadplane.gateway.choosing import GOES, NOBODY, choose
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import Entry
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.evidence import note_head, note_sent, note_usual, note_withdrawn
from workloadplane.gateway.heads import Served
from workloadplane.gateway.queueing.rate_limits import Charge
from workloadplane.gateway.record import Finished
from workloadplane.gateway.resume.resumption import resumption
from workloadplane.gateway.sending import Sending
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.time_limits import NEVER_S, TimeLimited
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.gateway.yielding import TAKEN_BACK, comment_line
from workloadplane.routing import Choice, Reasons, ToPeer, ToReplica, Wait

_BEHIND_OTHERS = Wait(reasons=("others wait already",), full=True)
_log = structlog.get_logger(__name__)


class Relay(TimeLimited):
    """See the module. Its callbacks come from the client, the upstream connection and the process's sweep."""

    __slots__ = (
        "_attempts",
        "_connection",
        "_done",
        "_known_bytes",
        "_reasons",
        "_sending",
        "_sent_s",
        "_served",
        "_trail",
    )

    def __init__(
        self, context: GatewayContext, connection: ClientConnection, inquiry: Inquiry, charge: Charge | None
    ) -> None:
        request = inquiry.request
        statement = inquiry.caller.statement
        given = request.headers.get(b"x-request-id")
        request_id = heads.acceptable_request_id(given) if given is not None else None
        self.request_id = request_id or context.next_request_id()
        self._asked = inquiry
        if statement is not None:
            self.request_id = statement.request_id
            if statement.revision_id:
                self._asked = replace(inquiry, revision_id=statement.revision_id)
        self._context = context
        self._inquiry = inquiry
        self._connection = connection
        self._entry = Entry(context, inquiry, self, charge)
        self._answer = AnswerWriter(
            connection,
            request,
            self.request_id,
            inquiry.route_class,
            to_peer=statement is not None,
            strip_usage=inquiry.asks_usage,
            headers=charge.headers if charge is not None else b"",
            comment_line=comment_line(inquiry),
        )
        self._sending = Sending(context, self)
        self._trail = trail.begin(context.tracer, inquiry)
        self._attempts = 0
        self._served: Served | None = None
        self._reasons: Reasons = ()
        self._sent_s: float | None = None
        self._known_bytes = 0
        self._done = False
        self._begin_recovering()
        self._begin_yielding()
        self._begin_timing()

    # Choosing

    def start(self) -> None:
        context, deployment_id = self._context, self._inquiry.route.deployment_id
        context.relays.add(self)
        self._connection.attach(self)
        context.registry.ejections.budget(deployment_id, self._inquiry.request.began_s).request()
        choice = self._choose(NOBODY)
        goes = isinstance(choice, GOES) and self._inquiry.route_class.counts_usage
        turns = context.turns
        if goes and context.room.waits(deployment_id) and not turns.lets_pass(deployment_id, self.bound_to):
            turns.soon(deployment_id)
            if isinstance(choice, ToReplica):
                choice = _BEHIND_OTHERS  # who goes to a peer takes nobody's seat here
        self._follow(choice)

    def take_turn(self) -> bool:
        """It waits and is the next: go, if there is anywhere to go now. Whether it waits no more."""
        try:
            return self._take_turn()
        except Exception:
            # As in ``on_answer``; it would else stand in the way of all behind it.
            _log.exception("request failed", request_id=self.request_id)
            self._fail(errors.internal())
            return True

    def _take_turn(self) -> bool:
        if monotonic() < self._again_s:
            return False
        self._tried = NOBODY
        had_seat = self._entry.ticket.had_seat
        if not had_seat and is_revoked(self._context.registry, self._inquiry.caller, now=time.time()):
            self._fail(errors.wrong_key())
            return True
        if not (self._refresh_route() or had_seat):
            self._fail(errors.model_not_found(self._inquiry.body.model))
            return True
        choice = self._choose(NOBODY, is_next=True)
        if isinstance(choice, Wait) and self._make_room(choice):
            choice = self._choose(NOBODY, is_next=True, because=TAKEN_BACK)
        if not isinstance(choice, Wait):
            self._follow(choice)
        return not self._entry.waits

    def spill(self) -> bool:
        """It waits at the line's end: go to another region if that is sooner. Whether it waits no more."""
        if monotonic() < self._again_s:
            return False
        choice = self._choose(NOBODY)
        if isinstance(choice, ToPeer):
            self._tried = NOBODY
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

    def _choose(self, tried: frozenset[str], *, is_next: bool = False, because: Reasons = ()) -> Choice:
        asked, revision_id = self._inquiry, self._asked.revision_id
        return choose(
            self._context, asked, revision_id, self.request_id, tried, is_next=is_next, because=because
        )

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
        context, inquiry = self._context, self._inquiry
        counters, deployment_id = context.counters, inquiry.route.deployment_id
        if self._trail is not None:
            self._trail.prepare(self._asked.request)
        if isinstance(choice, ToReplica):
            counters.to_replica(deployment_id, choice, inquiry.prompt.size_bytes)
            self._known_bytes = choice.known_bytes
            self._reasons = choice.reasons
            attempt = attempt_at_replica(context, self._asked, choice.replica_id, self.request_id)
            now_s = monotonic()
            attempt.anew_bytes = context.affinity.routed(inquiry, choice, now_s)
            self._begin_attempt(attempt, now_s)
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
            self._fail(self._failure or errors.refused(choice, inquiry.route_class.prompt))

    def _hold(self, wait: Wait) -> None:
        failure = self._entry.begin(self._inquiry, monotonic(), wait)
        if failure is not None:
            self._fail(failure)
        else:
            self._tried = NOBODY
            self._deadline_s = self._entry.until_s

    # Sending

    def _try_peer(self, choice: ToPeer) -> None:
        attempt = attempt_at_peer(self._context, self._asked, choice, self.request_id)
        if attempt is None:
            self._tried |= {choice.cluster_id}
            self._follow(self._choose(self._tried))
        else:
            self._context.affinity.abroad.sent(self._context.registry.peer_facts, choice)
            self._begin_attempt(attempt, monotonic())

    def _begin_attempt(self, attempt: Attempt, now_s: float) -> None:
        self._attempts += 1
        self._entry.go(now_s)
        self._deadline_s = self._entry.answer_by_s  # the wait's bound is over; connecting has one of its own
        if self._trail is not None:
            self._trail.begin(attempt)
        if attempt.peer is None:
            self._take_seat()
        self._sending.begin(attempt)

    def on_sent(self, attempt: Attempt) -> None:
        now_s = monotonic()
        if self._sent_s is None:
            self._sent_s = now_s
        self._deadline_s = min(now_s + self._context.limits.first_byte_timeout_s, self._entry.answer_by_s)
        if self._client_full:
            self._sending.pause()
        note_sent(self._context, attempt, now_s)

    def _end_attempt(self, outcome: str) -> None:
        """``outcome``: the request's own, or why it goes elsewhere."""
        if self._trail is not None:
            self._trail.end(outcome, self._answer)
        self._leave_seat()
        self._sending.end()
        self._deadline_s = NEVER_S

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
            self._heard(now_s)
        elif self._answer.held_s == now_s:
            self._held(attempt, now_s)

    def _on_answer(self, attempt: Attempt, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        if head is not None and not self._on_head(attempt, head):
            return
        now_s = monotonic()
        if attempt.vitals is not None and data:
            attempt.vitals.heard_s = now_s
        stream = self._answer.stream
        events = stream.events if stream is not None else 0
        passed = self._answer.pass_on(head, attempt.served, data, complete, now_s)
        if attempt.body and not complete and self._answer.started:
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
            self._heard(now_s)
        elif self._answer.held_s == now_s:
            self._held(attempt, now_s)

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
        self._answer.peer_held = attempt.held
        if self._resumption is None and head.is_stream:
            self._resumption = resumption(self._context, self._inquiry)
            self._answer.kept = self._resumption.kept if self._resumption else None
        return True

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
        self._entry.close()
        self._end_attempt(outcome)
        context, inquiry = self._context, self._inquiry
        context.relays.discard(self)
        context.turns.soon(inquiry.route.deployment_id)  # its seat is free
        if self._resumption is not None:
            self._resumption.release()
            if outcome == "ok" and self._entry.broke:
                self._count_resume("done")
        context.ledger.finished(
            Finished(
                self.request_id,
                inquiry,
                self._answer,
                self._entry,
                status or self._answer.status,
                outcome,
                self._served,
                self._trail.span if self._trail is not None else None,
                self._reasons,
                self._attempts,
                self._known_bytes,
                self._sent_s,
                monotonic(),
                time.time(),
            )
        )
        self._sending.close()

    # The client's and the process's calls

    def on_client_gone(self) -> None:
        """Cancel upstream: the engine stops when its connection closes."""
        note_withdrawn(self._context, self._sending.attempt)
        self._close("client_gone", 499)

    def on_client_eof(self) -> None:
        self._answer.probe()

    def on_drain_over(self) -> None:
        """The process's time is over: end honestly."""
        self._fail(errors.shutting_down())
