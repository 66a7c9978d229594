"""What one cluster's gateway holds of the others: what they said of their loads, and who of them may get what.

Who is in which state is decided by ``workloadplane.health.outlook``, what may be sent there by its ``admits``; here its
one state is kept as the gateway's ``vantage`` and ``regions`` keep it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from workloadplane.health.outlook import (
    Members,
    Outlook,
    OutlookPolicy,
    Seen,
    Sighting,
    Tick,
    admits,
    sightings,
    step,
)
from workloadplane.routing import PeerFacts
from workloadplane.routing.regions import RevisionLoad

#: As ``workloadplane.gateway``'s modules ``regions``, ``loads`` and ``recovering`` have them.
OWN_LOADS_S = 0.1
HOLDS_S = 2.0
UNREADY_S = 1.0


class Neighbours:
    """Single owner: the cluster whose gateway it is. ``facts``, ``here`` and ``unready`` are read by its picker.

    ``here`` is what it tells of itself, by revision; ``ejections`` counts them by peer.
    """

    def __init__(self, peers: Mapping[str, PeerFacts], revision_id: str) -> None:
        """``peers``: as the routing table has them; ``revision_id``: the only one that there is."""
        self.here: dict[str, RevisionLoad] = {}
        self.unready: dict[str, float] = {}
        self.facts: dict[str, PeerFacts] = {}
        self._peers, self._revision_id = peers, revision_id
        self._policy = OutlookPolicy()
        self._outlook = Outlook()
        self.ejections: Counter[str] = Counter()
        self._asked_s: dict[str, float] = {}
        self._here_s = -1.0
        self.start(0.0)

    def start(self, now_s: float) -> None:
        """Its process begins, knowing nothing."""
        self._outlook, _ = step(Outlook(), Members(frozenset(self._peers)), now_s, self._policy)
        self.facts.clear()
        self.facts.update(self._peers)
        self.unready.clear()
        self._asked_s.clear()

    def look(self, load: Callable[[], RevisionLoad], now_s: float) -> None:
        """How it stands here, unless somebody has just looked; and whose word is too old to go by."""
        if now_s - self._here_s >= OWN_LOADS_S:
            self._here_s = now_s
            self.here[self._revision_id] = load()
        for name in [name for name, until_s in self.unready.items() if until_s <= now_s]:
            del self.unready[name]

    def hears(self, name: str, load: RevisionLoad, *, asked_s: float) -> None:
        """A peer has answered: what it has, as of when it was asked."""
        self._asked_s[name] = asked_s
        peer = self.facts[name]
        self.facts[name] = PeerFacts(
            name,
            peer.region,
            peer.jurisdiction,
            peer.rtt_ms,
            loads={self._revision_id: load},
            admits=peer.admits,
            share=peer.share,
        )

    def sees(self, name: str, word: Mapping[str, Sighting], *, asked_s: float, now_s: float) -> None:
        """The answer is a sign of life, and says what that peer sees of others."""
        self._outlook, _ = step(self._outlook, Seen(name, "answered", word, asked_s), now_s, self._policy)

    def says(self, now_s: float) -> Mapping[str, Sighting]:
        """What it tells peers of all others."""
        return sightings(self._outlook, now_s)

    def sends(self, name: str) -> None:
        """A request goes there: until the peer speaks again it counts as one more there."""
        sent = self.facts[name].sent
        sent[self._revision_id] = sent.get(self._revision_id, 0) + 1

    def tick(self, now_s: float) -> bool:
        """Look at all evidence; whether anything has changed by it."""
        before = self._outlook.subjects
        self._outlook, changes = step(self._outlook, Tick(), now_s, self._policy)
        has_changed = bool(changes)
        for change in changes:
            self.ejections[change.name] += change.transition.event == "condemned"
        for name, subject in self._outlook.subjects.items():
            has_changed |= subject.verdict != before[name].verdict
            facts = self.facts[name]
            may, share = admits(subject, self._policy)
            is_old = facts.loads is not None and now_s - self._asked_s[name] > HOLDS_S
            if is_old or facts.admits != may or facts.share != share:
                loads = None if is_old else facts.loads
                self.facts[name] = replace(facts, admits=may, share=share, loads=loads)
        return has_changed

    def lost(self) -> tuple[str, ...]:
        """Peers where nothing may stay."""
        return tuple(name for name, facts in self.facts.items() if facts.admits in ("stranded", "none"))

    def is_at_rest(self, out: Collection[str]) -> bool:
        """Whether all is as it will be while these are out: they are lost to it, and all others are healthy."""
        return all(
            subject.verdict == "lost" if name in out else subject.standing.state == "healthy"
            for name, subject in self._outlook.subjects.items()
        )
