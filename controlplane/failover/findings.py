"""How is every place, by all that is known of it? Evidence of many observers in, one finding a place out.

A cluster is watched by the gateways of all others, as their agents last told, and by the control plane, which hears
its agent or does not. It is *lost* where more than half of these observers have lost it. The control plane alone never
says so where others watch; where nobody else does, it waits longer. One that hears nobody, or did not look for a
while, distrusts itself: it has no voice. What only one of several has lost is not lost, but worth a look (``cut_off``).

Regions and providers follow from their clusters, pools and replicas from what agents report. What no agent reports now
is unknown: it is neither failing nor sound. Of itself the control plane can only say afterwards that it was away.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from controlplane.failover.incident import CONTROL_PLANE, Cause, Place
from workloadplane.words import counted

Health = Literal["failing", "unknown", "returning", "sound"]
#: As gateways tell it (``workloadplane.health.domain``), and ``unknown`` where nobody does.
PlaceState = Literal["healthy", "suspect", "ejected", "probation", "unknown"]

#: Causes by which a cluster is away as a whole, so that a region may be.
_AWAY: Final = frozenset({"lost", "unheard"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementPolicy:
    """Seconds.

    unheard_s: past the end of its lease; alone_s: the same, where nobody else watches
    away_s:    without a look of the control plane, which looks every two
    """

    unheard_s: float = 10.0
    alone_s: float = 20.0
    away_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneEvidence:
    """What the control plane knows of itself. ``unlooked_s``: since it looked last; ``is_deaf``: it is just back."""

    unlooked_s: float
    is_deaf: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the gateways of ``observer`` say of a cluster.

    has_lost:    they have, whether that is enough for an ejection or not
    age_s:       since their agent was last heard; state_for_s: since they say so, None where they do not know
    """

    observer: str
    state: PlaceState
    has_lost: bool
    age_s: float
    state_for_s: float | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEvidence:
    """All that is known of a cluster.

    heard_s:    since its agent was last heard, None: never
    unheard_s:  since its lease is over, 0 while it runs
    is_deaf:    the control plane can't tell: it did not listen
    gateways:   that its agent has, None where it does not say
    unkept:     why its disk refuses its agent's state; empty while it does not
    words:      by others whose agents are heard
    """

    name: str
    region: str
    provider: str
    heard_s: float | None
    unheard_s: float = 0.0
    is_deaf: bool = False
    fenced: bool = False
    gateways: int | None = None
    unkept: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaEvidence:
    """What a cluster's agent reports of one deployment on one pool. ``failing``: unhealthy and failed ones, and so
    many as are missing though they are wanted and can't be started."""

    cluster: str
    pool: str
    deployment_id: str
    wanted: int
    ready: int
    failing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How a place is. ``within``: what it is a part of; ``for_s``: how long it has been so, where that is known."""

    place: Place
    within: Place | None
    health: Health
    state: PlaceState
    evidence: str
    cause: Cause | None = None
    lost_to: int = 0
    observers: int = 0
    for_s: float | None = None
    words: tuple[Word, ...] = field(default=())


def findings(
    clusters: Iterable[ClusterEvidence],
    replicas: Iterable[ReplicaEvidence],
    policy: JudgementPolicy,
    plane: PlaneEvidence | None = None,
) -> tuple[Finding, ...]:
    """Of every place, in their order; of the control plane where it has looked before."""
    known = sorted(clusters, key=lambda row: row.name)
    enrolled = [row for row in known if row.heard_s is not None]
    heard_none = len(enrolled) > 1 and all(row.unheard_s > 0 for row in enrolled)
    judged = {row.name: _cluster(row, policy, has_voice=not (heard_none or row.is_deaf)) for row in known}
    by_region: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for row in known:
        by_region[row.provider, row.region].append(judged[row.name])
    regions: dict[str, list[tuple[Finding, Sequence[Finding]]]] = defaultdict(list)
    for (provider, region), members in by_region.items():
        regions[provider].append((_region(provider, region, members), members))
    found = [*judged.values()]
    for provider, rows in regions.items():
        found += [row for row, _ in rows]
        found.append(_provider(provider, rows))
    heard = {row.name for row in known if row.unheard_s <= 0 and row.heard_s is not None and not row.fenced}
    found += _replicas(replicas, heard)
    if plane is not None:
        found.append(_plane(plane, len(heard), len(enrolled), policy))
    return tuple(sorted(found, key=lambda row: row.place))


def _plane(plane: PlaneEvidence, heard: int, enrolled: int, policy: JudgementPolicy) -> Finding:
    """It is away as a whole, or who looks is: web, worker or beat, PostgreSQL or Valkey."""
    health: Health = "sound"
    told = "it looks every 2 s"
    if plane.unlooked_s >= policy.away_s:
        health = "failing"
        told = f"it looked at nothing for {plane.unlooked_s:.0f} s, {heard} of {counted(enrolled, 'agent')} heard now"
    elif plane.is_deaf:
        health, told = "returning", "it is back, and waits for agents to be heard"
    return Finding(
        place=CONTROL_PLANE,
        within=None,
        health=health,
        state=_STATE_BY_HEALTH[health],
        evidence=told,
        cause="away" if health == "failing" else None,
    )


def _cluster(row: ClusterEvidence, policy: JudgementPolicy, *, has_voice: bool) -> Finding:
    words = tuple(sorted(row.words, key=lambda word: word.observer))
    unheard = row.unheard_s > 0
    observers = len(words) + has_voice
    lost_to = sum(word.has_lost for word in words) + (has_voice and unheard)
    health, state, cause = _judged(row, words, lost_to, observers, policy)
    said = [_WORDS[cause]] if cause is not None else []
    if cause == "unkept":
        said.append(row.unkept)
    elif cause not in ("fenced", "no_gateway"):
        said.append(_told(row, words, lost_to, observers))
    since = [word.state_for_s for word in words if word.has_lost and word.state_for_s is not None]
    return Finding(
        place=Place("cluster", row.name),
        within=Place("region", row.region),
        health=health,
        state=state,
        evidence=", ".join(said),
        cause=cause,
        lost_to=lost_to,
        observers=observers,
        for_s=max(since, default=row.unheard_s if unheard else None),
        words=words,
    )


def _told(row: ClusterEvidence, words: Sequence[Word], lost_to: int, observers: int) -> str:
    """How many see it how, and how old the oldest word of those is that count."""
    if row.heard_s is None:
        return "its agent was never heard"
    if lost_to:
        ages = [word.age_s for word in words if word.has_lost]
        aged = f", {max(ages):.1f} s ago" if ages else f"; its agent was heard {row.heard_s:.1f} s ago"
        return f"lost to {lost_to} of {counted(observers, 'observer')}{aged}"
    return f"seen by {observers} of {counted(observers, 'observer')}, its agent was heard {row.heard_s:.1f} s ago"


_WORDS: Final[Mapping[Cause, str]] = {
    "lost": "ejected",
    "unheard": "its agent is not heard",
    "cut_off": "cut off from some",
    "fenced": "two agents speak for it: both are fenced",
    "no_gateway": "its agent has no gateway",
    "unkept": "its agent's disk takes nothing",
    "replicas": "replicas fail",
}


def _judged(
    row: ClusterEvidence, words: Sequence[Word], lost_to: int, observers: int, policy: JudgementPolicy
) -> tuple[Health, PlaceState, Cause | None]:
    if row.heard_s is None:
        return "unknown", "unknown", None
    seen_lost = any(word.has_lost for word in words)
    alone = not words and row.unheard_s >= policy.alone_s
    if 2 * lost_to > observers and (seen_lost or alone):
        return "failing", "ejected", "lost"
    if row.fenced:
        return "failing", "suspect", "fenced"
    if row.unheard_s >= policy.unheard_s and not row.is_deaf:
        return "failing", "suspect", "unheard"
    if seen_lost:
        return "failing", "suspect", "cut_off"
    if row.unheard_s > 0:
        return "unknown", "unknown", None
    if row.gateways == 0:
        return "failing", "suspect", "no_gateway"
    if row.unkept:
        return "failing", "suspect", "unkept"
    states = {word.state for word in words}
    if states <= {"healthy"}:
        return "sound", "healthy", None
    return (
        ("returning", "probation", None)
        if states <= {"healthy", "probation"}
        else ("unknown", "suspect", None)
    )


def _region(provider: str, name: str, members: Sequence[Finding]) -> Finding:
    """Of one cluster, it is lost with it; what is wrong with the cluster otherwise is the cluster's."""
    lost = sum(row.cause == "lost" for row in members)
    away = lost or len(members) > 1
    return _sum(
        Place("region", name), Place("provider", provider), members, "clusters", can_be_away=bool(away)
    )


def _provider(name: str, rows: Sequence[tuple[Finding, Sequence[Finding]]]) -> Finding:
    """Of one region it can't be told whether the region or its provider is lost: then it is the region."""
    members = [member for _, found in rows for member in found]
    return _sum(Place("provider", name), None, members, "clusters", can_be_away=len(rows) > 1)


def _sum(
    place: Place, within: Place | None, members: Sequence[Finding], noun: str, *, can_be_away: bool
) -> Finding:
    causes = [row.cause for row in members]
    lost, failing = causes.count("lost"), sum(row.health == "failing" for row in members)
    cause: Cause | None = None
    if can_be_away and all(each in _AWAY for each in causes):
        cause = "lost" if lost else "unheard"
    if cause is not None:
        health: Health = "failing"
    elif all(row.health == "sound" for row in members):
        health = "sound"
    elif all(row.health in ("sound", "returning") for row in members):
        health = "returning"
    else:
        health = "unknown"
    worst = max(members, key=lambda row: (_WORST.index(row.state), row.lost_to, row.place))
    state = "ejected" if cause == "lost" else worst.state
    if state == "ejected" and cause != "lost":
        state = "suspect"
    told = (
        worst.evidence
        if len(members) == 1
        else f"{len(members) - failing} of {len(members)} {noun} do not fail"
    )
    if len(members) > 1 and failing:
        told += f"; {worst.place.name}: {worst.evidence}"
    known = [row.for_s for row in members if row.for_s is not None and row.health == "failing"]
    return Finding(
        place=place,
        within=within,
        health=health,
        state=state,
        evidence=told,
        cause=cause,
        lost_to=worst.lost_to,
        observers=worst.observers,
        for_s=min(known, default=None),
        words=worst.words if len(members) == 1 else (),
    )


_WORST: Final[tuple[PlaceState, ...]] = ("healthy", "unknown", "probation", "suspect", "ejected")


def _replicas(rows: Iterable[ReplicaEvidence], heard: set[str]) -> list[Finding]:
    by_pool: dict[tuple[str, str], list[ReplicaEvidence]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.cluster, row.pool, row.deployment_id)):
        by_pool[row.cluster, row.pool].append(row)
    found = []
    for (cluster, pool), members in by_pool.items():
        is_heard = cluster in heard
        own = [_deployment(row, is_heard=is_heard) for row in members]
        found += [*own, _pool(cluster, pool, members, own, is_heard=is_heard)]
    return found


def _deployment(row: ReplicaEvidence, *, is_heard: bool) -> Finding:
    health: Health = "unknown"
    if is_heard and row.ready >= row.wanted:
        health = "sound"
    elif is_heard and row.failing:
        health = "failing"
    return Finding(
        place=Place("replica", f"{row.cluster}/{row.pool}/{row.deployment_id}"),
        within=Place("pool", f"{row.cluster}/{row.pool}"),
        health=health,
        state=_STATE_BY_HEALTH[health],
        evidence=f"{row.ready} of {row.wanted} ready, {row.failing} failing",
        cause="replicas" if health == "failing" else None,
    )


def _pool(
    cluster: str, pool: str, members: Sequence[ReplicaEvidence], own: Sequence[Finding], *, is_heard: bool
) -> Finding:
    """Where two deployments fail and nobody is ready, it is not theirs but the pool's."""
    failing = sum(row.health == "failing" for row in own)
    ready = sum(row.ready for row in members)
    health: Health = "unknown"
    if is_heard and failing > 1 and ready == 0:
        health = "failing"
    elif all(row.health == "sound" for row in own):
        health = "sound"
    return Finding(
        place=Place("pool", f"{cluster}/{pool}"),
        within=Place("cluster", cluster),
        health=health,
        state=_STATE_BY_HEALTH[health],
        evidence=f"{counted(ready, 'replica')} ready, {failing} of {counted(len(own), 'deployment')} failing there",
        cause="replicas" if health == "failing" else None,
    )


_STATE_BY_HEALTH: Final[Mapping[Health, PlaceState]] = {
    "failing": "suspect", "unknown": "unknown", "returning": "probation", "sound": "healthy",
}  # fmt: skip
