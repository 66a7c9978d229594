"""What a series of probes says about a replica.

A probe asks for one generated token. An engine under a full load answers late though it works, so a probe
also tells whether the engine's own counters moved since the last one: a replica is silent only when it
neither answers nor progresses. That errs on the side of keeping a replica which serves others and starves
the probe. Missing evidence is never health: a state changes only on a probe that was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from workloadplane.health.replica import ReplicaEvent, ReplicaState
from workloadplane.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One probe. ``progressed``: the engine generated tokens for someone since the probe before."""

    at: float  # seconds, monotonic
    answered: bool
    progressed: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePolicy:
    """How much silence is too much.

    silent_probes: so many in a row without answer or progress make a ready replica unhealthy
    start_limit_s: a start that has not answered by then is overdue
    """

    silent_probes: int = 3
    start_limit_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The event to apply to the replica, if any, and why."""

    event: ReplicaEvent | None
    reason: str
    message: str


def judge(
    evidence: Sequence[ProbeResult],
    state: ReplicaState,
    policy: ProbePolicy,
    *,
    started_at: float,
    now: float,
) -> Judgement:
    """What the latest probes (oldest first) mean for a replica in ``state``; times on one monotonic clock."""
    latest = evidence[-1] if evidence else None
    if latest is not None and latest.answered and state in ("starting", "unhealthy"):
        return Judgement(event="answered", reason="TokenGenerated", message="")
    if state == "starting" and now - started_at >= policy.start_limit_s:
        said = f"; last answer: {latest.message}" if latest is not None and latest.message else ""
        return Judgement(
            event="overdue",
            reason="StartOverdue",
            message=f"no token after {now - started_at:.0f} s (limit {policy.start_limit_s:.0f} s){said}",
        )
    if state == "ready" and _silent_in_a_row(evidence) >= policy.silent_probes:
        message = latest.message if latest is not None else ""
        return Judgement(
            event="silenced",
            reason="ProbeUnanswered",
            message=f"{counted(policy.silent_probes, 'probe')} in a row without answer or progress: {message}",
        )
    return Judgement(event=None, reason="NoChange", message="")


def _silent_in_a_row(evidence: Sequence[ProbeResult]) -> int:
    count = 0
    for result in reversed(evidence):
        if result.answered or result.progressed:
            break
        count += 1
    return count
