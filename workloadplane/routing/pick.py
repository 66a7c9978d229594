"""The choice itself: filters first, then the revision's share, then load and distance.

In order, for the revision that the request's session falls to, then for the others by weight: a ready
replica here, least loaded; a peer that holds the revision, nearest. After them what is only better than
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
    ReplicaFacts,
    RequestFacts,
    RevisionShare,
    Snapshot,
    ToPeer,
    ToReplica,
    Wait,
)

_FULL = ("every ready replica here has all the requests it can compute",)


def pick(facts: RequestFacts, snapshot: Snapshot, policy: Policy, rng: Random) -> Choice:
    """Where this request goes now. Deterministic for equal arguments and an equal state of ``rng``."""
    refusal = can_serve(snapshot, may_forward=facts.may_forward)
    if refusal is not None:
        return refusal
    if _lease_is_over(snapshot):
        return Refusal(
            rule="lease",
            subject="deployment",
            value="the control plane was not heard lately, so another region may be serving it",
            remedy="it is served again as soon as the control plane is heard",
        )
    shares = _shares_in_order(facts, snapshot, rng)
    candidates = _local_candidates(facts, snapshot)
    local = [r for r in candidates if not _is_full(r, snapshot)]
    sound = [replica for replica in local if replica.replica_id not in snapshot.unavailable]
    for rank, share in enumerate(shares):
        why = "revision by weight" if rank == 0 else "no other revision is ready"
        of_share = [replica for replica in sound if replica.revision_id == share.revision_id]
        if of_share:
            return _least_loaded(of_share, snapshot, policy, rng, why)
        peer = _nearest(_serving_clusters(snapshot, share), facts, snapshot)
        if peer is not None:
            return ToPeer(
                peer.cluster_id, may_hold=False, reasons=(why, "no replica here", "nearest by round trip")
            )
    if sound:
        return _least_loaded(sound, snapshot, policy, rng, "only a revision without weight is ready")
    if local:
        return _least_loaded(local, snapshot, policy, rng, "all replicas broke a connection lately")
    if candidates:
        return Wait(reasons=_FULL, full=True)
    return _wait_or_refuse(facts, snapshot)


def _is_full(replica: ReplicaFacts, snapshot: Snapshot) -> bool:
    return 0 < replica.max_in_flight <= snapshot.in_flight.get(replica.replica_id, 0)


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
    fenced = snapshot.posture == "active_passive" and not snapshot.lease_holds
    return fenced and snapshot.cluster_id in _holders(snapshot)


def _allowed(residency: frozenset[str], jurisdiction: str) -> bool:
    """Fails closed: an unknown jurisdiction is inside no residency."""
    return not residency or (jurisdiction != "" and jurisdiction in residency)


def _serving_clusters(snapshot: Snapshot, share: RevisionShare) -> tuple[str, ...]:
    """Of a pair of regions only the first serves; the other one waits for the control plane to put it first."""
    return share.cluster_ids[:1] if snapshot.posture == "active_passive" else share.cluster_ids


def _local_candidates(facts: RequestFacts, snapshot: Snapshot) -> list[ReplicaFacts]:
    """Replicas of this cluster that may serve the request."""
    if not _allowed(snapshot.residency, snapshot.jurisdiction):
        return []
    if snapshot.posture == "active_passive" and snapshot.cluster_id not in _holders(snapshot):
        return []
    return [r for r in snapshot.replicas if r.ready and r.replica_id not in facts.tried]


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


def _least_loaded(
    candidates: list[ReplicaFacts], snapshot: Snapshot, policy: Policy, rng: Random, why: str
) -> ToReplica:
    if len(candidates) == 1:
        return ToReplica(candidates[0].replica_id, reasons=(why, "the only one"))
    in_flight = snapshot.in_flight
    loads = [in_flight.get(r.replica_id, 0) / (r.concurrency_target or 1.0) for r in candidates]
    bar = min(loads) + policy.load_slack
    equal = [replica for replica, load in zip(candidates, loads, strict=True) if load <= bar]
    chosen = equal[0] if len(equal) == 1 else equal[rng.randrange(len(equal))]
    return ToReplica(chosen.replica_id, reasons=(why, f"least loaded of {len(candidates)}"))


def _nearest(
    cluster_ids: Iterable[str],
    facts: RequestFacts,
    snapshot: Snapshot,
    *,
    unready: bool = False,
    unavailable: bool = False,
) -> PeerFacts | None:
    """The nearest peer that may serve: a sound one, one that said it has none ready, or one that broke off."""
    if not facts.may_forward:
        return None
    best: PeerFacts | None = None
    for cluster_id in cluster_ids:
        peer = snapshot.peers.get(cluster_id)
        if peer is None or not _allowed(snapshot.residency, peer.jurisdiction):
            continue
        if cluster_id in facts.tried or (cluster_id in snapshot.unavailable) != unavailable:
            continue
        if not unavailable and (cluster_id in snapshot.unready) != unready:
            continue
        if best is None or (peer.rtt_ms, peer.cluster_id) < (best.rtt_ms, best.cluster_id):
            best = peer
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
