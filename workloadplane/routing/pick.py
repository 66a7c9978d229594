"""The choice itself: filters first, then the revision's share, then ``scoring`` and distance.

A revision whose model does not take what the request holds (an image, say) is none for it. In order, for the
revision that the request's session falls to, then for the others by weight: a ready replica here, the one that costs
least; a peer that holds the revision, the one where the first token is expected soonest, and before the replicas here
if that is sooner by a margin (``regions``). After them what is only better than
nothing: a ready replica of a revision that the table does not (yet) weigh, a replica that lately broke a
connection, waiting for one that is full or is to start here, asking a peer to wait for one, a peer that is lost from
sight. Else a Refusal. A replica that has as many requests as it computes side by side takes no more: the rest
waits in the gateway, where the order is fair.

From clusters that are to get nothing for now a request stays away where another can serve it at once, and only then.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random

from workloadplane.protocol.refusal import Refusal
from workloadplane.routing.facts import (
    Choice,
    Policy,
    RequestFacts,
    RevisionShare,
    Snapshot,
    ToPeer,
    ToReplica,
    Wait,
)
from workloadplane.routing.leaving import Standing, has_ready, is_inside, permitted, sooner_abroad
from workloadplane.routing.places import BYTES_PER_TOKEN_MAX, Places, places_in
from workloadplane.routing.regions import computes_at_once
from workloadplane.routing.scoring import best
from workloadplane.words import counted

_KEPT_AWAY = "a part of the clusters is to get nothing for now"
_FULL = ("every ready replica here has all the requests it can compute",)


def pick(facts: RequestFacts, snapshot: Snapshot, policy: Policy, rng: Random) -> Choice:
    """Where this request goes now. Deterministic for equal arguments and an equal state of ``rng``."""
    if not snapshot.all_may_serve or snapshot.elsewhere is not None:
        settled = _barred(facts, snapshot) or _elsewhere(facts, snapshot, policy, rng)
        if settled is not None:
            return settled
    places, revisions = snapshot.places, snapshot.revisions
    ready = _ready_here(facts, snapshot)
    if not facts.modalities <= snapshot.taken_by_all:
        revisions = tuple(share for share in revisions if facts.modalities <= share.modalities)
        ready &= ~_refusing(facts, snapshot)
    shortest = places.shortest_prompt_bytes_max
    candidates = ready if facts.prompt_bytes <= shortest or not shortest else _fitting(ready, facts, places)
    if (ready and not candidates) or (snapshot.revisions and not revisions):
        return _does_not_fit(facts, snapshot) if revisions else _not_taken(facts, snapshot)
    shares = _shares_in_order(facts, revisions, rng)
    counts = places.counts(snapshot.in_flight)
    local = candidates & ~places.full(counts)
    sound = local & ~places.bits_of(snapshot.unavailable) if snapshot.unavailable else local
    may_leave = facts.may_forward and snapshot.peers
    for rank, share in enumerate(shares):
        why = "revision by weight" if rank == 0 else "no other revision is ready"
        of_revision = places.of_revision.get(share.revision_id, 0)
        of_share = sound & of_revision
        if may_leave and not (of_share and _is_at_once(share, facts, snapshot, policy)):
            stands = Standing(of_share, candidates & of_revision & ~local, why)
            clusters = _serving_clusters(snapshot, share)
            peer = sooner_abroad(
                clusters, share.revision_id, stands, facts, snapshot, policy=policy.regions, rng=rng
            )
            if peer is not None:
                return peer
        if of_share:
            return best(of_share, counts, facts, snapshot, policy, rng, why=why)
    if sound:
        return best(
            sound, counts, facts, snapshot, policy, rng, why="only a revision without weight is ready"
        )
    if local:
        return best(local, counts, facts, snapshot, policy, rng, why="all replicas broke a connection lately")
    if candidates:
        trusted = candidates & ~places.bits_of(snapshot.unavailable) if snapshot.unavailable else candidates
        return Wait(reasons=_FULL, full=True, places=trusted)
    return _wait_or_refuse(facts, snapshot, revisions)


def _elsewhere(facts: RequestFacts, snapshot: Snapshot, policy: Policy, rng: Random) -> Choice | None:
    """Who serves it at once where some clusters are to get nothing; None: there are none, or they have to."""
    if snapshot.elsewhere is None:
        return None
    others, peers = snapshot.elsewhere, snapshot.peers
    choice = pick(facts, others if others.peers is peers else replace(others, peers=peers), policy, rng)
    if isinstance(choice, ToPeer):
        is_at_once = not choice.may_hold and has_ready(peers[choice.cluster_id], snapshot)
        return replace(choice, reasons=(*choice.reasons, _KEPT_AWAY)) if is_at_once else None
    return choice if isinstance(choice, ToReplica) else None


def _barred(facts: RequestFacts, snapshot: Snapshot) -> Refusal | None:
    """Why this gateway may not take the request at all."""
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
    return None


def is_handed_over(snapshot: Snapshot) -> bool:
    """Whether one cluster hands a deployment over to another just now, and requests may wait here for that."""
    return (
        snapshot.posture == "active_passive"
        and bool(snapshot.revisions)
        and not any(share.cluster_ids for share in snapshot.revisions)
        and is_inside(snapshot.residency, snapshot.jurisdiction)
    )


def can_serve(snapshot: Snapshot, *, may_forward: bool = True) -> Refusal | None:
    """Whether this gateway may take requests of the deployment at all; the Refusal says which rule forbids it."""
    if is_inside(snapshot.residency, snapshot.jurisdiction):
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


def _serving_clusters(snapshot: Snapshot, share: RevisionShare) -> tuple[str, ...]:
    """Of a pair of regions only the first serves; the other one waits for the control plane to put it first."""
    return share.cluster_ids[:1] if snapshot.posture == "active_passive" else share.cluster_ids


def _ready_here(facts: RequestFacts, snapshot: Snapshot) -> int:
    """Replicas of this cluster, as bits, that are ready and allowed to serve the request."""
    if not snapshot.all_may_serve:
        if not is_inside(snapshot.residency, snapshot.jurisdiction):
            return 0
        if snapshot.posture == "active_passive" and snapshot.cluster_id not in _holders(snapshot):
            return 0
    places = snapshot.places
    ready = places.ready & ~places.bits_of(facts.tried) if facts.tried else places.ready
    return ready if facts.adapter is None else ready & places.of_adapter.get(facts.adapter, 0)


def _fitting(ready: int, facts: RequestFacts, places: Places) -> int:
    """Those of them whose context the prompt can fit, as far as is known."""
    fitting = ready
    for place in places_in(ready):
        if 0 < places.prompt_bytes_max[place] < facts.prompt_bytes:
            fitting ^= 1 << place
    return fitting


def _does_not_fit(facts: RequestFacts, snapshot: Snapshot) -> Refusal:
    """No replica here can serve it; those elsewhere are of the same revisions."""
    longest = max(snapshot.places.prompt_bytes_max)
    return Refusal(
        rule="context_length",
        subject="prompt",
        value=f"{counted(facts.prompt_bytes, 'byte')}",
        remedy=f"the model takes {longest // BYTES_PER_TOKEN_MAX} tokens, prompt and answer together",
    )


def _refusing(facts: RequestFacts, snapshot: Snapshot) -> int:
    """Replicas, as bits, of revisions whose model does not take all that the request holds."""
    bits = 0
    for share in snapshot.revisions:
        if not facts.modalities <= share.modalities:
            bits |= snapshot.places.of_revision.get(share.revision_id, 0)
    return bits


def _not_taken(facts: RequestFacts, snapshot: Snapshot) -> Refusal:
    """No revision's model takes what the request holds, so no waiting and no other region helps."""
    taken = frozenset[str]().union(*(share.modalities for share in snapshot.revisions))
    beyond = ", ".join(sorted(facts.modalities - taken or facts.modalities))
    return Refusal(
        rule="modality",
        subject="prompt",
        value=f"holds {beyond}",
        remedy=f"leave it out, or use a model that takes it; this one takes {', '.join(sorted(taken))}",
    )


def _holders(snapshot: Snapshot, revisions: Sequence[RevisionShare] | None = None) -> list[str]:
    """Clusters that the table has serve one of the revisions (of all, if none are given) with a share of the
    traffic; of any, if none has one.
    """
    among = snapshot.revisions if revisions is None else revisions
    weighed = [share for share in among if share.weight > 0] or among
    return [cluster_id for share in weighed for cluster_id in _serving_clusters(snapshot, share)]


def _shares_in_order(
    facts: RequestFacts, revisions: Sequence[RevisionShare], rng: Random
) -> Sequence[RevisionShare]:
    """The share that the session falls to, then the others by falling weight; without weight, none."""
    if len(revisions) == 1:
        return revisions if revisions[0].weight > 0 else ()
    shares = [share for share in revisions if share.weight > 0]
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


def _is_at_once(share: RevisionShare, facts: RequestFacts, snapshot: Snapshot, policy: Policy) -> bool:
    """Whether no region could be sooner than a free replica here: so it is with nearly every request."""
    here = snapshot.here.get(share.revision_id)
    return snapshot.posture == "active_passive" or computes_at_once(facts.prompt_bytes, here, policy.regions)


def _wait_or_refuse(facts: RequestFacts, snapshot: Snapshot, revisions: Sequence[RevisionShare]) -> Choice:
    holders = _holders(snapshot, revisions)
    if snapshot.cluster_id in holders and is_inside(snapshot.residency, snapshot.jurisdiction):
        return Wait(reasons=("no replica is ready", "this cluster holds the deployment and may start one"))
    if facts.may_forward and is_handed_over(snapshot):
        return Wait(reasons=("one cluster hands over to another", "who serves is known in a moment"))
    peers = sorted(permitted(holders, facts, snapshot), key=lambda peer: (peer.rtt_ms, peer.cluster_id))
    sound = [peer for peer in peers if peer.admits != "stranded"]
    if sound:
        able = next((peer for peer in sound if has_ready(peer, snapshot)), sound[0])
        return ToPeer(able.cluster_id, may_hold=True, reasons=("no replica is ready anywhere", "nearest"))
    if peers:
        return ToPeer(
            peers[0].cluster_id, may_hold=True, reasons=("all peers are lost from sight", "nearest")
        )
    return Refusal(
        rule="no_replica",
        subject="deployment",
        value=f"held by {counted(len(set(holders)), 'cluster')}, none of which can be asked",
        remedy="try again shortly",
    )
