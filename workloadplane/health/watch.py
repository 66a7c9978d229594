"""What one observer has seen of one other: answers to its questions, and how its own requests fared there.

A silence says the less the more irregular the answers were before (``silence``). A refused connection says at once
that nobody is there; two of them, a moment apart, are as much as a long silence. Errors in a row are a doubt and no
more: who answers is not dead. A sender that was never heard is doubtful, whatever else is known.
"""

from math import inf
from typing import Final, Literal

import msgspec

from workloadplane.health.silence import Rhythm, SilencePolicy, beat, unheard

Verdict = Literal["alive", "doubtful", "lost"]
Sign = Literal[
    "answered",  # a question, as one that is ready to serve
    "unready",  # a question, as one that is not
    "refused",  # no connection could be had
    "broken",  # a connection ended before the answer did
    "served",  # a request of our own is answered
    "failed",  # a request of our own met an error there
]
NOT_HEARD: Final = "not heard yet"
SILENT: Final = "silent"


class WatchPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How much is too much; times in seconds.

    refusals:       so many refused connections in a row, each ``refusals_apart_s`` after the one before, are a loss
    failures:       so many errors in a row are a doubt, for ``failures_hold_s`` from the last one on
    steady_answers: so many answers in a row are steady
    alone_s, alone_refusals: an observer that is the only one asks for so long a silence, and so many refusals more
    """

    silence: SilencePolicy = SilencePolicy()
    refusals: int = 2
    refusals_apart_s: float = 0.2
    failures: int = 5
    failures_hold_s: float = 5.0
    steady_answers: int = 3
    alone_s: float = 2.0
    alone_refusals: int = 1


class Watch(msgspec.Struct, frozen=True, gc=False):
    """See the module. ``heard_s``: the last sign of life, or since when it has been watched; times monotonic.

    answered_s:       the last answer to a question
    answers:          in a row
    is_ready:         what it said of itself; ``None``: nothing yet
    has_broken_off:   a connection was refused or broken, and no answer has come since
    """

    heard_s: float
    rhythm: Rhythm
    answered_s: float = -inf
    answers: int = 0
    is_ready: bool | None = None
    has_broken_off: bool = False
    refusals: int = 0
    refused_s: float = -inf
    failures: int = 0
    failed_s: float = -inf


def begun(now_s: float, policy: WatchPolicy) -> Watch:
    """From now on it is watched."""
    return Watch(now_s, unheard(policy.silence))


def seen(watch: Watch, sign: Sign, now_s: float, policy: WatchPolicy) -> Watch:
    """The watch after one more sign."""
    if sign in ("answered", "unready"):
        interval_s = now_s - watch.answered_s
        rhythm = watch.rhythm
        if interval_s < policy.silence.lost_s_max:  # what is longer is an absence, and no rhythm
            rhythm = beat(rhythm, interval_s, policy.silence)
        return Watch(
            heard_s=now_s,
            rhythm=rhythm,
            answered_s=now_s,
            answers=watch.answers + 1 if interval_s < watch.rhythm.doubt_s else 1,
            is_ready=sign == "answered",
            failures=watch.failures,
            failed_s=watch.failed_s,
        )
    if sign == "served":
        return msgspec.structs.replace(watch, heard_s=max(now_s, watch.heard_s), failures=0)
    if sign == "failed":
        return msgspec.structs.replace(watch, failures=watch.failures + 1, failed_s=now_s)
    broken = msgspec.structs.replace(watch, has_broken_off=True, answers=0)
    if sign == "refused" and now_s - watch.refused_s >= policy.refusals_apart_s:
        return msgspec.structs.replace(broken, refusals=watch.refusals + 1, refused_s=now_s)
    return broken


def asleep(watch: Watch, lasted_s: float, now_s: float) -> Watch:
    """The observer itself did not run for so long: it could hear nobody."""
    return msgspec.structs.replace(watch, heard_s=min(now_s, watch.heard_s + lasted_s))


def verdict(watch: Watch, now_s: float, policy: WatchPolicy, *, alone: bool) -> tuple[Verdict, str]:
    """What this observer says by itself, and why. ``alone``: nobody else could contradict it."""
    rhythm, silent_s = watch.rhythm, now_s - watch.heard_s
    lost_s = max(policy.alone_s, rhythm.lost_s) if alone else rhythm.lost_s
    if watch.refusals >= policy.refusals + (policy.alone_refusals if alone else 0):
        return "lost", "refuses connections"
    if silent_s > lost_s:
        return "lost", SILENT
    if watch.is_ready is None:
        return "doubtful", NOT_HEARD
    if silent_s > rhythm.doubt_s:
        return "doubtful", SILENT
    if watch.has_broken_off:
        return "doubtful", "broke off a connection"
    if not watch.is_ready:
        return "doubtful", "says that it is not ready"
    if watch.failures >= policy.failures and now_s - watch.failed_s < policy.failures_hold_s:
        return "doubtful", "answers with errors"
    return "alive", ""


def is_steady(watch: Watch, policy: WatchPolicy) -> bool:
    """Whether it has answered often enough in a row."""
    return watch.answers >= policy.steady_answers
