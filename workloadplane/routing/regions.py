"""Another region, or this one? By when the first token is expected: the way there, the queue, the prompt to compute.

A region tells what it has of a revision (``RevisionLoad``); what a request would find there follows from that. A
peer whose word is old says nothing: it is neither idle nor busy, and comes after all that are known to be able to
serve. How fast a region computes prompts is measured where it can be. A peer that has not measured counts as
``assumed_bytes_per_s``, but never as faster than we are; where we have not, we count as no slower than the peer. So
not knowing never draws requests away from home.

Home comes first: a peer must be sooner by a margin. Of two regions that know of one another, one at most is sooner
than the other for a request that neither knows, so they never swap their load.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class RevisionLoad:
    """What one cluster has of a revision. The queue and its seats are those of the revision's deployment.

    ready:     replicas
    seats:     requests that all ready replicas compute side by side; 0 = not known, so none ever waits for one
    in_flight, waiting: requests
    request_s: how long a request takes, on average; 0 = not measured
    prefill_bytes_per_s: of prompts that no cache holds; 0 = not measured
    """

    ready: int
    seats: int = 0
    in_flight: int = 0
    waiting: int = 0
    request_s: float = 0.0
    prefill_bytes_per_s: float = 0.0

    @property
    def is_sane(self) -> bool:
        """Whether these can be counts and times at all."""
        numbers = (self.ready, self.seats, self.in_flight, self.waiting)
        return min(numbers) >= 0 and 0.0 <= self.request_s < inf and 0.0 <= self.prefill_bytes_per_s < inf


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Another cluster's gateway.

    loads: what it said lately, by revision: what is not there it has none of; ``None`` = it said nothing
    sent:  requests that went there since, by revision
    admits: what may go there: everything; only what has a session there, as far as others can take the rest; only
            what can go nowhere else; nothing
    share: of what may go there, how much does
    """

    cluster_id: str
    region: str
    jurisdiction: str
    rtt_ms: float
    loads: Mapping[str, RevisionLoad] | None = None
    sent: dict[str, int] = field(default_factory=dict)
    admits: Literal["all", "sessions", "stranded", "none"] = "all"
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class RegionPolicy:
    """margin_s, margin_share: a peer must be sooner than home by this time, and by this share of what home takes
    assumed_bytes_per_s: how fast prompts are computed where nobody has measured it: 8,000 tokens a second
    slowest_bytes_per_s, fastest_bytes_per_s: what is told is believed within these bounds
    alike_s: peers with room that are sooner than one another by less share what leaves home, by their seats
    """

    margin_s: float = 0.05
    alike_s: float = 0.01
    margin_share: float = 0.2
    assumed_bytes_per_s: float = 32_768.0
    slowest_bytes_per_s: float = 2_048.0
    fastest_bytes_per_s: float = 4_194_304.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What must be computed of one: its size without what the region's caches hold."""

    size_bytes: int
    known_bytes: int = 0

    @property
    def anew_bytes(self) -> int:
        return max(0, self.size_bytes - self.known_bytes)


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one request in one region, until its first token. ``queue_s``: ``inf`` = nobody can say."""

    way_s: float
    queue_s: float
    prefill_s: float

    @property
    def total_s(self) -> float:
        return self.way_s + self.queue_s + self.prefill_s


def together(loads: Iterable[RevisionLoad]) -> RevisionLoad:
    """What several gateway processes of one cluster see: the same replicas, each with requests of its own."""
    told = list(loads)
    return RevisionLoad(
        ready=max(load.ready for load in told),
        seats=max(load.seats for load in told),
        in_flight=sum(load.in_flight for load in told),
        waiting=sum(load.waiting for load in told),
        request_s=max(load.request_s for load in told),
        prefill_bytes_per_s=max(load.prefill_bytes_per_s for load in told),
    )


def queue_s(load: RevisionLoad | None, more: int = 0) -> float:
    """How long a newcomer waits there for a seat when ``more`` have come since; ``inf`` = nobody can say."""
    if load is None or not load.ready:
        return inf
    over = load.in_flight + load.waiting + more - load.seats
    if not load.seats or over < 0:
        return 0.0
    return (over + 1) * load.request_s / load.seats if load.request_s else inf


def turn_s(load: RevisionLoad | None) -> float:
    """How long whoever is the next there waits for a seat; ``inf`` = nobody can say."""
    if load is None or not load.ready or not load.seats or not load.request_s:
        return inf
    return load.request_s / load.seats


def expected_there(
    peer: PeerFacts, revision_id: str, prompt: Prompt, here: RevisionLoad | None, policy: RegionPolicy
) -> Expected | None:
    """At a peer, as far as is known; ``None``: it has not said anything lately."""
    if peer.loads is None:
        return None
    load = peer.loads.get(revision_id)
    return Expected(
        way_s=peer.rtt_ms / 1000.0,
        queue_s=queue_s(load, peer.sent.get(revision_id, 0)),
        prefill_s=prompt.anew_bytes / _speed_there(load, here, policy),
    )


def expected_here(
    waits_s: float,
    prompt: Prompt,
    here: RevisionLoad | None,
    there: RevisionLoad | None,
    policy: RegionPolicy,
) -> Expected:
    """At home, as set against the peer that says ``there`` of itself."""
    speed = _measured(here, policy)
    if not speed:
        speed = max(policy.assumed_bytes_per_s, _measured(there, policy))
    return Expected(way_s=0.0, queue_s=waits_s, prefill_s=prompt.anew_bytes / speed)


def computes_at_once(size_bytes: int, here: RevisionLoad | None, policy: RegionPolicy) -> bool:
    """Whether home computes such a prompt within the margin, so that no peer can be sooner by more."""
    return size_bytes <= policy.margin_s * (_measured(here, policy) or policy.assumed_bytes_per_s)


def is_worth_leaving(there: Expected | None, here: Expected, policy: RegionPolicy) -> bool:
    """Whether a request goes there rather than stays. An unknown peer is better than an unknown wait alone."""
    if there is None:
        return here.total_s == inf
    margin_s = max(policy.margin_s, policy.margin_share * here.total_s) if here.total_s < inf else 0.0
    return there.total_s + margin_s < here.total_s


def rank(there: Expected | None, rtt_ms: float, admits: str = "all") -> tuple[int, float]:
    """Among peers the least goes first: the soonest of the known, the nearest of the unknown, then of the doubted."""
    if there is None:
        return 1 if admits == "all" else 2, rtt_ms
    return 0, there.total_s


def _measured(load: RevisionLoad | None, policy: RegionPolicy) -> float:
    """0 = not."""
    if load is None or not load.prefill_bytes_per_s:
        return 0.0
    return min(policy.fastest_bytes_per_s, max(policy.slowest_bytes_per_s, load.prefill_bytes_per_s))


def _speed_there(load: RevisionLoad | None, here: RevisionLoad | None, policy: RegionPolicy) -> float:
    speed, ours = _measured(load, policy), _measured(here, policy)
    return speed or min(policy.assumed_bytes_per_s, ours or policy.assumed_bytes_per_s)
