"""A stream that gives up its seat to a request of another tenant, and goes on from where it was.

``queueing.preemption`` says who gives way, ``resume`` how a stream goes on. The engine is told by the closed
connection; its cache keeps what it has computed, so going on costs little. One of which nothing has come is sent anew.
What waits then had a seat: it is neither refused nor displaced, and its key is not judged again. Where its revision
leaves before it has another seat, the replica where it was, which finishes what it has, takes it back.

A stream that a peer passed on waits here too, for here its seat was. The gateway that met its client hears comments
meanwhile that it asked for (``PeerStatement.hold_mark``) and that no engine can know, so none that hangs is taken for a
stream that waits. One of whose answer nothing has begun keeps its seat, as that gateway might find a sooner one.
"""

from collections.abc import Hashable
from time import monotonic

from workloadplane.gateway.answer import KEEP_ALIVE
from workloadplane.gateway.attempt import Attempt, Inquiry
from workloadplane.gateway.choosing import NOBODY
from workloadplane.gateway.modalities import ONLY_TEXT
from workloadplane.gateway.peers import hold_comment
from workloadplane.gateway.queueing import Seat
from workloadplane.gateway.recovering import Recovering
from workloadplane.gateway.resume.continuation import HALF_A_CHARACTER
from workloadplane.gateway.resume.resumption import Plan
from workloadplane.protocol.refusal import Refusal
from workloadplane.routing import Choice, Reasons, ToReplica, Wait
from workloadplane.routing.places import Places

TAKEN_BACK: Reasons = ("in a seat taken back",)
_GIVES_WAY = Wait(reasons=("gave its seat to a request that is before it",), full=True)
_NEVER_S = float("inf")
_RETURNS: Reasons = ("its revision leaves", "to the replica where it was")


def comment_line(inquiry: Inquiry) -> bytes:
    """What is told while it waits."""
    statement = inquiry.caller.statement
    return hold_comment(statement.hold_mark) if statement is not None and statement.hold_mark else KEEP_ALIVE


class Yielding(Recovering):
    """The part of a relayed request's life that concerns seats; ``relay`` has the rest.

    _stays:   it can't go on later, or a peer passed it on which would take its silence for a fault
    _half_at: so many tokens it had made when it was in the middle of a character, and could not go on later
    """

    __slots__ = ("_half_at", "_stays")

    def _begin_yielding(self) -> None:
        statement = self._inquiry.caller.statement
        self._stays = not self._inquiry.may_resume or (statement is not None and not statement.hold_mark)
        self._half_at = -1

    def seat(self, usable: int, places: Places) -> "Seat[Yielding] | None":
        """Its seat, if it could give it up now and it is at one of these replicas (bits)."""
        attempt, stream, entry = self._sending.attempt, self._answer.stream, self._entry
        if self._stays or attempt is None:
            return None
        if attempt.answered:
            if stream is None or stream.is_mid_event or self._tokens == self._half_at:
                return None
        elif self._inquiry.to_peer or entry.answer_by_s != _NEVER_S:
            return None  # it might be sooner elsewhere, or miss its deadline
        place = places.place_of.get(attempt.name)
        if place is None or not usable >> place & 1:
            return None
        return Seat(self, entry.left(self._tokens), entry.preemptions, attempt.sent_s)

    def give_way(self) -> bool:
        """End it upstream and let it wait for its rest; whether that can be."""
        attempt = self._sending.attempt
        if attempt is None:
            return False
        if attempt.answered:
            plan = self._plan_for_later(attempt)
            if plan is None:
                return False
            self._end_attempt("preempted")
            self._asked = plan.inquiry
            self._answer.go_on(plan.rewriter)
            self._resent = 0  # what is asked now is new
        else:
            self._end_attempt("preempted")
        self._tried = NOBODY
        self._failure = None
        context, route, now_s = self._context, self._inquiry.route, monotonic()
        self._entry.gives_way(attempt.name, self._tokens, now_s)
        context.counters.preemptions[(route.deployment_id,)] += 1
        snapshot = context.registry.snapshot(route, now_s)
        context.ledger.chose(self.request_id, route.deployment_id, None, snapshot, _GIVES_WAY)
        self._follow(_GIVES_WAY)
        return True

    def _plan_for_later(self, attempt: Attempt) -> Plan | None:
        """How it goes on; where it can't it stays, or is asked again when it has made another token."""
        plan = self._plan(attempt, broke=False)
        if isinstance(plan, Plan):
            return plan
        if plan == HALF_A_CHARACTER:
            self._half_at = self._tokens
        else:
            self._leave_seat()
            self._stays = True
        return None

    @property
    def bound_to(self) -> Hashable | None:
        """The revision that its answer has begun with, its adapter, what it holds beside text; ``None``: nothing."""
        inquiry = self._inquiry
        beside_text = inquiry.prompt.modalities - ONLY_TEXT
        bound_to = self._asked.revision_id, inquiry.adapter, beside_text or None
        return bound_to if any(bound_to) else None

    @property
    def _tokens(self) -> int:
        """Made so far, as far as its client has them."""
        stream = self._answer.stream
        return stream.token_events if stream is not None else 0

    def _take_seat(self) -> None:
        """It is sent to a replica of this cluster."""
        if not self._stays:
            self._context.preempting.add(self, self._inquiry.route.deployment_id, self._entry.ticket)

    def _leave_seat(self) -> None:
        if not self._stays:
            self._context.preempting.discard(self, self._inquiry.route.deployment_id, self._entry.ticket)

    def _make_room(self, wait: Wait) -> bool:
        """It is next and waits: take a seat back from another tenant; whether there is one now."""
        if not wait.full:
            return False
        context, route = self._context, self._inquiry.route
        places = context.registry.snapshot(route, monotonic()).places
        return context.preempting.make_room(route.deployment_id, self._entry.ticket, wait.places, places)

    def _is_before_full_replicas(self) -> bool:
        """Whether it gave up its seat and replicas will have one for it: it waits for as long as that takes."""
        if not self._entry.preemptions:
            return False
        choice = self._choose(NOBODY)
        return isinstance(choice, ToReplica) or (isinstance(choice, Wait) and choice.full)

    def _return(self) -> None:
        """It waits: if no replica takes it any more, back to the one where it was, as long as that is there."""
        name = self._entry.promised
        endpoint = self._context.registry.endpoints.get(name) if name is not None else None
        if name is None or endpoint is None or endpoint.state != "draining":
            return
        choice: Choice = self._choose(NOBODY)
        if isinstance(choice, Refusal) or (isinstance(choice, Wait) and not choice.full):
            self._follow(ToReplica(name, _RETURNS))
