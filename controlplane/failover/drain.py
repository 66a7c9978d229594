"""How a drain of a region, cluster, pool or node goes on: one table of transitions.

::

    planned ──due──▶ moving ◀──refilled── drained
       │  └──refused──▶ refused  └──emptied──▶ │
       └─────────lifted──────┴──▶ cancelled    │
                 moving, drained ──over / lifted──▶ over

A drain that begins at once is made ``moving``; a maintenance window waits as ``planned`` until it is due, which is as
long before its start as the move is expected to take. What never was empty is ``cancelled`` when it is lifted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from workloadplane.protocol.refusal import Refusal

DrainState = Literal["planned", "moving", "drained", "over", "cancelled", "refused"]
DrainEvent = Literal[
    "due",  # its time has come, and nothing stands against it
    "refused",  # its time has come, and it would break a promise
    "emptied",  # nothing runs there any more
    "refilled",  # something is reported there again
    "lifted",  # an operator ends it
    "over",  # its window is over
]

DRAIN_STATES: Final[tuple[DrainState, ...]] = get_args(DrainState)

TRANSITIONS: Final[dict[tuple[DrainState, DrainEvent], DrainState]] = {
    ("planned", "due"): "moving",
    ("planned", "refused"): "refused",
    ("planned", "lifted"): "cancelled",
    ("planned", "over"): "over",
    ("moving", "emptied"): "drained",
    ("moving", "lifted"): "cancelled",
    ("moving", "over"): "over",
    ("drained", "refilled"): "moving",
    ("drained", "lifted"): "over",
    ("drained", "over"): "over",
}

#: States in which placement sends nothing there, and states that nothing follows.
IN_FORCE: Final[frozenset[DrainState]] = frozenset({"moving", "drained"})
ENDED: Final[frozenset[DrainState]] = frozenset({"over", "cancelled", "refused"})

#: Between the readiness of what takes over and the stop of what leaves: tables, and requests that end. And what is
#: allowed for a move of which no cold start is known.
HANDOVER_S: Final = 30.0
UNKNOWN_MOVE_S: Final = 600.0


def drain_step(state: DrainState, event: DrainEvent) -> DrainState | Refusal:
    """The state that follows, or why this one does not know the event."""
    after = TRANSITIONS.get((state, event))
    if after is not None:
        return after
    known = sorted(name for held, name in TRANSITIONS if held == state)
    return Refusal(
        rule="drain_transition",
        subject=f"a drain that is {state}",
        value=event,
        remedy=f"it knows {', '.join(known)}" if known else "nothing follows this state; start another drain",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainFacts:
    """What is known of a drain now.

    expected_s: until all has moved, None where a cold start is not known
    present:    replicas and assignments that are still there
    short:      whether a promise would be broken, risk not accepted; only asked of one that is due
    """

    state: DrainState
    starts_at: datetime | None
    ends_at: datetime | None
    expected_s: float | None
    present: int
    short: bool = False


def is_due(facts: DrainFacts, *, now: datetime) -> bool:
    """Whether a planned one is to begin, so that all has moved when its window starts."""
    if facts.state != "planned":
        return False
    return facts.starts_at is None or now >= begins_at(facts.starts_at, facts.expected_s)


def begins_at(starts_at: datetime, expected_s: float | None) -> datetime:
    """When the move has to begin for a window that starts then."""
    return starts_at - timedelta(seconds=UNKNOWN_MOVE_S if expected_s is None else expected_s)


def next_event(facts: DrainFacts, *, now: datetime) -> DrainEvent | None:
    """What has happened to a drain by now; None for nothing."""
    if facts.state in ENDED:
        return None
    if facts.ends_at is not None and now >= facts.ends_at:
        return "over"
    if facts.state == "planned":
        if not is_due(facts, now=now):
            return None
        return "refused" if facts.short else "due"
    if facts.state == "moving":
        return "emptied" if facts.present == 0 else None
    return "refilled" if facts.present else None


def expected_s(cold_starts_s: list[float | None]) -> float | None:
    """How long a move takes that waits for these starts side by side; None where one of them is not known."""
    known = [each_s for each_s in cold_starts_s if each_s is not None]
    if len(known) < len(cold_starts_s):
        return None
    return max(known, default=0.0) + HANDOVER_S
