"""One request's dealings with the queue: its place, what it is charged, how long it waits, what its client hears.

A request that no replica can take now waits in the room of ``queueing``; ``turns`` asks it again when it is its
turn. Before it is sent it is charged by estimate, and at its end by what it used.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from workloadplane.gateway import errors
from workloadplane.gateway.admission import Caller
from workloadplane.gateway.body import InferenceBody
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.loads import told_request_s
from workloadplane.gateway.queueing import NoRoom, Place, Ticket
from workloadplane.gateway.queueing.priority import NAMES, NORMAL, by_name, wished
from workloadplane.gateway.queueing.rate_limits import Charge, Limited
from workloadplane.gateway.reader import Request
from workloadplane.gateway.usage import RevisionTraffic
from workloadplane.routing import Wait

if TYPE_CHECKING:
    from workloadplane.gateway.attempt import Inquiry
    from workloadplane.gateway.context import GatewayContext

PRIORITY = b"x-meridian-priority"
DEADLINE = b"x-meridian-deadline-ms"
_DEADLINE_MS_MAX = 24 * 3600 * 1000
_BYTES_PER_TOKEN = 4
_OUTPUT_TOKENS_UNKNOWN = 256
_LEFT_MIN = 1.0
_OUTPUT_WEIGHT = 2  # a token made costs an engine about twice one read (the paper's weights)
_GENERATING = frozenset({"chat", "completions", "responses", "messages"})
_NEVER_S = math.inf


class Held(Protocol):
    """A request that can wait."""

    @property
    def bound_to(self) -> Hashable | None:
        """What the replicas that could take it have, and others lack; ``None``: any could."""

    def take_turn(self) -> bool:
        """It is its turn: go, if there is anywhere to go. Whether it waits no more."""

    def spill(self) -> bool:
        """It waits at the line's end: go to another region if that is sooner. Whether it waits no more."""

    def displace(self, retry_after_s: int) -> None:
        """It had to make room for another and waits no more."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of the queue. ``answer_within_s``: of its arrival, else it is worth nothing."""

    priority: int
    answer_within_s: float


_USUAL = Wish(NORMAL, _NEVER_S)


def wish_of(request: Request, body: InferenceBody, caller: Caller) -> Wish | Failure:
    """Read priority and deadline, capped by the key's right; a peer has read them already."""
    cap = by_name(caller.api_key.max_priority)
    cap = NORMAL if cap is None else cap
    statement = caller.statement
    if statement is not None:
        return Wish(min(statement.priority, cap), statement.answer_within_s or _NEVER_S)
    headers = request.headers
    name, deadline = headers.get(PRIORITY), headers.get(DEADLINE)
    if name is None and deadline is None and body.priority is None and body.service_tier is None:
        return _USUAL if cap >= NORMAL else Wish(cap, _NEVER_S)
    priority = wished(name.decode("latin-1") if name else None, body.service_tier, body.priority)
    if priority is None:
        return errors.bad_request(
            f"Header {PRIORITY.decode()}: give one of {', '.join(NAMES)}.", param=PRIORITY.decode()
        )
    within_s = _NEVER_S
    if deadline is not None:
        if not deadline.isdigit() or len(deadline) > 9 or not 0 < int(deadline) <= _DEADLINE_MS_MAX:
            return errors.bad_request(
                f"Header {DEADLINE.decode()}: give whole milliseconds from 1 to {_DEADLINE_MS_MAX}.",
                param=DEADLINE.decode(),
            )
        within_s = int(deadline) / 1000
    return Wish(min(priority, cap), within_s)


def expected_tokens(context: "GatewayContext", inquiry: "Inquiry") -> tuple[int, int]:
    """Tokens read and made, before anybody knows: by the body's size, and by what others had made here."""
    route_class = inquiry.route_class
    if not route_class.counts_usage:
        return 0, 0
    read = len(inquiry.request.body) // _BYTES_PER_TOKEN
    if route_class.name not in _GENERATING:
        return read, 0
    service = context.room.service(inquiry.route.deployment_id)
    made = _OUTPUT_TOKENS_UNKNOWN
    if service is not None and service.output_tokens_mean is not None:
        made = int(service.output_tokens_mean)
    asked = inquiry.body.output_tokens_max
    return read, made if asked is None or made < asked else int(asked)


def rate_charge(context: "GatewayContext", inquiry: "Inquiry", now_s: float) -> Charge | Failure | None:
    """Count it against the limits of its key and project, unless a peer has done so; why that can't be."""
    key = inquiry.caller.api_key
    if inquiry.to_peer or (key.limits is None and key.project_limits is None):
        return None
    charge = context.rate_limiter.admit(key, sum(expected_tokens(context, inquiry)), now_s)
    if isinstance(charge, Limited):
        context.counters.rate_limit_refusals[inquiry.route.deployment_id, charge.rule] += 1
        return errors.rate_limited(charge)
    return charge


class _Nobody:
    """Holds the place of what has ended."""

    bound_to = None

    def take_turn(self) -> bool:
        return True

    def spill(self) -> bool:
        return True

    def displace(self, retry_after_s: int) -> None:
        pass


_NOBODY = _Nobody()


class Entry:
    """One request's. It may wait several times; its time counts from its arrival.

    broke:       its stream broke and went on elsewhere; preemptions: how often it gave up its seat
    promised:    the replica where its seat was that it gave up, for as long as it waits for another one
    """

    __slots__ = (
        "_began_s",  # of its time to wait
        "_charged",
        "_comment_at_s",
        "_context",
        "_deployment_id",
        "_project_id",
        "_rate",
        "_read",
        "_traffic",
        "_used",  # of what was charged, in seats that it gave up
        "answer_by_s",
        "broke",
        "preemptions",
        "promised",
        "ticket",
    )

    def __init__(
        self, context: "GatewayContext", inquiry: "Inquiry", held: Held, rate: Charge | None
    ) -> None:
        began_s = inquiry.request.began_s
        read, made = expected_tokens(context, inquiry)
        self._began_s = began_s
        self._context = context
        self._deployment_id = inquiry.route.deployment_id
        self._project_id = inquiry.route.project_id
        self._rate = rate
        self._read = read
        self._used = 0.0
        self._traffic: RevisionTraffic | None = None
        self.broke = False
        self.preemptions = 0
        self.promised: str | None = None
        self._comment_at_s = _NEVER_S
        self._charged = False
        self.answer_by_s = began_s + inquiry.wish.answer_within_s
        self.ticket: Ticket[Held] = Ticket(
            held,
            inquiry.caller.api_key.api_key_id,
            inquiry.wish.priority,
            read + _OUTPUT_WEIGHT * made,
            len(inquiry.request.body),
        )

    @property
    def until_s(self) -> float:
        """When its wait ends at the latest."""
        return min(self._began_s + self._context.limits.hold_timeout_s, self.answer_by_s)

    @property
    def waits(self) -> bool:
        return self._traffic is not None

    @property
    def headers(self) -> bytes:
        """Header lines for the answer: what is left of the client's limits."""
        return self._rate.headers if self._rate is not None else b""

    def begin(self, inquiry: "Inquiry", now_s: float, wait: Wait) -> Failure | None:
        """Wait from now on, or why that can't be."""
        if self._traffic is not None:
            return None
        context = self._context
        statement = inquiry.caller.statement
        if statement is not None and not statement.may_hold and self.promised is None:
            return errors.not_ready_here()
        seats = context.registry.seats(self._deployment_id) if wait.full else 0
        place = Place(self._deployment_id, inquiry.route.project_id, seats, wait.full)
        self.ticket.is_bound = self.ticket.item.bound_to is not None
        if self._charged:
            self._charged = False
            context.room.give_back(place, self.ticket, now_s)
        else:
            failure = self._join(inquiry, place, wait, now_s)
            if failure is not None:
                return failure
        early = inquiry.body.stream and inquiry.route_class.begins_early
        if early and self._comment_at_s == _NEVER_S:
            self._comment_at_s = now_s + context.limits.hold_comment_interval_s
        self._traffic = context.waiting_traffic(inquiry.route)
        self._traffic.begin_waiting()
        if self._traffic.waiting == 1:
            context.wake()  # further ones are in the next report
        if wait.full and context.room.peek(self._deployment_id) is self.ticket:
            context.turns.soon(self._deployment_id)  # a seat may be taken back for it
        return None

    def _join(self, inquiry: "Inquiry", place: Place, wait: Wait, now_s: float) -> Failure | None:
        context = self._context
        service = context.room.service(place.deployment_id)
        told_s = None
        answer_s = service.answer_s(inquiry.body.output_tokens_max) if service is not None else None
        if answer_s is None:
            revision_ids = {each.revision_id for each in inquiry.route.revisions}
            answer_s = told_s = told_request_s(context.registry.peer_facts.values(), revision_ids)
        # A stream's answer begins with its first token, any other one's when it is complete.
        is_whole = not inquiry.body.stream and self.answer_by_s != _NEVER_S
        join = partial(
            context.room.join,
            place,
            self.ticket,
            now_s=now_s,
            until_s=self.until_s,
            answer_s=(answer_s or 0.0) if is_whole else 0.0,
            told_s=told_s,
        )
        joined = join()
        if isinstance(joined, NoRoom) and joined.rule == "deadline" and wait.full:
            places = context.registry.snapshot(inquiry.route, now_s).places
            could = context.preempting.could_make_room
            if could(place.deployment_id, self.ticket, wait.places, places):
                joined = join(has_seat=True)
        if isinstance(joined, NoRoom):
            context.counters.queue_refusals[place.deployment_id, joined.rule] += 1
            if not place.ready:
                context.waiting_traffic(inquiry.route).turn_away()
            return errors.no_room(joined)
        if joined.displaced is not None:
            context.counters.queue_refusals[place.deployment_id, "displaced"] += 1
            joined.displaced.item.displace(joined.retry_after_s)
        return None

    def go(self, now_s: float) -> None:
        """It is sent now: it waits no more, and is charged if it is not already."""
        if self._traffic is not None:
            self._stop_waiting()
            self._context.room.take(self._deployment_id, self.ticket, now_s)
        elif not self._charged:
            self._context.room.pass_through(self._deployment_id, self._project_id, self.ticket)
        self._charged = True

    def goes_on(self, now_s: float) -> None:
        """Its stream broke and goes on elsewhere: it may wait for that anew, and its answer has begun in time."""
        self.broke = True
        self._may_wait_anew(now_s)

    def _may_wait_anew(self, now_s: float) -> None:
        self.ticket.had_seat = True
        self.answer_by_s = _NEVER_S
        self._began_s = now_s

    def left(self, output_tokens: int) -> float:
        """Weighted tokens that it was charged and has not used, once it has made so many."""
        return max(self._used + self.ticket.cost - self._used_by(output_tokens), _LEFT_MIN)

    def _used_by(self, output_tokens: int) -> float:
        return self._read + _OUTPUT_WEIGHT * output_tokens

    def gives_way(self, replica_id: str, output_tokens: int, now_s: float) -> None:
        """It has made so many tokens and will wait for its rest: what it has used stays charged."""
        left, used = self.left(output_tokens), self._used_by(output_tokens)
        charged = self._used + self.ticket.cost
        self._context.room.spend(self._deployment_id, self.ticket, used + left - charged)
        self._used, self.ticket.cost = used, left
        self.preemptions += 1
        self.promised = replica_id
        self._context.registry.promised[replica_id] += 1
        self._may_wait_anew(now_s)

    def leave(self) -> None:
        """It waits no more, of its own."""
        if self._traffic is not None:
            self._stop_waiting()
            self._context.room.leave(self._deployment_id, self.ticket)

    def _stop_waiting(self) -> None:
        if self._traffic is not None:
            self._traffic.end_waiting()
            self._traffic = None
        if self.promised is not None:
            promised = self._context.registry.promised
            promised[self.promised] -= 1
            if not promised[self.promised]:
                del promised[self.promised]
            self.promised = None

    def close(self) -> None:
        """The request has ended: let go of it, so that none of it is left to the garbage collector."""
        self.leave()
        self.ticket.item = _NOBODY

    def displaced(self) -> None:
        """The room has let go of it."""
        self._stop_waiting()

    def is_comment_due(self, now_s: float) -> bool:
        """Whether its client must hear something now; the next time is set."""
        if now_s < self._comment_at_s or self._traffic is None:
            return False
        self._comment_at_s = now_s + self._context.limits.hold_comment_interval_s
        return True

    def spend(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        """So much was used meanwhile by what goes on: its key's limits and its turn in the queue know at once."""
        cost = max(0, input_tokens - cached_tokens) + _OUTPUT_WEIGHT * output_tokens
        self._context.room.spend(self._deployment_id, self.ticket, cost)
        if self._rate is not None:
            self._context.rate_limiter.spend(self._rate, input_tokens + output_tokens)

    def settle(
        self, input_tokens: int, cached_tokens: int, output_tokens: int, served_s: float | None
    ) -> None:
        """It has ended. ``served_s``: how long a replica took, if one of ours answered it whole."""
        if self._charged:
            self._charged = False
            cost = max(0, input_tokens - cached_tokens) + _OUTPUT_WEIGHT * output_tokens - self._used
            self._context.room.settle(self._deployment_id, self.ticket, cost, served_s, output_tokens)
        if self._rate is not None:
            self._context.rate_limiter.settle(self._rate, input_tokens + output_tokens)

    def settle_untold(self, output_tokens: int) -> None:
        """Its client left before anybody told what it cost: the estimate stands, or what came if that is more.

        Whoever leaves early would else have for nothing what was computed.
        """
        if self._charged:
            self._charged = False
            cost = max(self.ticket.cost, _OUTPUT_WEIGHT * output_tokens - self._used)
            self._context.room.settle(self._deployment_id, self.ticket, cost)
        if self._rate is not None:
            self._context.rate_limiter.settle(self._rate, max(self._rate.tokens, output_tokens))
