"""Who gets a request of several peers that are as good as one another, and whether one that returns gets it at all.

Sessions keep to their peer by rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit
rates", 1998), weighted by seats as -w / ln(h): when a peer is lost only its sessions move, each to where every
other gateway would send it too. What has no session goes at random, weighted by the seats that are free.
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from random import Random

from workloadplane.routing.regions import PeerFacts

_TO_ONE = 2.0**-64


def is_admitted(peer: PeerFacts, session: str | None, known_bytes: int, rng: Random) -> bool:
    """Whether a request may go to a peer that others could take. ``known_bytes``: of its prompt, in caches there.

    Of a peer with a share the same sessions are admitted each time, and more of them as the share grows.
    """
    if peer.admits == "all" and peer.share >= 1.0:
        return True
    if known_bytes and peer.admits == "sessions":
        return True
    if peer.admits != "all":
        return False
    return (rng.random() if session is None else _point(session, peer.cluster_id, "share")) < peer.share


def spread(peers: Sequence[PeerFacts], revision_id: str, session: str | None, rng: Random) -> PeerFacts:
    """One of these (at least one), which all have room for the revision."""
    if session is None:
        return rng.choices(peers, [_free_seats(peer, revision_id) for peer in peers])[0]
    return max(
        peers,
        key=lambda peer: -_seats(peer, revision_id) / log(_point(session, peer.cluster_id)),
    )


def _seats(peer: PeerFacts, revision_id: str) -> float:
    """What it computes side by side; where that is not known, one for each replica."""
    load = peer.loads.get(revision_id) if peer.loads else None
    return float(load.seats or load.ready or 1) if load is not None else 1.0


def _free_seats(peer: PeerFacts, revision_id: str) -> float:
    load = peer.loads.get(revision_id) if peer.loads else None
    taken = load.in_flight + load.waiting if load is not None else 0
    return max(1.0, _seats(peer, revision_id) - taken - peer.sent.get(revision_id, 0))


def _point(session: str, cluster_id: str, purpose: str = "") -> float:
    """Between 0 and 1, never either, and the same at every gateway."""
    named = f"{purpose}|{cluster_id}|{session}".encode()
    number = int.from_bytes(blake2b(named, digest_size=8).digest(), "big")
    return (number + 0.5) * _TO_ONE
