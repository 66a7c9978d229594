"""All that an observer holds of its peers, and what it decides alone and with them: ``step(outlook, event, now_s)``.

Each observer watches every peer itself, and hears from each what that one sees of all others (``Sighting``), with
its age. From both follows each peer's state (``domain``):

- An observer's own verdict makes a peer *suspect*, whatever others say: it is this observer's way there that fails.
- *Ejected* it is only if this observer has lost it and so has a quorum of those that watch it: more than half of the
  observers that exist, which are all peers that are not ejected themselves, and this one. Of three or more that is
  two at least. Two must agree. One that is alone decides alone, after a longer silence: where nobody is left who
  could contradict, waiting for a second voice would be waiting for ever.
- Who has not spoken lately has no voice, but still counts among those that exist.
- An observer to which more than half of the peers in play have fallen silent (two of them at least) distrusts itself:
  more likely it is the one that is cut off. It has no voice, for itself and for others, until it hears better. To it
  they all are suspect. A refused connection is no silence: it came from there.
- An observer that did not run for a while could hear nobody: that time counts for no silence.

Each observer acts on its own requests only. So even where observers come to different ends (a network that is cut
in two), each does what is right for those that can reach it.
"""

from collections.abc import Mapping
from math import inf
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from workloadplane.health import domain
from workloadplane.health.domain import (
    UNHEARD,
    DomainEvent,
    RampPolicy,
    Standing,
    Transition,
    held_until_s,
    share,
)
from workloadplane.health.silence import phi
from workloadplane.health.watch import (
    SILENT,
    Sign,
    Verdict,
    Watch,
    WatchPolicy,
    asleep,
    begun,
    is_steady,
    seen,
    verdict,
)

#: What may go to a peer: anything; what belongs to a session that is there; only what has nowhere else; nothing.
Admits = Literal["all", "sessions", "stranded", "none"]
_STEPS_MAX: Final = 4


class OutlookPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``word_s``: for so long others' words count; ``nap_s``: a longer time between two ticks was a sleep."""

    watch: WatchPolicy = WatchPolicy()
    ramp: RampPolicy = RampPolicy()
    word_s: float = 2.0
    nap_s: float = 0.5


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """What an observer tells of another one: its verdict, and for how long it has heard nothing."""

    verdict: Verdict
    silent_s: float


class Subject(msgspec.Struct, frozen=True, gc=False):
    """One peer as it is seen here.

    was_lost:     it was lost from sight since it was last healthy, so it returns through probation
    word, word_s: what it said of the others, and when it was asked for that
    """

    watch: Watch
    standing: Standing = UNHEARD
    verdict: Verdict = "doubtful"
    cause: str = ""
    was_lost: bool = False
    word: Mapping[str, Sighting] = {}
    word_s: float = -inf


class Outlook(msgspec.Struct, frozen=True):
    """Everything; ``distrusts_itself``: so many are silent that it is more likely cut off itself."""

    subjects: Mapping[str, Subject] = {}
    ticked_s: float = -inf
    distrusts_itself: bool = False


class Members(msgspec.Struct, frozen=True, gc=False):
    """These are the peers now."""

    names: frozenset[str]


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A sign of a peer. ``word``: with an answer, what it said of others; ``asked_s``: when it was asked."""

    name: str
    sign: Sign
    word: Mapping[str, Sighting] | None = None
    asked_s: float = -inf


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Time has passed."""


OutlookEvent = Members | Seen | Tick


class Tally(msgspec.Struct, frozen=True, gc=False):
    """How many of those that watch a peer have lost it. ``needed``: for an ejection; ``age_s``: of the oldest word."""

    lost: int
    observers: int
    needed: int
    age_s: float


class Change(msgspec.Struct, frozen=True, gc=False):
    """A peer's transition, and the count on which it was taken."""

    name: str
    transition: Transition
    tally: Tally


def step(
    outlook: Outlook, event: OutlookEvent, now_s: float, policy: OutlookPolicy
) -> tuple[Outlook, tuple[Change, ...]]:
    """The outlook after an event, and which peers' states have changed. ``now_s``: monotonic, of this observer.

    States change by ``Tick`` alone. A sign of somebody who is no peer changes nothing.
    """
    if isinstance(event, Seen):
        subject = outlook.subjects.get(event.name)
        if subject is None:
            return outlook, ()
        watch = seen(subject.watch, event.sign, now_s, policy.watch)
        word, word_s = (subject.word, subject.word_s) if event.word is None else (event.word, event.asked_s)
        after = replace(subject, watch=watch, word=word, word_s=word_s)
        return replace(outlook, subjects={**outlook.subjects, event.name: after}), ()
    if isinstance(event, Tick):
        return _tick(outlook, now_s, policy)
    held = outlook.subjects
    subjects = {name: held.get(name) or Subject(begun(now_s, policy.watch)) for name in sorted(event.names)}
    return replace(outlook, subjects=subjects), ()


def sightings(outlook: Outlook, now_s: float) -> dict[str, Sighting]:
    """What this observer tells others. One that distrusts itself has lost nobody."""
    told: dict[str, Sighting] = {}
    for name, subject in outlook.subjects.items():
        said = subject.verdict
        if said == "lost" and outlook.distrusts_itself:
            said = "doubtful"
        told[name] = Sighting(said, max(0.0, now_s - subject.watch.heard_s))
    return told


def admits(subject: Subject, policy: OutlookPolicy) -> tuple[Admits, float]:
    """What may go there, and of that which share."""
    state = subject.standing.state
    if state == "ejected":
        return "none", 0.0
    if subject.verdict == "lost":
        return "stranded", 1.0
    if state == "suspect":
        return "sessions", 1.0
    return "all", share(subject.standing, policy.ramp)


def tally(outlook: Outlook, name: str, now_s: float, policy: OutlookPolicy) -> Tally:
    """Who has lost this peer, of those that exist."""
    subjects = outlook.subjects
    observers, lost, oldest_s = 1, 0, now_s
    if subjects[name].verdict == "lost" and not outlook.distrusts_itself:
        lost = 1
    for other, subject in subjects.items():
        if other == name or subject.standing.state == "ejected":
            continue
        observers += 1
        if now_s - subject.word_s <= policy.word_s:
            told = subject.word.get(name)
            if told is not None and told.verdict == "lost":
                lost += 1
                oldest_s = min(oldest_s, subject.word_s)
    return Tally(lost, observers, observers // 2 + 1, now_s - oldest_s)


def suspicion(subject: Subject, now_s: float, policy: OutlookPolicy) -> float:
    """Phi of its silence."""
    return phi(subject.watch.rhythm, now_s - subject.watch.heard_s, policy.watch.silence)


def _tick(outlook: Outlook, now_s: float, policy: OutlookPolicy) -> tuple[Outlook, tuple[Change, ...]]:
    subjects: dict[str, Subject] = dict(outlook.subjects)
    slept_s = now_s - outlook.ticked_s
    if policy.nap_s < slept_s < inf:
        for name, subject in subjects.items():
            subjects[name] = replace(subject, watch=asleep(subject.watch, slept_s, now_s))
    in_play = [name for name, subject in subjects.items() if subject.standing.state != "ejected"]
    turned = set()
    for name, subject in subjects.items():
        said, cause = verdict(subject.watch, now_s, policy.watch, alone=in_play in ([], [name]))
        if subject.verdict == "alive" and said != "alive":
            turned.add(name)
        # Whom nobody has heard yet is new, and has not returned from anywhere.
        was_lost = subject.was_lost or (said == "lost" and subject.watch.is_ready is not None)
        if said != subject.verdict or cause != subject.cause or was_lost != subject.was_lost:
            subjects[name] = replace(subject, verdict=said, cause=cause, was_lost=was_lost)
    silent = sum(subjects[name].verdict == "lost" and subjects[name].cause == SILENT for name in in_play)
    distrusts = len(in_play) >= 2 and 2 * silent > len(in_play)
    ticked = Outlook(subjects, now_s, distrusts)
    changes: list[Change] = []
    for name, subject in list(subjects.items()):
        if not _is_settled(subject, now_s, policy):
            changes += _moved(ticked, subjects, name, now_s, policy, turned=name in turned)
    return ticked, tuple(changes)


def _is_settled(subject: Subject, now_s: float, policy: OutlookPolicy) -> bool:
    """Whether nothing can become of it now; so it is nearly always."""
    state = subject.standing.state
    if state == "healthy":
        return subject.verdict == "alive"
    if subject.verdict == "alive":
        return now_s < held_until_s(subject.standing, policy.ramp)
    return state == "ejected"


def _moved(
    outlook: Outlook,
    subjects: dict[str, Subject],
    name: str,
    now_s: float,
    policy: OutlookPolicy,
    *,
    turned: bool,
) -> list[Change]:
    """Apply to one subject, in ``subjects``, which the outlook holds, the events that its evidence amounts to.

    ``turned``: it was alive until this tick.
    """
    changes: list[Change] = []
    for _ in range(_STEPS_MAX):
        subject = subjects[name]
        count = tally(outlook, name, now_s, policy)
        event = _event(subject, count, policy, turned=turned)
        if event is None:
            break
        taken = domain.step(subject.standing, event, now_s, policy.ramp, subject.cause)
        if not isinstance(taken, Transition):
            break
        after = replace(subject, standing=taken.after)
        if taken.after.state == "healthy":
            after = replace(after, was_lost=False)
        subjects[name] = after
        changes.append(Change(name, taken, count))
        turned = False
    return changes


def _event(subject: Subject, count: Tally, policy: OutlookPolicy, *, turned: bool) -> DomainEvent | None:
    """What the evidence amounts to in the state that the subject is in."""
    standing, steady = subject.standing, is_steady(subject.watch, policy.watch)
    if subject.verdict == "alive":
        if standing.state == "suspect" and not subject.was_lost:
            return "cleared"
        if not steady or standing.state == "healthy":
            return None
        if standing.state == "probation":
            return "trusted" if standing.rung == len(policy.ramp.shares) - 1 else "advanced"
        return "returned"
    if standing.state == "healthy":
        return "doubted"
    if subject.verdict == "lost" and count.lost >= count.needed:
        return None if standing.state == "ejected" else "condemned"
    return "doubted" if standing.state == "probation" and turned else None
