"""What an attempt's course says about the replica or peer that it was sent to, and whether it may be sent again.

A client's fault is no evidence. What is seen of a peer goes to ``vantage``, where it is weighed with what others see.
"""

from time import monotonic
from typing import TYPE_CHECKING

from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Attempt, Inquiry
from workloadplane.gateway.ejections import stuck_after
from workloadplane.health.ejection import Event
from workloadplane.health.watch import Sign

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

_LOST: dict[str, Event] = {
    "connect": "unreachable",
    "reset": "broken",
    "cut": "broken",
    "status": "broken",
    "stuck": "stuck",
}
#: Of a peer: its connection ended, or there was none. The rest follows from what is known of it already.
_BREAKS = frozenset({"connect", "reset", "cut"})
#: 503 is none: it says that it has no room, or no replica.
_PEER_FAILURES = frozenset({500, 502, 504})


def note_sent(context: "GatewayContext", attempt: Attempt, now_s: float) -> None:
    """It is on its way."""
    ejections = context.registry.ejections
    attempt.sent_s = now_s
    if attempt.peer is None:
        attempt.vitals = ejections.vitals(attempt.name)
    if attempt.name in ejections.states:
        ejections.note(attempt.name, "sent", now_s)


def note_head(context: "GatewayContext", attempt: Attempt, status: int) -> None:
    """An answer has begun."""
    if attempt.peer is not None:
        sign: Sign = "failed" if status in _PEER_FAILURES else "served"
        context.vantage.sees(attempt.name, sign, monotonic())
        return
    ejections = context.registry.ejections
    failed = status >= 500
    if failed or attempt.name in ejections.states:
        # A refusal shows neither that it works nor that it does not.
        event: Event = "failed" if failed else "answered" if status < 400 else "withdrawn"
        ejections.note(attempt.name, event, monotonic(), deployment_id=_owner(attempt))


def note_lost(context: "GatewayContext", attempt: Attempt, cause: str) -> None:
    """It could not be sent, or its answer broke off. ``cause``: connect | reset | cut | status | stuck."""
    now_s = monotonic()
    if attempt.peer is None:
        context.registry.ejections.note(attempt.name, _LOST[cause], now_s, deployment_id=_owner(attempt))
    elif cause in _BREAKS:
        context.vantage.sees(attempt.name, "broken", now_s)


def _owner(attempt: Attempt) -> str:
    """The deployment that its replica is of."""
    return attempt.traffic.deployment_id if attempt.traffic is not None else ""


def note_withdrawn(context: "GatewayContext", attempt: Attempt | None) -> None:
    """Its client left before anything was known."""
    if attempt is not None and not attempt.answered and attempt.name in context.registry.ejections.states:
        context.registry.ejections.note(attempt.name, "withdrawn", monotonic())


def note_usual(context: "GatewayContext", attempt: Attempt, answer: AnswerWriter, now_s: float) -> None:
    """A whole answer: how long this replica usually takes."""
    vitals, stream = attempt.vitals, answer.stream
    if vitals is None or answer.status != 200 or answer.rewriter is not None:
        return
    if stream is None:
        vitals.whole.observe(now_s - attempt.sent_s)
    elif stream.first_event_s is not None:
        first_token_s = max(0.0, stream.first_event_s - attempt.sent_s)
        vitals.first_token.observe(first_token_s)
        if attempt.traffic is not None:
            context.loads.computed(attempt.traffic.revision_id, attempt.anew_bytes, first_token_s, now_s)
        if stream.gap_s_max is not None:
            vitals.gap.observe(stream.gap_s_max)


def is_stuck(
    context: "GatewayContext", attempt: Attempt, answer: AnswerWriter, *, streams: bool, now_s: float
) -> bool:
    """Whether its replica has given nobody anything for too long, or its peer is lost, while this request waits."""
    vitals = attempt.vitals
    if vitals is None:
        return attempt.peer is not None and context.vantage.is_unfit(attempt.name)
    limits = context.limits
    stream = answer.stream
    silent_s = now_s - max(attempt.sent_s, vitals.heard_s)
    floor_s = min(limits.stuck_stream_s, limits.stuck_first_token_s)
    if silent_s < floor_s:
        return False
    if stream is not None and attempt.answered and stream.first_event_s is not None:
        return silent_s > stuck_after(vitals.gap, limits.stuck_stream_s)
    usual = vitals.first_token if streams else vitals.whole
    return silent_s > stuck_after(usual, limits.stuck_first_token_s)


def may_send_again(context: "GatewayContext", inquiry: Inquiry) -> bool:
    """Whether a request that reached a replica, and of whose answer nothing was told, may be sent once more.

    Where it may happen twice, the budget decides.
    """
    if not inquiry.may_repeat:
        return False
    now_s = monotonic()
    return context.registry.ejections.budget(inquiry.route.deployment_id, now_s).retry(now_s)
