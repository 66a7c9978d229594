"""What this gateway holds of its peers: signs go in, what may be sent where comes out.

Who is in which state is decided in ``workloadplane.health.outlook``; here its one state is kept, the routing room's
facts of peers follow it, and what changed is counted, logged and told to whoever asks (``GET /debug/regions``).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import structlog
from msgspec import Struct

from workloadplane.gateway.registry import Registry
from workloadplane.health.domain import UNHEARD, DomainState
from workloadplane.health.outlook import (
    Change,
    Members,
    Outlook,
    OutlookPolicy,
    Seen,
    Sighting,
    Subject,
    Tick,
    admits,
    sightings,
    step,
    suspicion,
    tally,
)
from workloadplane.health.watch import Sign
from workloadplane.protocol.observed import PeerStanding
from workloadplane.words import counted

_log = structlog.get_logger(__name__)
_UNFIT = frozenset({"stranded", "none"})


class Says(Struct, frozen=True, kw_only=True):
    """What an observer says of a peer: when it was asked, and for how long it had heard nothing by then."""

    observer: str
    verdict: str
    silent_s: float
    asked_ago_s: float


class PeerView(Struct, frozen=True, kw_only=True):
    """One peer as it is seen from here. Times in seconds.

    share:       of the requests that would go there, while it is on probation
    verdict:     this observer's own; ``silent_s``: for how long it has heard nothing; ``phi``: how surprising that is
    lost_to:     so many of ``observers`` have lost it, and ``needed`` must for an ejection
    evidence:    that in words
    """

    cluster_id: str
    cluster: str
    region: str
    jurisdiction: str
    state: str
    state_for_s: float | None
    cause: str
    admits: str
    share: float
    verdict: str
    silent_s: float
    phi: float
    lost_to: int
    observers: int
    needed: int
    evidence: str
    says: list[Says]


class Vantage:
    """One per process. ``changes``: counted by cluster and new state; ``urgent``: peers to be asked at once."""

    def __init__(self, registry: Registry, policy: OutlookPolicy, changes: Counter[tuple[str, str]]) -> None:
        self._registry = registry
        self._policy = policy
        self._changes = changes
        self._outlook = Outlook()
        self._lost: frozenset[str] = frozenset()
        self.urgent: set[str] = set()

    @property
    def distrusts_itself(self) -> bool:
        return self._outlook.distrusts_itself

    def sees(
        self,
        cluster_id: str,
        sign: Sign,
        now_s: float,
        word: Mapping[str, Sighting] | None = None,
        asked_s: float = 0.0,
    ) -> None:
        """A sign of a peer: an answer to a question, or how a request fared there."""
        self._outlook, _ = step(self._outlook, Seen(cluster_id, sign, word, asked_s), now_s, self._policy)
        if sign in ("refused", "broken"):
            self.urgent.add(cluster_id)

    def tick(self, now_s: float) -> bool:
        """Look at all evidence; whether a peer is lost that was not before, so that what is there must move."""
        names = frozenset(self._registry.peer_facts)
        if names != self._outlook.subjects.keys():
            self._outlook, _ = step(self._outlook, Members(names), now_s, self._policy)
        self._outlook, changes = step(self._outlook, Tick(), now_s, self._policy)
        for change in changes:
            self._note(change)
        subjects = self._outlook.subjects
        for name, subject in subjects.items():
            self._tell(name, subject)
        lost = frozenset(name for name, subject in subjects.items() if subject.verdict == "lost")
        is_news, self._lost = not lost <= self._lost, lost
        if is_news:
            self.urgent |= names - lost  # what they see decides
        return is_news

    def state(self, cluster_id: str) -> DomainState:
        """Of a peer; one that has just come into the table is suspect."""
        subject = self._outlook.subjects.get(cluster_id)
        return subject.standing.state if subject is not None else UNHEARD.state

    def sightings(self, now_s: float) -> dict[str, Sighting]:
        """What is told to peers of all others."""
        return sightings(self._outlook, now_s)

    def standings(self, now_s: float) -> tuple[PeerStanding, ...]:
        """All peers in a few words, for the control plane."""
        told = self.sightings(now_s)
        return tuple(
            PeerStanding(
                cluster_id=name,
                state=subject.standing.state,
                has_lost=subject.standing.state == "ejected" or told[name].verdict == "lost",
                cause=subject.cause,
            )
            for name, subject in self._outlook.subjects.items()
        )

    def is_unfit(self, cluster_id: str) -> bool:
        """Whether what is there already should go elsewhere."""
        facts = self._registry.peer_facts.get(cluster_id)
        return facts is not None and facts.admits in _UNFIT

    def views(self, now_s: float) -> list[PeerView]:
        """All peers, for people and for the console."""
        subjects = self._outlook.subjects
        return [self._view(name, subjects[name], now_s) for name in subjects if self._registry.peer(name)]

    def _tell(self, cluster_id: str, subject: Subject) -> None:
        facts = self._registry.peer_facts
        before = facts[cluster_id]
        admitted, share = admits(subject, self._policy)
        if before.admits != admitted or before.share != share:
            facts[cluster_id] = replace(before, admits=admitted, share=share)

    def _note(self, change: Change) -> None:
        before, after = change.transition.before, change.transition.after
        if before.state != after.state:
            self._changes[change.name, after.state] += 1
        _log.info(
            "region changes",
            cluster_id=change.name,
            by=change.transition.event,
            was=before.state,
            now=after.state,
            rung=after.rung,
            cause=after.cause,
            lost_to=change.tally.lost,
            observers=change.tally.observers,
        )

    def _view(self, name: str, subject: Subject, now_s: float) -> PeerView:
        peer, policy = self._registry.peer(name), self._policy
        admitted, share = admits(subject, policy)
        count = tally(self._outlook, name, now_s, policy)
        since_s = subject.standing.since_s
        return PeerView(
            cluster_id=name,
            cluster=peer.cluster_name if peer else "",
            region=peer.region if peer else "",
            jurisdiction=peer.jurisdiction if peer else "",
            state=subject.standing.state,
            state_for_s=round(now_s - since_s, 3) if since_s > 0.0 else None,
            cause=subject.cause,
            admits=admitted,
            share=share,
            verdict=subject.verdict,
            silent_s=round(now_s - subject.watch.heard_s, 3),
            phi=round(min(99.0, suspicion(subject, now_s, policy)), 3),
            lost_to=count.lost,
            observers=count.observers,
            needed=count.needed,
            evidence=f"lost to {count.lost} of {counted(count.observers, 'observer')}, {count.age_s:.1f} s ago"
            if count.lost
            else f"heard {now_s - subject.watch.heard_s:.1f} s ago",
            says=self._says(name, now_s),
        )

    def _says(self, name: str, now_s: float) -> list[Says]:
        return [
            Says(
                observer=other,
                verdict=told.verdict,
                silent_s=round(told.silent_s, 3),
                asked_ago_s=round(now_s - subject.word_s, 3),
            )
            for other, subject in self._outlook.subjects.items()
            if (told := subject.word.get(name)) is not None
        ]
