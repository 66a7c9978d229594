"""When a gateway avoids a replica or a peer, tries it again, and trusts it again: one machine each.

::

                 enough evidence                  its time is over, a request is sent
      sound ─────────────────────────▶ ejected ───────────────────────────────────────▶ probing
        ▲                                ▲   ▲──────────────── it fails ─────────────────┘ │
        │ ramp is over                   │ it fails                                        │ it answers
        └───────────────────────── recovering ◀────────────────────────────────────────────┘

A refused or broken connection and a replica that gives nobody anything are evidence enough; answers that are
errors must come several times in a row. Each further ejection lasts longer. One request is the probe; after it
has been answered, the number that may run there at once grows with every answer. What a client does wrong is
no evidence: it leaves everything as it was.

Where most look dead, more likely the view is wrong than the replicas: then only those are avoided that refuse
connections.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

Event = Literal[
    "unreachable",  # no connection could be had
    "broken",  # a connection ended before the answer did
    "failed",  # an answer that is the replica's own error (5xx)
    "stuck",  # nobody got anything from it for too long
    "sent",  # a request was sent
    "answered",  # an answer began
    "withdrawn",  # a request ended without evidence: its client left, or was wrong
]
Phase = Literal["sound", "ejected", "probing", "recovering"]
_FAILURES: Final = frozenset({"unreachable", "broken", "failed", "stuck"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionPolicy:
    """How much is too much; times in seconds.

    failures_max:   so many errors in a row eject
    back_off_s:     the first ejection lasts so long, each further one twice as long, up to ``back_off_s_max``
    forget_s:       after so long without one, the next ejection counts as the first again
    probe_s:        a probe that is not answered within this makes room for another one
    ramp_s:         so long after its recovery the number of requests there is bounded
    ramp_requests:  at once, right after recovery; one more for every answer
    panic_share:    if more than this share of a deployment's replicas is ejected, most ejections are void
    """

    failures_max: int = 5
    back_off_s: float = 1.0
    back_off_s_max: float = 30.0
    forget_s: float = 120.0
    probe_s: float = 30.0
    ramp_s: float = 10.0
    ramp_requests: int = 2
    panic_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Ejection:
    """One replica's or peer's state. ``since_s``: of this phase; ``until_s``: the ejection's end."""

    phase: Phase = "sound"
    cause: str = ""
    failures: int = 0
    ejections: int = 0
    since_s: float = 0.0
    until_s: float = 0.0
    answers: int = 0


SOUND: Final = Ejection()


def step(state: Ejection, event: Event, now_s: float, policy: EjectionPolicy) -> Ejection:
    """The state after an event. An event that means nothing in a phase changes nothing."""
    if event in _FAILURES:
        return _after_failure(state, event, now_s, policy)
    if state.phase == "sound":
        if event == "answered" and (state.failures or state.ejections):
            lately = state.ejections and now_s - state.since_s < policy.forget_s
            return replace(state, failures=0) if lately else SOUND
        return state
    if state.phase == "ejected":
        if event == "sent" and now_s >= state.until_s:
            return replace(state, phase="probing", since_s=now_s)
        return state
    if state.phase == "probing":
        if event == "answered":
            return replace(state, phase="recovering", since_s=now_s, answers=1, failures=0)
        if event == "withdrawn":
            return replace(state, phase="ejected", until_s=now_s)
        return replace(state, since_s=now_s) if event == "sent" else state
    if event == "answered":
        if now_s - state.since_s >= policy.ramp_s:
            return Ejection(ejections=state.ejections, since_s=now_s)
        return replace(state, answers=state.answers + 1)
    return state


def _after_failure(state: Ejection, event: Event, now_s: float, policy: EjectionPolicy) -> Ejection:
    if state.phase == "ejected":
        return state  # of requests sent before
    if state.phase == "sound" and event == "failed" and state.failures + 1 < policy.failures_max:
        return replace(state, failures=state.failures + 1)
    before = state.ejections
    if state.phase == "sound" and before and now_s - state.since_s >= policy.forget_s:
        before = 0
    lasts_s = min(policy.back_off_s_max, policy.back_off_s * 2.0 ** min(before, 30))
    return Ejection(
        phase="ejected", cause=event, ejections=before + 1, since_s=now_s, until_s=now_s + lasts_s
    )


def requests_max(state: Ejection, now_s: float, policy: EjectionPolicy) -> int | None:
    """How many more may be given to it now: ``None`` = no bound, for a recovering one counted with those there."""
    if state.phase == "sound":
        return None
    if state.phase == "ejected":
        return 1 if now_s >= state.until_s else 0
    if state.phase == "probing":
        return 1 if now_s - state.since_s >= policy.probe_s else 0
    if now_s - state.since_s >= policy.ramp_s:
        return None
    return policy.ramp_requests + state.answers


def avoided(
    states: Mapping[str, Ejection],
    members: Container[str],
    count: int,
    *,
    in_flight: Mapping[str, int],
    now_s: float,
    policy: EjectionPolicy,
) -> set[str]:
    """Which of ``count`` replicas or peers get nothing now. ``states`` holds those that are not sound."""
    out = 0
    closed: set[str] = set()
    for name, state in states.items():
        if name not in members:
            continue
        out += state.phase in ("ejected", "probing")
        most = requests_max(state, now_s, policy)
        if most is None:
            continue
        if most == 0 or (state.phase == "recovering" and in_flight.get(name, 0) >= most):
            closed.add(name)
    if out > policy.panic_share * count:
        return {name for name in closed if states[name].cause == "unreachable"}
    return closed
