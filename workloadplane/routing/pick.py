"""The choice itself: filters first, then the revision's share, then ``scoring`` and distance.

In order, for the revision that the request's session falls to, then for the others by weight: a ready
replica here, the one that costs least; a peer that holds the revision, nearest. After them what is only better than
nothing: a ready replica of a revision that the table does not (yet) weigh, a replica that lately broke a
connection, waiting for one that is full or is to start here, asking a peer to wait for one, a peer that lately
broke off. Else a Refusal. A replica that has as many requests as it computes side by side takes no more: the rest
waits in the gateway, where the order is fair.
"""

from collections.abc import Iterable
from hashlib import blake2b
from random import Random

from workloadplane.protocol.refusal import Refusal
from workloadplane.routing.facts import (
    Choice,
    PeerFacts,
    Policy,
    RequestFacts,
    RevisionShare,
    Snapshot,
    ToPeer,
    Wait,
)
from workloadplane.routing.places import BYTES_PER_TOKEN_MAX, places_in
from workloadplane.routing.regions import rank as rank_of
from workloadplane.routing.scoring import best

_FULL = ("every ready replica here has all the requests it can compute",)


def pick(facts: RequestFacts, snapshot: Snapshot, policy: Policy, rng: Random) -> Choice:
    """Where this request goes now. Deterministic for equal arguments and an equal state of ``rng``."""
    if snapshot.residency:
        refusal = can_serve(snapshot, may_forward=facts.may_forward)
        if refusal is not None:
            return refusal
    if snapshot.posture == "active_passive" and _lease_is_over(snapshot):
        return Refusal(
            rule="lease",
            subject="deployment",
            value="the control plane was not heard lately, so another region may be serving it",
            remedy="it is served again as soon as the control plane is heard",
        )
    places = snapshot.places
    shares = _shares_in_order(facts, snapshot, rng)
    ready = _ready_here(facts, snapshot)
    candidates = _fitting(ready, facts, snapshot)
    if ready and not candidates:
        return _does_not_fit(facts, snapshot)
    counts = places.counts(snapshot.in_flight)
    local = candidates & ~places.full(counts)
    sound = local & ~places.bits_of(snapshot.unavailable) if snapshot.unavailable else local
    for rank, share in enumerate(shares):
        why = "revision by weight" if rank == 0 else "no other revision is ready"
        of_share = sound & places.of_revision.get(share.revision_id, 0)
        if of_share:
            return best(of_share, counts, facts, snapshot, policy, rng, why=why)
        peer = _nearest(_serving_clusters(snapshot, share), facts, snapshot, revision_id=share.revision_id)
        if peer is not None:
            known = "soonest by round trip and queue" if peer.loads else "nearest by round trip"
            return ToPeer(peer.cluster_id, may_hold=False, reasons=(why, "no replica here", known))
    if sound:
        return best(
            sound, counts, facts, snapshot, policy, rng, why="only a revision without weight is ready"
        )
    if local:
        return best(local, counts, facts, snapshot, policy, rng, why="all replicas broke a connection lately")
    if candidates:
        return Wait(reasons=_FULL, full=True)
    return _wait_or_refuse(facts, snapshot)


def can_serve(snapshot: Snapshot, *, may_forward: bool = True) -> Refusal | None:
    """Whether this gateway may take requests of the deployment at all; the Refusal says which rule forbids it."""
    if _allowed(snapshot.residency, snapshot.jurisdiction):
        return None
    here = snapshot.jurisdiction or "unknown"
    allowed = ", ".join(sorted(snapshot.residency))
    if not may_forward:
        return Refusal(
            rule="residency",
            subject="jurisdiction",
            value=here,
            remedy=f"requests of this deployment may be served only in: {allowed}",
        )
    if snapshot.residency_ingress == "refuse":
        return Refusal(
            rule="residency_ingress",
            subject="jurisdiction",
            value=here,
            remedy=f"call a gateway in: {allowed}",
        )
    return None


def _lease_is_over(snapshot: Snapshot) -> bool:
    """Of a pair of regions the serving one fails closed: two that serve would be worse than none."""
    return not snapshot.lease_holds and snapshot.cluster_id in _holders(snapshot)


def _allowed(residency: frozenset[str], jurisdiction: str) -> bool:
    """Fails closed: an unknown jurisdiction is inside no residency."""
    return not residency or (jurisdiction != "" and jurisdiction in residency)


def _serving_clusters(snapshot: Snapshot, share: RevisionShare) -> tuple[str, ...]:
    """Of a pair of regions only the first serves; the other one waits for the control plane to put it first."""
    return share.cluster_ids[:1] if snapshot.posture == "active_passive" else share.cluster_ids


def _ready_here(facts: RequestFacts, snapshot: Snapshot) -> int:
    """Replicas of this cluster, as bits, that are ready and allowed to serve the request."""
    if snapshot.residency and not _allowed(snapshot.residency, snapshot.jurisdiction):
        return 0
    if snapshot.posture == "active_passive" and snapshot.cluster_id not in _holders(snapshot):
        return 0
    places = snapshot.places
    ready = places.ready & ~places.bits_of(facts.tried) if facts.tried else places.ready
    return ready if facts.adapter is None else ready & places.of_adapter.get(facts.adapter, 0)


def _fitting(ready: int, facts: RequestFacts, snapshot: Snapshot) -> int:
    """Those of them whose context the prompt can fit and that take what it holds, as far as is known."""
    places = snapshot.places
    shortest = places.shortest_prompt_bytes_max
    if (shortest == 0 or facts.prompt_bytes <= shortest) and not facts.modalities:
        return ready
    fitting = ready
    for place in places_in(ready):
        longest, taken = places.prompt_bytes_max[place], places.modalities[place]
        too_long = 0 < longest < facts.prompt_bytes
        if too_long or (taken is not None and not facts.modalities <= taken):
            fitting ^= 1 << place
    return fitting


def _does_not_fit(facts: RequestFacts, snapshot: Snapshot) -> Refusal:
    """No replica here can serve it; those elsewhere are of the same revisions."""
    longest = max(snapshot.places.prompt_bytes_max)
    if 0 < longest < facts.prompt_bytes:
        return Refusal(
            rule="context_length",
            subject="prompt",
            value=f"{facts.prompt_bytes} bytes",
            remedy=f"the model takes {longest // BYTES_PER_TOKEN_MAX} tokens, prompt and answer together",
        )
    return Refusal(
        rule="modality",
        subject="prompt",
        value=f"holds {', '.join(sorted(facts.modalities))}",
        remedy="use a model that takes it",
    )


def _holders(snapshot: Snapshot) -> list[str]:
    """Clusters that the table has serve a revision with a share of the traffic; of any, if none has one."""
    weighed = [share for share in snapshot.revisions if share.weight > 0] or snapshot.revisions
    return [cluster_id for share in weighed for cluster_id in _serving_clusters(snapshot, share)]


def _shares_in_order(facts: RequestFacts, snapshot: Snapshot, rng: Random) -> list[RevisionShare]:
    """The share that the session falls to, then the others by falling weight; without weight, none."""
    shares = [share for share in snapshot.revisions if share.weight > 0]
    if len(shares) < 2:
        return shares
    total = sum(share.weight for share in shares)
    if facts.session is None:
        point = rng.randrange(total)
    else:
        point = int.from_bytes(blake2b(facts.session.encode(), digest_size=8).digest(), "big") % total
    for share in shares:
        if point < share.weight:
            chosen = share
            break
        point -= share.weight
    rest = sorted((share for share in shares if share is not chosen), key=lambda share: -share.weight)
    return [chosen, *rest]


def _nearest(
    cluster_ids: Iterable[str],
    facts: RequestFacts,
    snapshot: Snapshot,
    *,
    revision_id: str = "",
    unready: bool = False,
    unavailable: bool = False,
) -> PeerFacts | None:
    """The soonest peer that may serve: a sound one, one that has none ready, or one that broke off."""
    if not facts.may_forward:
        return None
    best: PeerFacts | None = None
    least: tuple[tuple[int, float], str] = ((0, 0.0), "")
    for cluster_id in cluster_ids:
        peer = snapshot.peers.get(cluster_id)
        if peer is None or not _allowed(snapshot.residency, peer.jurisdiction):
            continue
        if cluster_id in facts.tried or (cluster_id in snapshot.unavailable) != unavailable:
            continue
        if not unavailable and (cluster_id in snapshot.unready) != unready:
            continue
        order = (rank_of(peer.loads.get(revision_id), peer.rtt_ms), cluster_id)
        if best is None or order < least:
            best, least = peer, order
    return best


def _wait_or_refuse(facts: RequestFacts, snapshot: Snapshot) -> Choice:
    holders = _holders(snapshot)
    if snapshot.cluster_id in holders and _allowed(snapshot.residency, snapshot.jurisdiction):
        return Wait(reasons=("no replica is ready", "this cluster holds the deployment and may start one"))
    peer = _nearest(holders, facts, snapshot, unready=True)
    if peer is not None:
        return ToPeer(peer.cluster_id, may_hold=True, reasons=("no replica is ready anywhere", "nearest"))
    peer = _nearest(holders, facts, snapshot, unavailable=True)
    if peer is not None:
        return ToPeer(peer.cluster_id, may_hold=True, reasons=("all peers broke off lately", "nearest"))
    return Refusal(
        rule="no_replica",
        subject="deployment",
        value=f"held by {len(set(holders))} clusters, none of which can be asked",
        remedy="try again shortly",
    )
