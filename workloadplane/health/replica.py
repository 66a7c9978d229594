"""The life of a replica, as one table.

::

    pending ──launched──▶ starting ──answered──▶ ready ◀──answered── unhealthy
       │                   │  │ │                 │ │ ──silenced──▶    │ │
       │ launch_failed     │  │ └─overdue─────────┼─┼──────────────────┘ │
       ▼                   │  └──────drained──────┼─┴────drained─────────┤
     failed ◀──exited──────┴──────────────────────┘                      ▼
                                          stopped ◀──exited────────── draining ──recalled──▶ ready

``failed`` and ``stopped`` are the two ends: the first was not asked for, the second was. ``unhealthy`` is a
process that lives and does not answer. A replica is drained from any living state; a drain may be recalled
as long as the process has not been told to stop (``recalled`` is for the caller to send only then).
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from workloadplane.protocol.refusal import Refusal

ReplicaState = Literal["pending", "starting", "ready", "unhealthy", "draining", "stopped", "failed"]
ReplicaEvent = Literal[
    "launched",  # the runtime has a process for it
    "launch_failed",  # the runtime could not start one
    "answered",  # it generated a token
    "silenced",  # it lives, but too many probes in a row went unanswered
    "overdue",  # it did not answer within the time allowed for a start
    "drain_ordered",  # finish what runs, take nothing new
    "recalled",  # the drain is called off before anything was told to stop
    "exited",  # the process is gone
]

REPLICA_STATES: Final[tuple[ReplicaState, ...]] = get_args(ReplicaState)

TRANSITIONS: Final[dict[tuple[ReplicaState, ReplicaEvent], ReplicaState]] = {
    ("pending", "launched"): "starting",
    ("pending", "launch_failed"): "failed",
    ("starting", "answered"): "ready",
    ("starting", "overdue"): "unhealthy",
    ("starting", "drain_ordered"): "draining",
    ("starting", "exited"): "failed",
    ("ready", "silenced"): "unhealthy",
    ("ready", "drain_ordered"): "draining",
    ("ready", "exited"): "failed",
    ("unhealthy", "answered"): "ready",
    ("unhealthy", "drain_ordered"): "draining",
    ("unhealthy", "exited"): "failed",
    ("draining", "recalled"): "ready",
    ("draining", "exited"): "stopped",
}

#: States whose process may live, and so hold GPUs.
LIVING: Final[frozenset[ReplicaState]] = frozenset({"pending", "starting", "ready", "unhealthy", "draining"})
#: States that nothing follows.
ENDED: Final[frozenset[ReplicaState]] = frozenset({"stopped", "failed"})


@dataclass(frozen=True, slots=True)
class Transition:
    """One step that was taken."""

    before: ReplicaState
    event: ReplicaEvent
    after: ReplicaState


def step(state: ReplicaState, event: ReplicaEvent) -> Transition | Refusal:
    """The transition that an event causes, or why the state does not know the event."""
    after = TRANSITIONS.get((state, event))
    if after is not None:
        return Transition(before=state, event=event, after=after)
    known = sorted(name for held, name in TRANSITIONS if held == state)
    return Refusal(
        rule="replica_transition",
        subject=f"a replica that is {state}",
        value=event,
        remedy=f"it knows {', '.join(known)}"
        if known
        else "nothing follows this state; start another replica",
    )
