"""What a deployment's conditions say, given what is known. Pure: facts in, verdicts out.

Progressing  something is under way that will end by itself
Ready        the endpoint serves as promised: at least ``min_replicas`` are ready, or it may scale to zero
Degraded     less runs than was promised or asked for, or nothing at all, and this is why

``Ready`` speaks of a generation only once that generation's own replicas are ready. While a predecessor still serves
in their place the condition stays true, and keeps the generation that it was last true for.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from apps.deployments.models import ConditionType
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One deployment as the control plane sees it now.

    placed_generation: the generation whose placement was decided, None before the first decision
    refusal:           why that one was not placed as wanted, if it was not
    relaxed:           wishes without which it was placed, and what would keep each
    in_force:          number of assignments that stand; ``promised`` is the sum of their minima
    ready_in_force:    ready replicas of those; ``ready`` counts all that serve, outgoing ones included
    outgoing:          replicas and assignments on their way out
    shortfalls:        what agents say why they run fewer than they should
    was_ready, was_degraded, ready_generation: what the conditions said before
    """

    generation: int
    placed_generation: int | None
    refusal: Refusal | None
    relaxed: tuple[Refusal, ...]
    deleting: bool
    min_replicas: int
    in_force: int
    promised: int
    ready_in_force: int
    ready: int
    outgoing: bool
    waiting_for: tuple[str, ...]
    shortfalls: tuple[Refusal, ...]
    was_ready: bool
    was_degraded: bool
    ready_generation: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A condition as it should be."""

    type: ConditionType
    status: bool
    reason: str
    message: str
    observed_generation: int
    refusals: tuple[Refusal, ...] = ()


def accepted(generation: int) -> Verdict:
    """Whatever is stored was found valid before."""
    return Verdict(
        type=ConditionType.ACCEPTED,
        status=True,
        reason="Valid",
        message="the document is valid",
        observed_generation=generation,
    )


def judge(facts: Facts) -> Iterable[Verdict]:
    """The three conditions that follow from what runs."""
    yield _progressing(facts)
    yield _ready(facts)
    yield _degraded(facts)


def _seen(facts: Facts) -> int:
    return facts.placed_generation if facts.placed_generation is not None else facts.generation


def _progressing(facts: Facts) -> Verdict:
    def say(status: bool, reason: str, message: str) -> Verdict:
        return Verdict(
            type=ConditionType.PROGRESSING,
            status=status,
            reason=reason,
            message=message,
            observed_generation=facts.generation if reason in ("Draining", "Placing") else _seen(facts),
        )

    if facts.deleting:
        where = f"in {', '.join(facts.waiting_for)}" if facts.waiting_for else "anywhere"
        return say(True, "Draining", f"it is deleted when the last replica {where} has finished what it runs")
    if facts.placed_generation != facts.generation:
        return say(True, "Placing", "where it runs is being decided")
    if facts.in_force == 0:
        return say(False, "NotPlaced", "nothing is under way; the condition Placed says why")
    if facts.ready_in_force < facts.promised:
        return say(True, "Starting", f"{facts.ready_in_force} of {counted(facts.promised, 'replica')} ready")
    if facts.outgoing:
        return say(True, "HandingOver", "former replicas finish what they run")
    return say(False, "Settled", "all that was promised is ready")


def _ready(facts: Facts) -> Verdict:
    def say(status: bool, reason: str, message: str, generation: int | None = None) -> Verdict:
        return Verdict(
            type=ConditionType.READY,
            status=status,
            reason=reason,
            message=message,
            observed_generation=_seen(facts) if generation is None else generation,
        )

    needed = max(1, min(facts.min_replicas, facts.promised))
    if facts.deleting:
        return say(False, "Deleting", "it takes no new requests", facts.generation)
    if facts.in_force and facts.ready_in_force >= needed:
        return say(True, "Serving", f"{_replicas(facts.ready_in_force)} ready")
    if facts.in_force and facts.min_replicas == 0:
        return say(True, "ScaledToZero", "the first request starts a replica")
    if facts.was_ready and facts.outgoing and facts.ready >= needed:
        return say(
            True,
            "ServingPrevious",
            "former replicas serve until their successors are ready",
            facts.ready_generation,
        )
    if facts.in_force == 0 and facts.placed_generation != facts.generation:
        return say(False, "Placing", "where it runs is being decided", facts.generation)
    if facts.in_force == 0:
        return say(False, "NotPlaced", "it runs nowhere; the condition Placed says why")
    return say(False, "TooFewReady", f"{facts.ready_in_force} of {counted(needed, 'replica')} ready")


def _replicas(number: int) -> str:
    return f"{counted(number, 'replica')} {'is' if number == 1 else 'are'}"


def _degraded(facts: Facts) -> Verdict:
    def say(status: bool, reason: str, message: str, refusals: tuple[Refusal, ...] = ()) -> Verdict:
        return Verdict(
            type=ConditionType.DEGRADED,
            status=status,
            reason=reason,
            message=message,
            observed_generation=_seen(facts),
            refusals=refusals,
        )

    short = facts.ready_in_force < facts.promised
    if facts.deleting:
        return say(False, "Deleting", "nothing is promised any more")
    if facts.refusal is not None:
        rest = "what ran before goes on" if facts.in_force else "it runs nowhere"
        return say(True, "NotPlacedAsWanted", f"{rest}; {facts.refusal}", (facts.refusal,))
    if short and facts.shortfalls:
        return say(True, "Short", "; ".join(str(refusal) for refusal in facts.shortfalls), facts.shortfalls)
    if short and (facts.was_degraded or (facts.was_ready and not facts.outgoing)):
        return say(
            True,
            "BelowMinimum",
            f"{facts.ready_in_force} of {counted(facts.promised, 'promised replica')} ready",
        )
    if facts.relaxed:
        return say(True, "PlacedInPart", "; ".join(str(wish) for wish in facts.relaxed), facts.relaxed)
    return say(False, "AsPromised", "nothing is missing that was promised")
