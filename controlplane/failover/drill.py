"""How a drill goes on: its kinds, how each may be done, one table of transitions, and the guard that ends it by itself.

::

    before ──injected──▶ during ──repaired──▶ after ──passed──▶ passed
       │                    │                   └────differs──▶ differs
       └───────────── aborted ┴──────────────────▶ aborted

``before`` measures the world as it is, ``during`` the fault, ``after`` the way back. Whoever drives a drill (a command
with clients of its own, or the control plane itself) says when a phase ends; nobody has to be there for it to end: past
its deadline it is aborted, and an aborted drill's fault is undone like any other's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

DrillKind = Literal[
    "lose-region",
    "lose-provider",
    "lose-control-plane",
    "slow-region",
    "latency",
    "partition-one-way",
    "partition-two-way",
]
#: ``weights``: signed routing tables send no traffic there; ``faults``: processes and sockets are broken for real.
DrillMethod = Literal["weights", "faults"]
DrillState = Literal["before", "during", "after", "passed", "differs", "aborted"]
DrillEvent = Literal["injected", "repaired", "passed", "differs", "aborted"]

DRILL_KINDS: Final[tuple[DrillKind, ...]] = get_args(DrillKind)
DRILL_METHODS: Final[tuple[DrillMethod, ...]] = get_args(DrillMethod)
DRILL_STATES: Final[tuple[DrillState, ...]] = get_args(DrillState)
DRILL_OPEN: Final[frozenset[DrillState]] = frozenset({"before", "during", "after"})

#: What takes capacity away can be done by weights, on any system; a slow or cut network only where it can be broken.
METHODS: Final[Mapping[DrillKind, tuple[DrillMethod, ...]]] = {
    "lose-region": ("weights", "faults"),
    "lose-provider": ("weights", "faults"),
    "lose-control-plane": ("faults",),
    "slow-region": ("faults",),
    "latency": ("faults",),
    "partition-one-way": ("faults",),
    "partition-two-way": ("faults",),
}

_TRANSITIONS: Final[dict[tuple[DrillState, DrillEvent], DrillState]] = {
    ("before", "injected"): "during",
    ("during", "repaired"): "after",
    ("after", "passed"): "passed",
    ("after", "differs"): "differs",
    ("before", "aborted"): "aborted",
    ("during", "aborted"): "aborted",
    ("after", "aborted"): "aborted",
}

#: Fewer failures than this are no evidence, whatever share of the requests they are.
FAILURES_LEAST: Final = 3
#: So many first tokens in a row, each later than the limit, end a drill.
LATE_IN_A_ROW: Final = 20


def takes_capacity(kind: DrillKind) -> bool:
    """Whether the certificate says what is left."""
    return kind in ("lose-region", "lose-provider")


def drill_step(state: DrillState, event: DrillEvent) -> DrillState | Refusal:
    """The state that follows, or why this one does not know the event."""
    after = _TRANSITIONS.get((state, event))
    if after is not None:
        return after
    known = sorted(name for held, name in _TRANSITIONS if held == state)
    return Refusal(
        rule="drill_transition",
        subject=f"a drill that is {state}",
        value=event,
        remedy=f"it knows {', '.join(known)}" if known else "nothing follows this state; start another drill",
    )


Outcome = Literal[
    "ok",
    "again",  # failed, and was answered when it was asked once more
    "failed",  # failed, also when it was asked once more
    "broken",  # an answer that had begun broke off
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request of a client, as the client saw it.

    at_s:   when it began, seconds since the drill did
    ttft_s: to its first token; None where none came, or where it was not told apart
    region: that served it; empty where that is not known
    """

    at_s: float
    ttft_s: float | None
    outcome: Outcome
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillLimits:
    """What ends a drill by itself.

    error_budget_share: of all requests that may fail in spite of a second try
    ttft_s_max:         a first token later than this, time after time
    duration_s_max:     from the drill's start to its report
    """

    error_budget_share: float = 0.01
    ttft_s_max: float = 10.0
    duration_s_max: float = 300.0


def guard(limits: DrillLimits, samples: Sequence[Sample], *, elapsed_s: float) -> Refusal | None:
    """Why the drill has to end now; None while it may go on. ``samples`` in the order in which they began."""
    if elapsed_s > limits.duration_s_max:
        return _stop("duration", f"{elapsed_s:.0f} s of {limits.duration_s_max:.0f} s", "give it more time")
    failed = sum(sample.outcome in ("failed", "broken") for sample in samples)
    if failed >= FAILURES_LEAST and failed > limits.error_budget_share * len(samples):
        return _stop(
            "error_budget",
            f"{failed} of {counted(len(samples), 'request')} failed",
            "mend what failed, then drill again",
        )
    late = [sample.ttft_s for sample in samples if sample.ttft_s is not None][-LATE_IN_A_ROW:]
    if len(late) == LATE_IN_A_ROW and min(late) > limits.ttft_s_max:
        value = f"{LATE_IN_A_ROW} first tokens in a row after more than {limits.ttft_s_max:g} s"
        return _stop("ttft", value, "add capacity where it goes, then drill again")
    return None


def _stop(rule: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject="drill", value=value, remedy=remedy)
