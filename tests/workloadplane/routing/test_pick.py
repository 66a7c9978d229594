"""Where a request goes: filters that never bend, then weight, load and distance."""

from dataclasses import replace
from random import Random
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.protocol.refusal import Refusal
from workloadplane.routing import (
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
    can_serve,
    pick,
)

HERE = "c-eu"


def snapshot(**changes: object) -> Snapshot:
    """Two ready replicas of one revision here, and two peers that hold it."""
    values: dict[str, object] = {
        "cluster_id": HERE,
        "jurisdiction": "eu",
        "residency": frozenset[str](),
        "residency_ingress": "forward",
        "posture": "active_active",
        "revisions": (RevisionShare("r1", 100, (HERE, "c-us", "c-jp")),),
        "replicas": (ReplicaFacts("a", "r1", True, 8.0), ReplicaFacts("b", "r1", True, 8.0)),
        "peers": {
            "c-us": PeerFacts("c-us", "us-east", "us", 80.0),
            "c-jp": PeerFacts("c-jp", "ap-northeast", "jp", 200.0),
        },
        "in_flight": {},
        "unavailable": (),
        "unready": (),
        "lease_holds": True,
        **changes,
    }
    return Snapshot(**values)  # type: ignore[arg-type]


def admitting(admits: str, *names: str) -> dict[str, PeerFacts]:
    """The two peers, of which these admit only so much."""
    peers = {"c-us": PeerFacts("c-us", "us-east", "us", 80.0), "c-jp": PeerFacts("c-jp", "jp", "jp", 200.0)}
    return {n: replace(each, admits=admits) if n in names else each for n, each in peers.items()}  # type: ignore[arg-type]


_ADMITTED: tuple[tuple[Literal["all", "sessions", "stranded", "none"], float], ...] = (
    ("all", 1.0),
    ("all", 0.25),
    ("sessions", 1.0),
    ("stranded", 1.0),
    ("none", 1.0),
)


def chosen(
    shot: Snapshot,
    *,
    session: str | None = None,
    may_forward: bool = True,
    tried: frozenset[str] = frozenset(),
    policy: Policy | None = None,
    seed: int = 0,
) -> Choice:
    return pick(RequestFacts(session, may_forward, tried), shot, policy or Policy(), Random(seed))


def test_the_least_loaded_replica_is_chosen_by_its_own_target() -> None:
    """Load counts against what a replica is meant for, not in absolute numbers."""
    small = ReplicaFacts("small", "r1", True, 2.0)
    large = ReplicaFacts("large", "r1", True, 16.0)
    choice = chosen(snapshot(replicas=(small, large), in_flight={"small": 2, "large": 8}))
    assert choice == ToReplica("large", reasons=("revision by weight", "least loaded of", 2))


def test_equals_are_told_apart_by_chance_within_the_slack() -> None:
    """Ties spread; a slack lets near-equals spread too, and only those."""
    tie = snapshot()
    assert {chosen(tie, seed=seed).replica_id for seed in range(30)} == {"a", "b"}  # type: ignore[union-attr]
    near = snapshot(in_flight={"a": 1})
    assert {chosen(near, seed=seed).replica_id for seed in range(30)} == {"b"}  # type: ignore[union-attr]
    slack = Policy(load_slack=0.125)
    picks = {chosen(near, seed=seed, policy=slack).replica_id for seed in range(30)}  # type: ignore[union-attr]
    assert picks == {"a", "b"}


def test_equals_are_told_apart_by_what_they_were_sent_lately() -> None:
    """Of equals without a session the one that was sent least; a session comes before that."""
    shot = snapshot(lately={"a": 100.0, "b": 3.0})
    assert {chosen(shot, seed=seed).replica_id for seed in range(9)} == {"b"}  # type: ignore[union-attr]
    by_session = {chosen(shot, session=f"s{n}").replica_id for n in range(30)}  # type: ignore[union-attr]
    assert by_session == {"a", "b"}


def test_who_was_sent_more_than_its_share_weighs_more() -> None:
    """A short beginning that one replica knows is left for balance over time; a long one, and little sent, is not."""
    often = {"a": 50_000.0, "b": 25_000.0}
    for known_bytes, lately, expected in (
        (2048, often, "b"),
        (16_384, often, "a"),
        (2048, {"a": 1100.0}, "a"),
    ):
        facts = RequestFacts(None, True, prompt_bytes=known_bytes + 512, known=((known_bytes, 1),))
        choice = pick(facts, snapshot(lately=lately), Policy(), Random(1))
        assert isinstance(choice, ToReplica)
        assert choice.replica_id == expected


def test_sessions_keep_their_revision_and_weights_hold() -> None:
    """A session always meets the same revision; over many sessions the shares are as weighed."""
    shot = snapshot(
        revisions=(RevisionShare("r1", 90, (HERE,)), RevisionShare("r2", 10, (HERE,))),
        replicas=(ReplicaFacts("old", "r1", True, 8.0), ReplicaFacts("new", "r2", True, 8.0)),
    )
    picks = [chosen(shot, session=f"s{number}", seed=number) for number in range(2000)]
    assert picks == [chosen(shot, session=f"s{number}", seed=number + 1) for number in range(2000)]
    new = sum(choice.replica_id == "new" for choice in picks)  # type: ignore[union-attr]
    assert 140 < new < 260
    by_chance = [chosen(shot, seed=seed).replica_id for seed in range(2000)]  # type: ignore[union-attr]
    assert 140 < by_chance.count("new") < 260


def test_order_of_fallbacks() -> None:
    """Peer by distance, other revision, unweighed revision, ejected replica, waiting, asking a peer to wait."""
    shot = snapshot(replicas=())
    nearest = ("nothing is known of any peer", "nearest by round trip")
    assert chosen(shot) == ToPeer(
        "c-us", may_hold=False, reasons=("revision by weight", "no replica here", *nearest), revision_id="r1"
    )
    assert isinstance(chosen(shot, tried=frozenset({"c-us"})), ToPeer)
    assert isinstance(chosen(snapshot(replicas=(), peers=admitting("stranded", "c-us", "c-jp"))), Wait)
    assert isinstance(chosen(snapshot(replicas=(), peers=admitting("none", "c-us", "c-jp"))), Wait)
    doubted = chosen(snapshot(replicas=(), peers=admitting("sessions", "c-us")))
    assert isinstance(doubted, ToPeer)
    assert doubted.cluster_id == "c-jp", "farther, and not in doubt"
    assert isinstance(chosen(snapshot(replicas=(), peers=admitting("sessions", "c-us", "c-jp"))), ToPeer)
    assert isinstance(chosen(snapshot(replicas=(), unready={"c-us", "c-jp"})), Wait)
    assert isinstance(chosen(shot, may_forward=False), Wait)

    two = (RevisionShare("r1", 100, (HERE,)), RevisionShare("r2", 1, (HERE,)))
    other = snapshot(revisions=two, replicas=(ReplicaFacts("b", "r2", True, 8.0),))
    assert chosen(other, session="s") == ToReplica(
        "b", reasons=("no other revision is ready", "the only one")
    ) or chosen(other, session="s") == ToReplica("b", reasons=("revision by weight", "the only one"))

    unweighed = snapshot(
        revisions=(RevisionShare("r2", 100, (HERE,)),), replicas=(ReplicaFacts("a", "r1", True, 8.0),)
    )
    assert isinstance(chosen(unweighed), ToReplica)

    alone = (RevisionShare("r1", 100, (HERE,)),)
    ejected = snapshot(revisions=alone, unavailable={"a", "b"})
    assert isinstance(chosen(ejected), ToReplica), "an ejected replica is better than none"
    assert isinstance(chosen(snapshot(unavailable={"a", "b"})), ToPeer), "but not better than a peer"

    elsewhere = (RevisionShare("r1", 100, ("c-us",)),)
    cold = snapshot(revisions=elsewhere, replicas=(), unready={"c-us"})
    assert chosen(cold) == ToPeer("c-us", may_hold=True, reasons=("no replica is ready anywhere", "nearest"))
    lost = chosen(snapshot(revisions=elsewhere, replicas=(), peers=admitting("stranded", "c-us")))
    assert isinstance(lost, ToPeer), "better than none"
    dead = chosen(snapshot(revisions=elsewhere, replicas=(), peers=admitting("none", "c-us")))
    assert isinstance(dead, Refusal), "not if it is ejected"
    nobody = chosen(snapshot(revisions=elsewhere, replicas=(), peers={}))
    assert isinstance(nobody, Refusal)
    assert nobody.rule == "no_replica"


def test_draining_and_tried_replicas_take_nothing_new() -> None:
    """A replica that drains, or has failed this request, is out whatever its load."""
    draining = snapshot(replicas=(ReplicaFacts("a", "r1", False, 8.0), ReplicaFacts("b", "r1", True, 8.0)))
    for seed in range(10):
        assert chosen(draining, seed=seed).replica_id == "b"  # type: ignore[union-attr]
        assert chosen(snapshot(), tried=frozenset({"b"}), seed=seed).replica_id == "a"  # type: ignore[union-attr]


def test_only_the_first_of_a_pair_serves() -> None:
    """In active_passive the standby sends everything to the serving region, though its replicas are warm."""
    pair = (RevisionShare("r1", 100, ("c-us", HERE)),)
    assert isinstance(chosen(snapshot(posture="active_passive", revisions=pair)), ToPeer)
    refused = chosen(snapshot(posture="active_passive", revisions=pair), may_forward=False)
    assert isinstance(refused, Refusal)
    serving = (RevisionShare("r1", 100, (HERE, "c-us")),)
    assert isinstance(chosen(snapshot(posture="active_passive", revisions=serving)), ToReplica)


def test_the_serving_region_of_a_pair_fails_closed_without_its_lease() -> None:
    """Not sure to be the one that serves, it refuses; the standby still only asks it; active_active goes on."""
    serving = (RevisionShare("r1", 100, (HERE, "c-us")),)
    refused = chosen(snapshot(posture="active_passive", revisions=serving, lease_holds=False))
    assert isinstance(refused, Refusal)
    assert refused.rule == "lease"
    standby = (RevisionShare("r1", 100, ("c-us", HERE)),)
    asked = chosen(snapshot(posture="active_passive", revisions=standby, lease_holds=False))
    assert isinstance(asked, ToPeer)
    assert asked.cluster_id == "c-us"
    assert isinstance(chosen(snapshot(lease_holds=False)), ToReplica)


def test_residency_at_the_door() -> None:
    """Outside its residency a gateway forwards or refuses, as told, and never serves."""
    outside = {"jurisdiction": "jp", "residency": frozenset({"us"})}
    assert isinstance(chosen(snapshot(**outside)), ToPeer)
    refused = chosen(snapshot(**outside, residency_ingress="refuse"))
    assert isinstance(refused, Refusal)
    assert refused.rule == "residency_ingress"
    second_hop = chosen(snapshot(**outside), may_forward=False)
    assert isinstance(second_hop, Refusal)
    assert second_hop.rule == "residency"
    assert can_serve(snapshot(**outside)) is None
    assert can_serve(snapshot(jurisdiction="", residency=frozenset({"us"}), residency_ingress="refuse"))


_IDS = ("c-eu", "c-us", "c-jp", "c-br")
_JURISDICTIONS = st.sampled_from(["eu", "us", "jp", ""])


_ADMITTING = st.sampled_from(
    [
        PeerFacts("", "", jurisdiction, 0.0, admits=admits, share=share)
        for jurisdiction in ("eu", "us", "jp", "")
        for admits, share in _ADMITTED
    ]
)


@st.composite
def _snapshots(draw: st.DrawFn) -> Snapshot:
    names = st.sampled_from(["r1", "r2", "r3"])
    return snapshot(
        jurisdiction=draw(_JURISDICTIONS),
        residency=frozenset(draw(st.sets(st.sampled_from(["eu", "us", "jp"])))),
        residency_ingress=draw(st.sampled_from(["forward", "refuse"])),
        posture=draw(st.sampled_from(["active_active", "active_passive"])),
        revisions=tuple(
            RevisionShare(
                name, draw(st.integers(0, 3)), tuple(draw(st.permutations(_IDS)))[: draw(st.integers(0, 4))]
            )
            for name in draw(st.lists(names, unique=True))
        ),
        replicas=tuple(
            ReplicaFacts(
                f"p{number}", draw(names), draw(st.booleans()), draw(st.sampled_from([0.0, 1.0, 8.0]))
            )
            for number in range(draw(st.integers(0, 4)))
        ),
        peers={
            name: replace(draw(_ADMITTING), cluster_id=name, rtt_ms=draw(st.floats(0, 300)))
            for name in draw(st.sets(st.sampled_from(_IDS[1:])))
        },
        in_flight=draw(st.dictionaries(st.sampled_from(["p0", "p1", "p2"]), st.integers(0, 20))),
        unavailable=draw(st.sets(st.sampled_from([*_IDS, "p0", "p1"]))),
        unready=draw(st.sets(st.sampled_from(_IDS))),
        lease_holds=draw(st.booleans()),
    )


@given(
    _snapshots(), st.none() | st.text(max_size=5), st.booleans(),
    st.frozensets(st.sampled_from([*_IDS, "p0", "p1"])), st.integers(0, 99),
)  # fmt: skip
def test_no_choice_breaks_a_rule(
    shot: Snapshot, session: str | None, may_forward: bool, tried: frozenset[str], seed: int
) -> None:
    """Whatever the world: residency holds (unknown means no), one serves of a pair, nothing tried twice."""

    def inside(jurisdiction: str) -> bool:
        return not shot.residency or (jurisdiction != "" and jurisdiction in shot.residency)

    choice = chosen(shot, session=session, may_forward=may_forward, tried=tried, seed=seed)
    assert choice == chosen(shot, session=session, may_forward=may_forward, tried=tried, seed=seed)
    serving = {
        name
        for share in shot.revisions
        for name in (share.cluster_ids[:1] if shot.posture == "active_passive" else share.cluster_ids)
    }
    if isinstance(choice, ToReplica):
        assert inside(shot.jurisdiction)
        assert choice.replica_id not in tried
        assert any(r.replica_id == choice.replica_id and r.ready for r in shot.replicas)
        assert shot.posture != "active_passive" or (HERE in serving and shot.lease_holds)
    elif isinstance(choice, ToPeer):
        assert may_forward
        assert choice.cluster_id in serving - tried
        assert inside(shot.peers[choice.cluster_id].jurisdiction)
        assert shot.peers[choice.cluster_id].admits != "none"
        assert choice.may_hold or choice.cluster_id not in shot.unready
        assert choice.may_hold or shot.peers[choice.cluster_id].admits != "stranded"
    elif isinstance(choice, Wait):
        assert inside(shot.jurisdiction)
        assert HERE in serving or (shot.posture == "active_passive" and not serving and may_forward)
    if not inside(shot.jurisdiction) and shot.residency_ingress == "refuse":
        assert isinstance(choice, Refusal)


def test_while_one_cluster_hands_over_to_another_clients_wait() -> None:
    """Where the content may lie, and not what another gateway has sent, which waits there; nobody, and nothing else."""
    moving = snapshot(posture="active_passive", revisions=(RevisionShare("r1", 100, ()),), replicas=())
    assert isinstance(chosen(moving), Wait)
    for refused in (
        chosen(moving, may_forward=False),
        chosen(replace(moving, residency=frozenset({"us"}))),
        chosen(replace(moving, posture="active_active")),
        chosen(replace(moving, revisions=())),
    ):
        assert isinstance(refused, Refusal)


def test_a_full_replica_takes_nothing_more() -> None:
    """What it computes side by side is the bound: then the other one, then a peer, then waiting; 0 is no bound."""
    full = ReplicaFacts("a", "r1", True, 8.0, max_in_flight=4)
    idle = ReplicaFacts("b", "r1", True, 0.5, max_in_flight=4)
    assert chosen(snapshot(replicas=(full, idle), in_flight={"a": 4, "b": 3})) == ToReplica(
        "b", reasons=("revision by weight", "the only one")
    )
    both = snapshot(replicas=(full, idle), in_flight={"a": 4, "b": 5})
    assert isinstance(chosen(both), ToPeer)
    waits = chosen(both, may_forward=False)
    assert isinstance(waits, Wait)
    assert waits.full
    assert waits.places == 0b11
    lost = chosen(replace(both, unavailable={"a"}), may_forward=False)
    assert isinstance(lost, Wait)
    assert lost.places == 0b10, "a seat at a replica that is avoided would help nobody"
    starting = chosen(snapshot(replicas=()), may_forward=False)
    assert isinstance(starting, Wait)
    assert not starting.full
    unbounded = ReplicaFacts("a", "r1", True, 8.0)
    assert isinstance(chosen(snapshot(replicas=(unbounded,), in_flight={"a": 10**6})), ToReplica)


def test_a_revision_that_does_not_take_what_is_asked_is_none() -> None:
    """Of old and new the one that sees gets the pictures, here, elsewhere or once it has started; all, if all do."""
    text, seeing = frozenset({"text"}), frozenset({"text", "image"})
    old = RevisionShare("r1", 99, (HERE,), text)
    new = RevisionShare("r2", 1, (HERE,), seeing)
    picture = RequestFacts(None, True, modalities=seeing)

    def asked(facts: RequestFacts, shot: Snapshot) -> Choice:
        return pick(facts, shot, Policy(), Random(1))

    a, b = ReplicaFacts("a", "r1", True, 8.0), ReplicaFacts("b", "r2", True, 8.0)
    both = snapshot(revisions=(old, new), replicas=(a, b))
    for _ in range(20):
        choice = asked(picture, both)
        assert isinstance(choice, ToReplica)
        assert choice.replica_id == "b"
    words = asked(RequestFacts("s", True, modalities=text), both)
    assert isinstance(words, ToReplica)
    assert isinstance(asked(picture, snapshot(revisions=(old, new), replicas=(a,))), Wait)
    away = RevisionShare("r2", 1, ("c-us",), seeing)
    there = asked(picture, snapshot(revisions=(old, away), replicas=(a,)))
    assert isinstance(there, ToPeer)
    assert there.cluster_id == "c-us"
    late = asked(picture, snapshot(revisions=(old, away), replicas=(a,), unready={"c-us"}))
    assert isinstance(late, ToPeer)
    assert late.may_hold

    for replicas in ((a,), ()):
        refused = asked(picture, snapshot(revisions=(old,), replicas=replicas))
        assert isinstance(refused, Refusal)
        assert (refused.rule, refused.value) == ("modality", "holds image")
        assert refused.remedy.endswith("this one takes text")

    untold = RevisionShare("r3", 1, (HERE,))
    guess = asked(
        picture, snapshot(revisions=(old, untold), replicas=(a, ReplicaFacts("c", "r3", True, 8.0)))
    )
    assert isinstance(guess, ToReplica)
    assert guess.replica_id == "c"
    newer = asked(
        picture, snapshot(revisions=(old, away), replicas=(ReplicaFacts("d", "r9", True, 8.0),), peers={})
    )
    assert isinstance(newer, ToReplica), "one that the table does not know yet is asked all the same"


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([1.0, 4.0, 8.0]), st.floats(0, 1e5), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.0, 0.25]),
)
def test_the_choice_is_the_cheapest_one_counted_one_by_one(
    replicas: list[tuple[int, float, float, bool]], load_slack: float
) -> None:
    """With nothing known: load, and what each was sent beyond the mean of those that may serve."""
    policy = Policy(load_slack=load_slack)
    names = [f"p{place}" for place in range(len(replicas))]
    lately = {name: sent for name, (*_, sent, _) in zip(names, replicas, strict=True) if sent}
    shot = snapshot(
        replicas=tuple(
            ReplicaFacts(name, "r1", ready, target)
            for name, (_, target, _, ready) in zip(names, replicas, strict=True)
        ),
        in_flight={name: count for name, (count, *_) in zip(names, replicas, strict=True)},
        lately=lately,
        peers={},
    )
    ready = [place for place, (*_, is_ready) in enumerate(replicas) if is_ready]
    choice = chosen(shot, policy=policy)
    if not ready:
        assert isinstance(choice, Wait)
        return
    mean = max(policy.balance_bytes, sum(replicas[place][2] for place in ready) / len(ready))
    costs = {
        names[place]: replicas[place][0] / replicas[place][1]
        + policy.balance * max(0.0, replicas[place][2] / mean - 1.0 - policy.balance_free)
        for place in ready
    }
    assert isinstance(choice, ToReplica)
    assert costs[choice.replica_id] <= min(costs.values()) + load_slack + 1e-9
