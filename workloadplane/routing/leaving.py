"""Whether a request leaves this region, and for which one: the filters first, then what ``regions`` expects.

Residency fails closed, and a request that came from a peer goes nowhere else. What a peer admits comes next: one that
others doubt gets what has a session there, one that returns gets its share of the rest. For all else its word counts as
not spoken, so it is taken only when no other can serve.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from random import Random

from workloadplane.routing.facts import Reasons, RequestFacts, Snapshot, ToPeer
from workloadplane.routing.regions import (
    Expected,
    PeerFacts,
    Prompt,
    RegionPolicy,
    RevisionLoad,
    expected_here,
    expected_there,
    is_worth_leaving,
    queue_s,
    rank,
    turn_s,
)
from workloadplane.routing.spreading import is_admitted, spread

_LEAVES = {
    "none": "no replica here",
    "full": "sooner than the queue here",
    "cached": "its cache is worth the way",
    "faster": "it computes the prompt sooner",
}


def is_inside(residency: frozenset[str], jurisdiction: str) -> bool:
    """Fails closed: an unknown jurisdiction is inside no residency."""
    return not residency or (jurisdiction != "" and jurisdiction in residency)


@dataclass(slots=True)
class Standing:
    """A revision's replicas here, as bits: those with room, and those that have all they can compute."""

    free: int
    full: int
    why: str


def sooner_abroad(
    cluster_ids: Iterable[str],
    revision_id: str,
    stands: Standing,
    facts: RequestFacts,
    snapshot: Snapshot,
    *,
    policy: RegionPolicy,
    rng: Random,
) -> ToPeer | None:
    """The peer among these clusters to send to, if this one can't serve the revision as soon."""
    here = snapshot.here.get(revision_id)
    stays = _here(stands, facts, here, None, policy)
    if stays.total_s <= policy.margin_s:
        return None  # no region can be sooner by the margin
    found = _soonest(cluster_ids, facts, snapshot, revision_id, policy=policy, rng=rng)
    if found is None:
        return None
    peer, there = found
    stays = _here(stands, facts, here, peer.loads.get(revision_id) if peer.loads else None, policy)
    if not is_worth_leaving(there, stays, policy):
        return None
    reasons: Reasons
    if there is None:
        reasons = (
            stands.why,
            _LEAVES[_cause(stands)],
            "nothing is known of any peer" if peer.loads is None else "no peer is sound",
            "nearest by round trip",
        )
    else:
        cause = _cause(stands) if stays.queue_s else _cause_of_prefill(peer, facts)
        reasons = (
            stands.why, _LEAVES[cause], "soonest: round trip s", there.way_s, "queue s", there.queue_s,
            "prefill s", there.prefill_s, "against", stays.total_s, "here",
        )  # fmt: skip
    may_hold = there is not None and there.queue_s > 0.0
    return ToPeer(peer.cluster_id, may_hold=may_hold, reasons=reasons, revision_id=revision_id)


def _here(
    stands: Standing,
    facts: RequestFacts,
    here: RevisionLoad | None,
    there: RevisionLoad | None,
    policy: RegionPolicy,
) -> Expected:
    """What a request finds if it stays."""
    if stands.free:
        waits_s = 0.0
    elif stands.full:
        # Full as of now, whatever was counted a moment ago: whoever comes waits for one turn at least.
        waits_s = turn_s(here) if facts.is_next else max(turn_s(here), queue_s(here))
    else:
        waits_s = inf
    bits = stands.free or stands.full
    known_bytes = next((size for size, holders in facts.known if holders & bits), 0)
    return expected_here(waits_s, Prompt(facts.prompt_bytes, known_bytes), here, there, policy)


def _cause(stands: Standing) -> str:
    return "full" if stands.full else "none"


def _cause_of_prefill(peer: PeerFacts, facts: RequestFacts) -> str:
    return "cached" if facts.known_abroad and facts.known_abroad.get(peer.cluster_id) else "faster"


def _soonest(
    cluster_ids: Iterable[str],
    facts: RequestFacts,
    snapshot: Snapshot,
    revision_id: str,
    *,
    policy: RegionPolicy,
    rng: Random,
) -> tuple[PeerFacts, Expected | None] | None:
    """Of the peers that may serve and are not known to be unable to: where the first token is expected soonest."""
    here, known = snapshot.here.get(revision_id), facts.known_abroad or {}
    options = []
    for peer in permitted(cluster_ids, facts, snapshot):
        if peer.admits != "stranded" and peer.cluster_id not in snapshot.unready:
            known_bytes = known.get(peer.cluster_id, 0)
            there = expected_there(peer, revision_id, Prompt(facts.prompt_bytes, known_bytes), here, policy)
            if there is None or there.total_s < inf:
                if not is_admitted(peer, facts.session, known_bytes, rng):
                    there = None
                options.append((rank(there, peer.rtt_ms, peer.admits), peer.cluster_id, peer, there))
    if not options:
        return None
    first = min(options, key=lambda option: option[:2])
    *_, peer, there = first
    if there is None or len(options) == 1:
        return peer, there
    by_s = there.total_s + policy.alike_s
    alike = [each for *_, each, to in options if to is not None and not to.queue_s and to.total_s <= by_s]
    if len(alike) < 2:
        return peer, there
    chosen = spread(alike, revision_id, facts.session, rng)
    return chosen, next(to for *_, each, to in options if each is chosen)


def permitted(cluster_ids: Iterable[str], facts: RequestFacts, snapshot: Snapshot) -> Iterator[PeerFacts]:
    """Peers inside the residency that this request may still be sent to."""
    if facts.may_forward:
        for cluster_id in dict.fromkeys(cluster_ids):
            peer = snapshot.peers.get(cluster_id)
            if (
                peer is not None
                and peer.admits != "none"
                and is_inside(snapshot.residency, peer.jurisdiction)
                and cluster_id not in facts.tried
            ):
                yield peer


def has_ready(peer: PeerFacts, snapshot: Snapshot) -> bool:
    """Whether it said so: then they are full, and one that waits there waits less than for a start."""
    loads = peer.loads or {}
    return any(share.revision_id in loads and loads[share.revision_id].ready for share in snapshot.revisions)
