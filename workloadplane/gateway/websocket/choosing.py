"""Where a session goes: its route, its choices one after the other, its place in the queue.

Nothing is sent here. Every question is answered with what comes next (``Step``).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from msgspec.structs import replace

from workloadplane.gateway import errors, heads
from workloadplane.gateway.admission import Caller, is_revoked
from workloadplane.gateway.attempt import Attempt, Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import Entry, Held
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.evidence import note_lost
from workloadplane.gateway.reader import Request
from workloadplane.gateway.websocket.asking import inquire
from workloadplane.gateway.websocket.attempts import shake_with_peer, shake_with_replica
from workloadplane.gateway.websocket.handshake import Upgrade
from workloadplane.gateway.websocket.seat import full_of_sessions
from workloadplane.routing import Choice, Reasons, ToPeer, ToReplica, Wait, pick

_RETRIED_STATUSES = frozenset({502, 503})
_RESENT_MAX = 3
_UNREADY_S = 1.0
_BEHIND_OTHERS = Wait(reasons=("others wait already",), full=True)


@dataclass(frozen=True, slots=True)
class Shake:
    """Shake hands there. ``expected_accept``: what a sound answer holds."""

    attempt: Attempt
    expected_accept: bytes


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits for its turn, until then at most (monotonic)."""

    until_s: float


Step = Shake | Queued | Failure


class Choosing:
    """One session's. ``inquiry``: what is asked, once the model is known; ``reasons``: of the last choice."""

    def __init__(
        self, context: GatewayContext, request: Request, upgrade: Upgrade, caller: Caller, request_id: str
    ) -> None:
        self._context = context
        self._request = request
        self._upgrade = upgrade
        self._caller = caller
        self._request_id = request_id
        self._resent = 0
        self._tried: set[str] = set()
        self.inquiry: Inquiry | None = None
        self.entry: Entry | None = None
        self.reasons: Reasons = ()

    def begin(self, model: str, held: Held) -> Step:
        """The model is known. ``held``: who is told when it waits and its turn comes."""
        asked = inquire(self._context, self._request, self._caller, model)
        if isinstance(asked, Failure):
            return asked
        inquiry, charge = asked
        self.inquiry = inquiry
        self.entry = entry = Entry(self._context, inquiry, held, charge)
        choice = self._pick(inquiry)
        deployment_id = inquiry.route.deployment_id
        if isinstance(choice, ToReplica | ToPeer) and self._context.room.waits(deployment_id):
            self._context.turns.soon(deployment_id)
            if isinstance(choice, ToReplica):
                choice = _BEHIND_OTHERS  # who goes to a peer takes nobody's seat here
        return self._follow(inquiry, entry, choice)

    def turn(self) -> Step | None:
        """It waited and is the next; ``None``: there is nowhere to go yet."""
        inquiry, entry = self.inquiry, self.entry
        if inquiry is None or entry is None:
            return None
        self._tried.clear()
        if self.is_revoked:
            return errors.wrong_key()
        route = self._context.registry.route(inquiry.caller.api_key.project_id, inquiry.route.deployment)
        if route is None:
            return errors.model_not_found(inquiry.body.model)
        inquiry = self.inquiry = replace(inquiry, route=route)
        choice = self._pick(inquiry, is_next=True)
        if isinstance(choice, Wait) and choice.full:
            context = self._context
            places = context.registry.snapshot(route, monotonic()).places
            if context.preempting.make_room(route.deployment_id, entry.ticket, choice.places, places):
                choice = self._pick(inquiry, is_next=True)
        return None if isinstance(choice, Wait) else self._follow(inquiry, entry, choice)

    def spill(self) -> Step | None:
        """It waits at the line's end; ``None``: no other region is sooner."""
        inquiry, entry = self.inquiry, self.entry
        if inquiry is None or entry is None:
            return None
        choice = self._pick(inquiry)
        if not isinstance(choice, ToPeer):
            return None
        self._tried.clear()
        return self._follow(inquiry, entry, choice)

    def after_loss(self, attempt: Attempt, failure: Failure, cause: str) -> Step:
        """A handshake has no effect at an engine until it is answered, so it may be tried elsewhere."""
        inquiry, entry = self.inquiry, self.entry
        if inquiry is None or entry is None:
            return failure
        note_lost(self._context, attempt, cause)
        self._tried.add(attempt.name)
        if attempt.was_sent:
            if self._resent >= _RESENT_MAX:
                return failure
            self._resent += 1
        self._context.counters.retries[inquiry.route.deployment_id, cause] += 1
        choice = self._pick(inquiry)
        if isinstance(choice, ToReplica | ToPeer | Wait):
            return self._follow(inquiry, entry, choice)
        return failure

    def after_refusal(self, attempt: Attempt, status: int, headers: Mapping[bytes, bytes]) -> Step | None:
        """The engine, or the peer's gateway, does not switch; ``None``: its answer stands."""
        inquiry, entry = self.inquiry, self.entry
        if inquiry is None or entry is None:
            return None
        context = self._context
        if attempt.peer is not None and not attempt.may_hold and heads.UNREADY in headers:
            unready = context.registry.unready(inquiry.route.deployment_id)
            unready.add(attempt.name, monotonic() + _UNREADY_S)
            return self._follow(inquiry, entry, self._pick(inquiry))
        if status not in _RETRIED_STATUSES or self._resent >= _RESENT_MAX:
            return None
        self._tried.add(attempt.name)
        choice = self._pick(inquiry)
        if not isinstance(choice, ToReplica | ToPeer):
            return None
        self._resent += 1
        context.counters.retries[inquiry.route.deployment_id, "status"] += 1
        return self._follow(inquiry, entry, choice)

    @property
    def is_revoked(self) -> bool:
        """Whether its key is good no more; a session may outlast it by far."""
        return is_revoked(self._context.registry, self._caller, now=time.time())

    def _pick(self, inquiry: Inquiry, *, is_next: bool = False) -> Choice:
        context = self._context
        snapshot = context.registry.snapshot(inquiry.route, monotonic())
        tried = full_of_sessions(context) | self._tried
        facts = context.affinity.facts(inquiry, snapshot, tried, is_next=is_next)
        choice = pick(facts, snapshot, context.affinity.policy, context.rng)
        context.ledger.chose(self._request_id, inquiry.route.deployment_id, facts, snapshot, choice)
        return choice

    def _follow(self, inquiry: Inquiry, entry: Entry, choice: Choice) -> Step:
        context, upgrade = self._context, self._upgrade
        counters, deployment_id = context.counters, inquiry.route.deployment_id
        if isinstance(choice, ToReplica):
            counters.picked(deployment_id, "replica", choice)
            self.reasons = choice.reasons
            made = shake_with_replica(context, inquiry, upgrade, choice.replica_id, self._request_id)
        elif isinstance(choice, ToPeer):
            counters.picked(deployment_id, "peer", choice)
            self.reasons = choice.reasons
            asked = shake_with_peer(context, inquiry, upgrade, choice, self._request_id)
            if asked is None:
                self._tried.add(choice.cluster_id)
                return self._follow(inquiry, entry, self._pick(inquiry))
            context.affinity.abroad.sent(context.registry.peer_facts, choice)
            made = asked
        elif isinstance(choice, Wait):
            counters.picked(deployment_id, "wait", choice)
            self.reasons = choice.reasons
            return self._wait(inquiry, entry, choice)
        else:
            counters.picked(deployment_id, "refuse", choice)
            return errors.refused(choice)
        entry.go(monotonic())
        return Shake(*made)

    def _wait(self, inquiry: Inquiry, entry: Entry, wait: Wait) -> Step:
        failure = entry.begin(inquiry, monotonic(), wait)
        if failure is not None:
            return failure
        self._tried.clear()
        return Queued(entry.until_s)
